//! What a plugin is given and held to. Checked values only; `settings` makes them.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// Settings of one plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Names it in policies, logs and metrics.
    pub name: String,
    /// JSON text for its `init`.
    pub config: String,
    /// Which program it runs in.
    pub role: Role,
    /// What the host lends it beside what every plugin has.
    pub grant: Grant,
    /// What it may use.
    pub limits: Limits,
    /// What follows when it fails.
    pub on_failure: OnFailure,
    /// How long an instance lives.
    pub isolation: Isolation,
    /// How often its tick hook is called, if it has one.
    pub tick: Duration,
}

impl Config {
    /// A plugin without configuration or grants, under the default limits.
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        Self {
            name: name.into(),
            config: "{}".to_owned(),
            role,
            grant: Grant::default(),
            limits: Limits::default(),
            on_failure: OnFailure::Deny,
            isolation: Isolation::Pool,
            tick: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// An application without grants, under the default limits: a fresh instance for each request.
    pub fn application(name: impl Into<String>, role: Role) -> Self {
        Self { isolation: Isolation::Exchange, ..Self::new(name, role) }
    }
}

/// The programs that load plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The public one.
    Proxy,
    /// The one beside the origin.
    Client,
}

/// What the host lends a plugin.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grant {
    /// A key-value store: the plugin's own bucket `default`.
    pub kv: bool,
    /// Buckets that it shares with other plugins, by name; `default` is no name for one.
    pub shared_kv: Vec<String>,
    /// Origins that it may send requests to (scheme, host and port; no path). A name may resolve to private addresses, but
    /// not to this machine, its link, or a cloud's metadata: those have to be named as addresses, or as `localhost`.
    pub http: Vec<http::Uri>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// Environment variables that it sees through WASI.
    pub env: BTreeMap<String, String>,
    /// Folders that it sees through WASI.
    pub folders: Vec<Folder>,
}

/// A folder of the host that a guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Where it lies.
    pub host: PathBuf,
    /// How the guest names it.
    pub guest: String,
    /// Whether the guest may change what is in it. Nothing bounds how much it writes.
    pub writable: bool,
}

/// What a plugin may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory of one instance, its tables included.
    pub memory: usize,
    /// Running time of one call. Waiting for the host isn't running.
    pub time: Duration,
    /// Longest that one call may take with its waiting.
    pub wait: Duration,
    /// Bytes of a body in mode `whole`, of a body that it makes, and of an answer to a request that it sends.
    pub body: usize,
    /// Bytes of a message of a WebSocket that it makes, and of all extra messages of one verdict together.
    pub message: usize,
    /// Bytes of state of one exchange.
    pub state: usize,
    /// Instances at once.
    pub instances: usize,
    /// Calls that wait for an instance; more fail.
    pub queue: usize,
    /// Calls after which an instance is retired, so that what leaks in a guest doesn't grow for ever.
    pub reuse: u32,
    /// Failures in a row after which the plugin isn't asked for a while.
    pub failures: u32,
    /// That while.
    pub pause: Duration,
    /// Log lines a second.
    pub log_lines: u32,
    /// Series of metrics.
    pub series: usize,
    /// Entries in its key-value bucket.
    pub kv_entries: usize,
    /// Bytes of keys and values in its key-value bucket.
    pub kv_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            time: Duration::from_millis(100),
            wait: Duration::from_secs(30),
            // As much as a request's body has by default.
            body: 500_000,
            // As much as a message has by default.
            message: 16 << 20,
            state: 64 << 10,
            // Two for each connection that a busy browser opens, times a few visitors: enough where calls take
            // microseconds, and at most 4 GiB where each takes all of its memory.
            instances: 64,
            queue: 1024,
            reuse: 100_000,
            failures: 20,
            pause: Duration::from_secs(5),
            log_lines: 100,
            series: 100,
            kv_entries: 100_000,
            kv_bytes: 64 << 20,
        }
    }
}

/// What follows when a plugin fails: it traps, passes a limit, returns a fault or gives back what isn't allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The exchange fails too.
    Deny,
    /// The exchange goes on without this plugin.
    Skip,
}

/// How long an instance lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// It serves one call after the other, of any exchange.
    Pool,
    /// Each exchange has an instance of its own, which is thrown away with it.
    Exchange,
}
