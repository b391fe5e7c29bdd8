//! What the host lends a guest, and nothing else: each capability is linked only when it is granted.
//!
//! Three lives: what the [`Stock`] holds outlives plugins, so that a plugin that is loaded again finds its entries and
//! series; a [`Loan`] is what the instances of one plugin share; [`Lent`] is one instance's.

mod basic;
mod http;
pub mod kv;
mod link;
mod log;
pub mod metrics;
mod wasi;

pub(super) use link::{VERSION, check, imports, linker};

use std::sync::Arc;

use wasmtime_wasi::WasiCtx;

use crate::exchange::ExchangeId;

use super::{
    bindings::tunnel::plugin::{http_client, types::Answer},
    config::{Config, Grant, Limits},
    error::{HookError, LoadError},
};

/// What the host keeps for all plugins.
pub(super) struct Stock {
    kv: Arc<dyn kv::Store>,
    metrics: metrics::Registry,
    http: http::Sender,
}

impl Stock {
    pub(super) fn new(kv: Option<Arc<dyn kv::Store>>) -> Self {
        let kv = kv.unwrap_or_else(|| Arc::new(kv::Memory::default()));
        Self { kv, metrics: metrics::Registry::default(), http: http::Sender::new() }
    }

    pub(super) fn metrics(&self) -> Vec<metrics::Series> {
        self.metrics.snapshot()
    }
}

/// What all instances of one plugin are lent.
pub(super) struct Loan {
    plugin: Arc<str>,
    grant: Grant,
    limits: Limits,
    lines: log::Lines,
    series: Arc<metrics::OfPlugin>,
    http: http::Allowed,
    stock: Arc<Stock>,
}

impl Loan {
    /// # Errors
    /// Something that it is granted isn't there.
    pub(super) fn new(config: &Config, stock: &Arc<Stock>) -> Result<Arc<Self>, LoadError> {
        let series = stock.metrics.of(&config.name);
        Ok(Arc::new(Self {
            plugin: config.name.as_str().into(),
            lines: log::Lines::new(config.limits.log_lines, Arc::clone(&series)),
            http: http::Allowed::new(&config.grant.http, &stock.http)?,
            grant: config.grant.clone(),
            limits: config.limits.clone(),
            series,
            stock: Arc::clone(stock),
        }))
    }

    /// For one instance.
    ///
    /// # Errors
    /// A folder that it is granted can't be opened.
    pub(super) fn lend(self: &Arc<Self>) -> Result<(Lent, WasiCtx), HookError> {
        let voice = Arc::new(log::Voice::new(Arc::clone(self)));
        let wasi = wasi::context(&self.grant, &voice)?;
        Ok((Lent { loan: Arc::clone(self), voice }, wasi))
    }
}

/// Requests of applications, which come by another interface.
impl Loan {
    /// Bytes of a body of either direction.
    pub(super) fn body_limit(&self) -> usize {
        self.limits.body
    }

    pub(super) async fn send(&self, request: http_client::Request) -> Result<Answer, http_client::Error> {
        self.http.send(request, self.body_limit()).await
    }
}

/// What one guest was lent.
pub(super) struct Lent {
    loan: Arc<Loan>,
    voice: Arc<log::Voice>,
}

impl Lent {
    /// A hook begins, on behalf of an exchange if there is one.
    pub(super) fn begin(&mut self, hook: &'static str, exchange: Option<ExchangeId>) {
        self.voice.speaks(hook, exchange);
    }
}
