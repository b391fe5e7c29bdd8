//! The provider's keys: fetched, kept in `kv` for all instances, and parsed once by each.

use std::{cell::RefCell, rc::Rc, time::Duration};

use guest_sdk::{Result, http_client, kv};
use serde::Deserialize;
use serde_json::Value;

use crate::{signature::Key, token::Token};

/// How long keys are good without having been fetched again.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// How often an unknown key may make us ask the provider: anybody can send tokens that name one.
const PAUSE: Duration = Duration::from_secs(30);

pub(crate) struct Keys {
    url: String,
    parsed: RefCell<Parsed>,
}

#[derive(Default, Clone)]
struct Parsed {
    document: Vec<u8>,
    keys: Rc<[Key]>,
}

/// A JWK set (RFC 7517).
#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl Keys {
    pub(crate) fn new(url: String) -> Self {
        Self { url, parsed: RefCell::default() }
    }

    /// The key that a token names, or the only one that fits if it names none.
    pub(crate) fn find(&self, token: &Token) -> Result<Option<Key>> {
        let bucket = kv::open()?;
        let document = match bucket.get(&self.url)? {
            Some(document) => document,
            None => self.fetch()?,
        };
        if let Some(key) = self.look_up(document, token)? {
            return Ok(Some(key));
        }
        // The provider may have begun to use a new one.
        if bucket.swap("asked", None, "", Some(PAUSE))? {
            self.look_up(self.fetch()?, token)
        } else {
            Ok(None)
        }
    }

    /// Fetches the keys and keeps them for all instances.
    pub(crate) fn fetch(&self) -> Result<Vec<u8>> {
        let answer = http_client::get(&self.url).header("accept", "application/json").send()?.ok()?;
        // What can't be read doesn't replace what could.
        let _: Document = answer.json()?;
        kv::open()?.set(&self.url, answer.body(), Some(KEEP))?;
        Ok(answer.body().to_owned())
    }

    fn look_up(&self, document: Vec<u8>, token: &Token) -> Result<Option<Key>> {
        if self.parsed.borrow().document != document {
            let Document { keys } = serde_json::from_slice(&document)?;
            // A provider may have kinds of keys that aren't known here.
            let keys = keys.into_iter().filter_map(|key| Key::read(&key)).collect();
            self.parsed.replace(Parsed { document, keys });
        }
        let keys = Rc::clone(&self.parsed.borrow().keys);
        let mut fitting = keys.iter().filter(|key| key.fits(&token.header));
        let first = fitting.next();
        let ambiguous = token.header.kid.is_none() && fitting.next().is_some();
        Ok(first.filter(|_| !ambiguous).cloned())
    }
}
