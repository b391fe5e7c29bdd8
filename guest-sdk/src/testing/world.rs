//! What stands behind the capabilities in a test.
//!
//! Owns the entries, secrets, answers and the clock of one fake host, and what the plugin logged and counted there.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use super::{Loaded, message::AnswerBuilder};
use crate::{
    Fault, Plugin,
    bindings::plugin::{http_client, log::Level, types::Answer},
    glue,
};

/// A line that the plugin logged.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// How important.
    pub level: Level,
    /// The words.
    pub message: String,
    /// The fields beside them.
    pub fields: BTreeMap<String, String>,
}

/// A number that the plugin counted or measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// A counter's sum, a gauge's last value, a histogram's sum.
    pub value: f64,
}

/// A request that the plugin sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its method.
    pub method: String,
    /// Its URL.
    pub url: String,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// A host for one test. Cloning gives another handle to the same one.
#[derive(Clone, Default)]
pub struct Host {
    pub(super) world: Rc<World>,
}

pub(super) struct World {
    /// Milliseconds since 1970.
    pub(super) now: Cell<u64>,
    pub(super) random: Cell<u64>,
    pub(super) kv_granted: Cell<bool>,
    /// By bucket and key.
    pub(super) entries: RefCell<BTreeMap<(String, String), Entry>>,
    pub(super) secrets: RefCell<BTreeMap<String, Vec<u8>>>,
    pub(super) answers: RefCell<BTreeMap<String, VecDeque<Result<Answer, http_client::Error>>>>,
    pub(super) calls: RefCell<Vec<Call>>,
    pub(super) lines: RefCell<Vec<Line>>,
    pub(super) metrics: RefCell<Vec<Metric>>,
}

/// A value, and when it ends.
type Entry = (Vec<u8>, Option<u64>);

impl Default for World {
    fn default() -> Self {
        Self {
            // A round number that isn't a special one: 2027-01-15 08:00 UTC.
            now: Cell::new(1_800_000_000_000),
            random: Cell::new(1),
            kv_granted: Cell::new(true),
            entries: RefCell::default(),
            secrets: RefCell::default(),
            answers: RefCell::default(),
            calls: RefCell::default(),
            lines: RefCell::default(),
            metrics: RefCell::default(),
        }
    }
}

thread_local! {
    /// The host of the hook that runs on this thread.
    static CURRENT: RefCell<Vec<Rc<World>>> = const { RefCell::new(Vec::new()) };
}

/// The host of the hook that is running.
pub(super) fn current() -> Rc<World> {
    CURRENT.with_borrow(|worlds| worlds.last().map(Rc::clone)).unwrap_or_else(|| {
        panic!(
            "a capability was used outside of a plugin's hook: call it through guest_sdk::testing::Host::run"
        )
    })
}

impl Host {
    /// With a clock that stands still, an empty kv, and no secrets; no URL answers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lends a secret.
    #[must_use]
    pub fn secret(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.world.secrets.borrow_mut().insert(name.to_owned(), value.as_ref().to_owned());
        self
    }

    /// Grants no kv.
    #[must_use]
    pub fn without_kv(self) -> Self {
        self.world.kv_granted.set(false);
        self
    }

    /// What a URL answers. Given several times, each is used once, in order, and the last one from then on. A URL that
    /// wasn't given fails the test.
    #[must_use]
    pub fn answers(self, url: &str, answer: AnswerBuilder) -> Self {
        self.answer_later(url, Ok(answer));
        self
    }

    /// A URL that can't be reached.
    #[must_use]
    pub fn fails(self, url: &str, error: crate::http_client::Error) -> Self {
        self.answer_later(url, Err(error));
        self
    }

    /// As [`answers`](Self::answers) and [`fails`](Self::fails), in the middle of a test.
    pub fn answer_later(&self, url: &str, answer: Result<AnswerBuilder, crate::http_client::Error>) {
        let answer = answer.map(AnswerBuilder::into_answer).map_err(Into::into);
        self.world.answers.borrow_mut().entry(url.to_owned()).or_default().push_back(answer);
    }

    /// Sets the clock, in seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn at(self, unix_seconds: u64) -> Self {
        self.world.now.set(unix_seconds * 1000);
        self
    }

    /// Lets time pass: entries of kv end.
    pub fn advance(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).expect("no test lasts that long");
        self.world.now.set(self.world.now.get() + millis);
    }

    /// Now, in seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn unix_seconds(&self) -> u64 {
        self.world.now.get() / 1000
    }

    /// Makes the plugin, with its configuration in TOML as an operator writes it.
    ///
    /// # Panics
    /// It doesn't take the configuration.
    #[track_caller]
    #[must_use]
    pub fn load<P: Plugin>(&self, config: &str) -> Loaded<P> {
        match self.try_load(config) {
            Ok(loaded) => loaded,
            Err(fault) => panic!("the plugin doesn't load: {fault}"),
        }
    }

    /// As [`load`](Self::load), for configurations that are wrong.
    ///
    /// # Errors
    /// The plugin doesn't take it.
    ///
    /// # Panics
    /// It isn't TOML.
    #[track_caller]
    pub fn try_load<P: Plugin>(&self, config: &str) -> Result<Loaded<P>, Fault> {
        let config: toml::Table =
            config.parse().unwrap_or_else(|error| panic!("the configuration is no TOML: {error}"));
        let json = serde_json::to_string(&config).expect("TOML without dates is JSON");
        let plugin = self.run(|| glue::new::<P>(&json))?;
        Ok(Loaded { plugin: Rc::new(plugin), host: self.clone() })
    }

    /// Runs something as if in a hook, so that it has the capabilities: to fill kv before, or to look into it afterwards.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Takes the host away again, also when the test panics inside.
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                CURRENT.with_borrow_mut(Vec::pop);
            }
        }
        CURRENT.with_borrow_mut(|worlds| worlds.push(Rc::clone(&self.world)));
        let _leave = Leave;
        work()
    }

    /// The lines that were logged so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.world.lines.borrow().clone()
    }

    /// The requests that were sent so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.world.calls.borrow().clone()
    }

    /// The value of a metric, 0 if there is none.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let metrics = self.world.metrics.borrow();
        metrics.iter().find(|m| m.name == name && m.labels == labels).map_or(0.0, |metric| metric.value)
    }
}
