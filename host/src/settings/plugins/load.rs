//! Loads plugins and applications, and keeps those that haven't changed.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::wanted::{Kind, Wanted};
use crate::{
    plugin::{Application, Config, Host, LoadError, Options, Plugin, kv},
    redis::Redis,
    settings::{document::Mistakes, report::Reporter},
};

/// After so long somebody who waits wants to know for what.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long applications may take at the end for what they do after their answers.
const LAST_WORK: Duration = Duration::from_secs(2);

/// Loads plugins and applications into one engine, which is started with the first of them.
pub struct Loader {
    cache: Option<PathBuf>,
    kv: Option<Arc<dyn kv::Store>>,
    reporter: Reporter,
    host: Arc<OnceLock<Host>>,
    /// Those in force.
    kept: Pack,
}

/// What was loaded, by kind and name.
#[derive(Clone, Default)]
pub struct Pack(BTreeMap<(Kind, String), Loaded>);

#[derive(Clone)]
struct Loaded {
    digest: [u8; 32],
    stage: Stage,
}

#[derive(Clone)]
enum Stage {
    Plugin(Arc<Plugin>),
    Application(Arc<Application>),
}

impl Stage {
    fn config(&self) -> &Config {
        match self {
            Self::Plugin(plugin) => plugin.config(),
            Self::Application(application) => application.config(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plugin(own), Self::Plugin(other)) => Arc::ptr_eq(own, other),
            (Self::Application(own), Self::Application(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }
}

impl Pack {
    /// The plugin of this name.
    pub fn plugin(&self, name: &str) -> Option<&Arc<Plugin>> {
        match &self.0.get(&(Kind::Plugin, name.to_owned()))?.stage {
            Stage::Plugin(plugin) => Some(plugin),
            Stage::Application(_) => None,
        }
    }

    /// The application of this name.
    pub fn application(&self, name: &str) -> Option<&Arc<Application>> {
        match &self.0.get(&(Kind::Application, name.to_owned()))?.stage {
            Stage::Application(application) => Some(application),
            Stage::Plugin(_) => None,
        }
    }

    /// How many there are, of both kinds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of these are the very same in another pack.
    fn shared_with(&self, other: &Self) -> usize {
        let same =
            |name, loaded: &Loaded| other.0.get(name).is_some_and(|other| other.stage.is(&loaded.stage));
        self.0.iter().filter(|(name, loaded)| same(name, loaded)).count()
    }
}

impl Loader {
    /// A loader that keeps compiled plugins in `cache`, and tells whoever looks at a terminal when that takes long.
    pub fn new(cache: Option<PathBuf>, reporter: Reporter) -> Self {
        Self { cache, kv: None, reporter, host: Arc::default(), kept: Pack::default() }
    }

    /// Plugins keep their entries there, if there is one: all nodes see them. Over a connection of their own, because it
    /// is theirs to decide how much goes over it.
    #[must_use]
    pub fn sharing(self, redis: Option<&Redis>) -> Self {
        let store = redis.map(|redis| Arc::new(kv::RedisStore::new(redis.another())) as _);
        Self { kv: store, ..self }
    }

    /// Loads what is wanted, aside from what is in force; what has the same bytes and settings is taken from there.
    pub async fn load(&mut self, wanted: &[Wanted], mistakes: &mut Mistakes) -> Pack {
        let mut pack = Pack::default();
        for wanted in wanted {
            let name = (wanted.kind, wanted.config.name.clone());
            let loaded = match self.kept.0.get(&name) {
                Some(kept) if kept.digest == wanted.digest && *kept.stage.config() == wanted.config => {
                    Ok(kept.stage.clone())
                }
                _ => self.one(wanted).await,
            };
            match loaded {
                Ok(stage) => {
                    pack.0.insert(name, Loaded { digest: wanted.digest, stage });
                }
                Err(error) => mistakes.push(wanted.failed(&error)),
            }
        }
        pack
    }

    async fn one(&mut self, wanted: &Wanted) -> Result<Stage, LoadError> {
        let host = self.host()?;
        let mut loading = std::pin::pin!(load(&host, wanted));
        match tokio::time::timeout(PATIENCE, &mut loading).await {
            Ok(loaded) => loaded,
            Err(_) => {
                self.reporter.compiling(&wanted.file, self.cache.is_some());
                loading.await
            }
        }
    }

    fn host(&self) -> Result<Host, LoadError> {
        if let Some(host) = self.host.get() {
            return Ok(host.clone());
        }
        let host = Host::new(&Options { cache: self.cache.clone(), kv: self.kv.clone() })?;
        Ok(self.host.get_or_init(|| host).clone())
    }

    /// Where the engine will be once it is started.
    pub fn engine(&self) -> Arc<OnceLock<Host>> {
        Arc::clone(&self.host)
    }

    /// From now on these are in force. Says how many of them are new.
    pub fn keep(&mut self, pack: Pack) -> usize {
        let fresh = pack.len() - pack.shared_with(&self.kept);
        self.kept = pack;
        fresh
    }

    /// Waits for what applications still do after their last answers; not for long.
    pub async fn settled(&self) {
        let all = self.kept.0.values().filter_map(|loaded| match &loaded.stage {
            Stage::Application(application) => Some(application.settled()),
            Stage::Plugin(_) => None,
        });
        let _ = tokio::time::timeout(LAST_WORK, futures_util::future::join_all(all)).await;
    }
}

async fn load(host: &Host, wanted: &Wanted) -> Result<Stage, LoadError> {
    let config = wanted.config.clone();
    match wanted.kind {
        Kind::Plugin => host.load(&wanted.wasm, config).await.map(Stage::Plugin),
        Kind::Application => host.load_application(&wanted.wasm, config).await.map(Stage::Application),
    }
}

/// A name that no plugin has.
pub fn unknown(name: &str, wanted: &[Wanted]) -> String {
    let plugins = wanted.iter().filter(|wanted| wanted.kind == Kind::Plugin);
    let known: Vec<&str> = plugins.map(|wanted| wanted.config.name.as_str()).collect();
    match known.is_empty() {
        true => format!("there is no plugin {name:?}; add a [[plugin]] with name = {name:?}"),
        false => format!("there is no plugin {name:?}; there is {}", known.join(", ")),
    }
}
