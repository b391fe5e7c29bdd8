//! Loads plugins, and keeps those that haven't changed.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use super::wanted::Wanted;
use crate::{
    plugin::{Host, LoadError, Options, Plugin},
    settings::{SettingsError, document::Mistakes, report::Reporter},
};

/// After so long somebody who waits wants to know for what.
const PATIENCE: Duration = Duration::from_secs(1);

/// Loads plugins into one engine, which is started with the first of them.
pub struct Loader {
    cache: Option<PathBuf>,
    reporter: Reporter,
    host: Option<Host>,
    /// Those in force.
    kept: Pack,
}

/// Loaded plugins by name.
#[derive(Clone, Default)]
pub struct Pack(BTreeMap<String, Loaded>);

#[derive(Clone)]
struct Loaded {
    digest: [u8; 32],
    plugin: Arc<Plugin>,
}

impl Pack {
    /// The plugin of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Plugin>> {
        self.0.get(name).map(|loaded| &loaded.plugin)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of these are the very same in another pack.
    fn shared_with(&self, other: &Self) -> usize {
        let same = |name: &String, loaded: &Loaded| {
            other.get(name).is_some_and(|plugin| Arc::ptr_eq(plugin, &loaded.plugin))
        };
        self.0.iter().filter(|(name, loaded)| same(name, loaded)).count()
    }
}

impl Loader {
    /// A loader that keeps compiled plugins in `cache`, and tells whoever looks at a terminal when that takes long.
    pub fn new(cache: Option<PathBuf>, reporter: Reporter) -> Self {
        Self { cache, reporter, host: None, kept: Pack::default() }
    }

    /// Loads what is wanted, aside from what is in force; a plugin of the same bytes and settings is taken from there.
    pub async fn load(&mut self, wanted: &[Wanted], mistakes: &mut Mistakes) -> Pack {
        let mut pack = Pack::default();
        for wanted in wanted {
            let loaded = match self.kept.0.get(&wanted.config.name) {
                Some(kept) if kept.digest == wanted.digest && *kept.plugin.config() == wanted.config => {
                    Ok(Arc::clone(&kept.plugin))
                }
                _ => self.one(wanted).await,
            };
            match loaded {
                Ok(plugin) => {
                    let loaded = Loaded { digest: wanted.digest, plugin };
                    pack.0.insert(wanted.config.name.clone(), loaded);
                }
                Err(error) => mistakes.push(wanted.failed(&error)),
            }
        }
        pack
    }

    async fn one(&mut self, wanted: &Wanted) -> Result<Arc<Plugin>, LoadError> {
        let host = self.host()?;
        let mut loading = std::pin::pin!(host.load(&wanted.wasm, wanted.config.clone()));
        match tokio::time::timeout(PATIENCE, &mut loading).await {
            Ok(loaded) => loaded,
            Err(_) => {
                self.reporter.compiling(&wanted.file, self.cache.is_some());
                loading.await
            }
        }
    }

    fn host(&mut self) -> Result<Host, LoadError> {
        let host = match self.host.take() {
            Some(host) => host,
            None => Host::new(&Options { cache: self.cache.clone(), ..Options::default() })?,
        };
        Ok(self.host.insert(host).clone())
    }

    /// From now on these are in force. Says how many of them are new.
    pub fn keep(&mut self, pack: Pack) -> usize {
        let fresh = pack.len() - pack.shared_with(&self.kept);
        self.kept = pack;
        fresh
    }
}

/// A name that no plugin has.
pub fn unknown(name: &str, wanted: &[Wanted]) -> String {
    let known: Vec<&str> = wanted.iter().map(|wanted| wanted.config.name.as_str()).collect();
    match known.is_empty() {
        true => format!("there is no plugin {name:?}; add a [[plugin]] with name = {name:?}"),
        false => format!("there is no plugin {name:?}; there is {}", known.join(", ")),
    }
}

impl From<LoadError> for SettingsError {
    fn from(error: LoadError) -> Self {
        Self::Engine(error.to_string())
    }
}
