//! What the host lends a guest, and nothing else: each capability is linked only when it is granted.

mod basic;
pub(super) mod kv;
mod link;

pub(super) use link::{VERSION, check, imports, linker};

use std::sync::Arc;

use crate::exchange::ExchangeId;

use super::config::{Config, Grant};

/// What one guest was lent, and on whose behalf it runs.
pub(super) struct Lent {
    /// The plugin's name.
    pub(super) plugin: Arc<str>,
    /// The hook that runs.
    pub(super) hook: &'static str,
    /// The exchange for which it runs.
    pub(super) exchange: Option<ExchangeId>,
    pub(super) grant: Arc<Grant>,
}

/// What all instances of one plugin are lent.
pub(super) struct Loan {
    plugin: Arc<str>,
    grant: Arc<Grant>,
}

impl Loan {
    pub(super) fn new(config: &Config) -> Self {
        Self { plugin: config.name.as_str().into(), grant: Arc::new(config.grant.clone()) }
    }

    /// For one instance.
    pub(super) fn lend(&self) -> Lent {
        Lent {
            plugin: Arc::clone(&self.plugin),
            hook: "init",
            exchange: None,
            grant: Arc::clone(&self.grant),
        }
    }
}
