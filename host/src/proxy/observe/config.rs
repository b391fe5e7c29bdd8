//! What an operator wants to see, and who may see it.

use std::{fmt, sync::Arc, sync::OnceLock};

use prometheus_client::registry::Registry;

use crate::{
    operator::{Open, Token},
    plugin,
    proxy::access::AccessLog,
    trace::Tracer,
};

/// Settings of what is observed.
#[derive(Clone)]
pub struct Observe {
    /// Where a line for each request goes.
    pub access_log: Option<AccessLog>,
    /// Where spans go, and whom to believe.
    pub traces: Option<Traces>,
    /// Tunnels that have series of their own in the metrics.
    pub metrics_per_tunnel: usize,
    /// Adds what others measure, under the names that they have.
    pub measured: Option<Measured>,
    /// What the admin listener's callers have to show.
    pub admin_token: Option<Token>,
    /// Doors of the admin listener that stand open without it.
    pub admin_open: Open,
    /// The host of plugins, once there is one.
    pub plugins: Arc<OnceLock<plugin::Host>>,
}

/// Adds metrics to a registry.
pub type Measured = Arc<dyn Fn(&mut Registry) + Send + Sync>;

/// Spans of exchanges.
#[derive(Clone)]
pub struct Traces {
    /// Makes them.
    pub tracer: Tracer,
    /// Whose word on what is recorded is taken.
    pub trust: Trust,
}

/// Whose word is taken on whether a trace that he began is recorded. Its id is continued whoever sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// Nobody's: the proxy decides by its own ratio.
    #[default]
    Nobody,
    /// That of trusted proxies.
    TrustedProxies,
    /// Every visitor's.
    Everybody,
}

impl Default for Observe {
    fn default() -> Self {
        Self {
            access_log: None,
            traces: None,
            metrics_per_tunnel: 0,
            measured: None,
            admin_token: None,
            admin_open: Open::ALL,
            plugins: Arc::default(),
        }
    }
}

impl fmt::Debug for Observe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observe")
    }
}
