//! What the bus counts.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// Counters of one node's bus, since its start.
#[derive(Debug, Default, Clone)]
pub(super) struct Metrics {
    /// Exchanges that were sent to another node.
    pub(super) forwarded: Counter,
    /// Exchanges of other nodes' visitors that were answered here.
    pub(super) answered: Counter,
    /// Rows that were looked up in Redis.
    pub(super) lookups: Counter,
    /// Envelopes that were published.
    pub(super) envelopes: Counter,
    /// Envelopes of other nodes that got lost, found by the gap that they left.
    pub(super) lost: Counter,
    /// Links that broke, with whatever was under way on them.
    pub(super) broken_links: Counter,
    /// Exchanges that were cut off by that.
    pub(super) broken_exchanges: Counter,
    /// Times that the connection to Redis was lost.
    pub(super) outages: Counter,
    /// 1 while the connection is there.
    pub(super) connected: Gauge,
}

impl Metrics {
    /// Puts them where they are read from.
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("bus");
        let mut add =
            |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        add("exchanges_forwarded", "Exchanges sent to another node", &self.forwarded);
        add("exchanges_answered", "Exchanges of other nodes answered here", &self.answered);
        add("lookups", "Rows looked up in Redis", &self.lookups);
        add("envelopes_published", "Envelopes published for other nodes", &self.envelopes);
        add("envelopes_lost", "Envelopes of other nodes that got lost on the way", &self.lost);
        add("links_broken", "Links to other nodes that broke", &self.broken_links);
        add("exchanges_broken", "Exchanges cut off because a link broke", &self.broken_exchanges);
        add("outages", "Times that the connection to Redis was lost", &self.outages);
        registry.register("connected", "1 while Redis is connected", self.connected.clone());
    }
}
