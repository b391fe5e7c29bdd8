//! Exchanges by tunnel: only where the operator asks for it, and for so many tunnels as he says.
//!
//! Whoever may register chooses how many names there are, and each would be a series for ever.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::{Registry, Unit},
};

use crate::wire::TunnelName;

/// What all tunnels beyond the bound are called together.
const OTHER: &str = "other";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    tunnel: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Moved {
    tunnel: Arc<str>,
    direction: &'static str,
}

/// Numbers by tunnel.
#[derive(Clone)]
pub(in crate::proxy) struct Tunnels {
    most: usize,
    other: Arc<str>,
    /// Tunnels with series of their own: the first that had visitors.
    named: Arc<RwLock<HashSet<Arc<str>>>>,
    exchanges: Family<Of, Counter>,
    bytes: Family<Moved, Counter>,
}

impl Tunnels {
    /// Series for so many tunnels, and one for all others.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            other: OTHER.into(),
            named: Arc::default(),
            exchanges: Family::default(),
            bytes: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        if self.most == 0 {
            return;
        }
        let help = "Exchanges that a session answered, by tunnel; metrics_per_tunnel bounds how many have a name here";
        registry.register("by_tunnel_exchanges", help, self.exchanges.clone());
        let help = "Bytes of bodies and messages, in from visitors and out to them, by tunnel";
        registry.register_with_unit("by_tunnel", help, Unit::Bytes, self.bytes.clone());
    }

    /// An exchange of a tunnel that is known to exist has ended.
    pub(in crate::proxy) fn ended(&self, tunnel: &TunnelName, bytes_in: u64, bytes_out: u64) {
        if self.most == 0 {
            return;
        }
        let tunnel = self.label(&tunnel.to_string());
        self.exchanges.get_or_create(&Of { tunnel: Arc::clone(&tunnel) }).inc();
        for (direction, bytes) in [("in", bytes_in), ("out", bytes_out)] {
            self.bytes.get_or_create(&Moved { tunnel: Arc::clone(&tunnel), direction }).inc_by(bytes);
        }
    }

    fn label(&self, tunnel: &str) -> Arc<str> {
        if let Some(named) = self.named.read().unwrap_or_else(PoisonError::into_inner).get(tunnel) {
            return Arc::clone(named);
        }
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(named) = named.get(tunnel) {
            return Arc::clone(named);
        }
        if named.len() >= self.most {
            return Arc::clone(&self.other);
        }
        let tunnel: Arc<str> = tunnel.into();
        named.insert(Arc::clone(&tunnel));
        tunnel
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    fn name(letter: &str) -> TunnelName {
        (letter.repeat(51) + "a").parse().unwrap()
    }

    #[test]
    fn the_first_have_names_and_the_rest_is_one() {
        let tunnels = Tunnels::new(2);
        let mut registry = Registry::default();
        tunnels.register(&mut registry);
        for letter in ["b", "c", "d", "e", "b"] {
            tunnels.ended(&name(letter), 1, 2);
        }
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        for (tunnel, count) in
            [(name("b").to_string(), 2), (name("c").to_string(), 1), ("other".to_owned(), 2)]
        {
            let line = format!("by_tunnel_exchanges_total{{tunnel=\"{tunnel}\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        assert!(!text.contains(name("d").as_str()), "{text}");
        assert!(text.contains("by_tunnel_bytes_total{tunnel=\"other\",direction=\"out\"} 4\n"), "{text}");
    }
}
