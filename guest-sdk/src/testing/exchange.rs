//! The request and the response that a hook reads, with the functions that wit-bindgen gives them.

use std::{cell::RefCell, collections::BTreeMap};

use super::message::{Headers, Sent};
use crate::bindings::plugin::types::{Role, TlsInfo};

#[derive(Clone)]
pub(crate) struct Request {
    pub(super) sent: Sent,
    pub(super) notes: RefCell<BTreeMap<String, String>>,
}

pub(crate) struct Response {
    pub(super) request: Request,
    pub(super) status: u16,
    pub(super) headers: Headers,
}

impl Request {
    pub(crate) fn id(&self) -> String {
        "0123456789abcdef".to_owned()
    }

    pub(crate) fn tunnel(&self) -> String {
        self.sent.tunnel.clone()
    }

    pub(crate) fn role(&self) -> Role {
        self.sent.role
    }

    pub(crate) fn visitor_address(&self) -> Option<String> {
        self.sent.visitor_address.map(|address| address.to_string())
    }

    pub(crate) fn visitor_tls(&self) -> Option<TlsInfo> {
        self.sent.visitor_tls.clone().map(|known| known.0)
    }

    pub(crate) fn method(&self) -> String {
        self.sent.method.clone()
    }

    pub(crate) fn scheme(&self) -> String {
        self.sent.scheme.clone()
    }

    pub(crate) fn authority(&self) -> String {
        self.sent.authority.clone()
    }

    pub(crate) fn path(&self) -> String {
        self.sent.path.clone()
    }

    pub(crate) fn is_websocket(&self) -> bool {
        self.sent.websocket
    }

    pub(crate) fn header(&self, name: &str) -> Vec<Vec<u8>> {
        self.sent.headers.all(name)
    }

    pub(crate) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.sent.headers.0.clone()
    }

    pub(crate) fn note(&self, name: &str) -> Option<String> {
        self.notes.borrow().get(name).cloned()
    }

    pub(crate) fn set_note(&self, name: &str, value: &str) -> Result<(), String> {
        let mut notes = self.notes.borrow_mut();
        if name.is_empty() || name.len() > 64 {
            return Err(format!("its name has {} bytes, not 1 to 64", name.len()));
        }
        if value.len() > 4096 {
            return Err(format!("its value has {} bytes, more than 4 KiB", value.len()));
        }
        if notes.len() == 32 && !notes.contains_key(name) {
            return Err("there are 32 notes already".to_owned());
        }
        let others = notes.iter().filter(|(other, _)| *other != name);
        let total: usize = others.map(|(name, value)| name.len() + value.len()).sum();
        if total + name.len() + value.len() > 16 * 1024 {
            return Err("all notes together would have more than 16 KiB".to_owned());
        }
        notes.insert(name.to_owned(), value.to_owned());
        Ok(())
    }
}

impl Response {
    pub(crate) fn request(&self) -> Request {
        self.request.clone()
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn header(&self, name: &str) -> Vec<Vec<u8>> {
        self.headers.all(name)
    }

    pub(crate) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.headers.0.clone()
    }
}
