//! Numbers about one node, for whoever collects them.
//!
//! Owns the registry, and what the proxy itself counts. Others add theirs by [`Metrics::register`]. The labels of a metric have
//! few values, none of which a visitor or a client can choose. Must not know how the numbers are asked for.

mod sessions;
mod tunnels;
mod visitors;

pub(super) use sessions::Sessions;
pub(super) use tunnels::Tunnels;
pub(super) use visitors::{Visitors, protocol};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

use super::Event;
use crate::{
    exchange::ErrorKind,
    operator::Known,
    plugin::{self, Exported},
    wire::NodeId,
};

/// All of a node's numbers.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    /// Those whose names get no prefix, because others chose them.
    foreign: Mutex<Registry>,
    pub(super) visitors: Visitors,
    pub(super) clients: Sessions,
    pub(super) tunnels: Tunnels,
    sessions: Gauge,
    exchanges: Gauge,
    connections: Gauge,
    accepted: Counter,
    outcomes: Outcomes,
}

/// Exchanges by what came of them.
#[derive(Default)]
struct Outcomes {
    all: Family<Outcome, Counter>,
    known: Known<&'static str, Counter>,
}

impl Outcomes {
    fn count(&self, outcome: &'static str) {
        let find = || self.all.get_or_create_owned(&Outcome { outcome });
        self.known.with(outcome, find, |counter| counter.inc());
    }
}

/// What came of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    /// A class of statuses, `websocket`, or the code of an error.
    outcome: &'static str,
}

impl Metrics {
    /// Numbers of this node, for so many tunnels also by tunnel.
    pub(super) fn new(node: NodeId, per_tunnel: usize) -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("tunnel")),
            foreign: Mutex::default(),
            visitors: Visitors::new(),
            clients: Sessions::new(),
            tunnels: Tunnels::new(per_tunnel),
            sessions: Gauge::default(),
            exchanges: Gauge::default(),
            connections: Gauge::default(),
            accepted: Counter::default(),
            outcomes: Outcomes::default(),
        };
        metrics.register(|registry| {
            let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
            gauge("sessions_open", "Sessions of clients that are registered at this node", &metrics.sessions);
            gauge("exchanges_open", "Exchanges of this node's visitors that are under way", &metrics.exchanges);
            gauge(
                "connections_open",
                "Connections that speak HTTP; one that became a WebSocket is an exchange alone",
                &metrics.connections,
            );
            let help = "Exchanges of this node's visitors by what came of them: the answer's class, or an error's code";
            registry.register("exchanges", help, metrics.outcomes.all.clone());
            registry.register("connections", "Connections that were taken", metrics.accepted.clone());
            let build = [("version", env!("CARGO_PKG_VERSION").to_owned()), ("node", node.to_string())];
            registry.register("build", "The program, and this run of it", Info::new(build.to_vec()));
            metrics.visitors.register(registry);
            metrics.clients.register(registry);
            metrics.tunnels.register(registry);
        });
        metrics
    }

    /// Adds others' metrics; their names get the prefix `tunnel_`.
    pub(crate) fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry());
    }

    /// Adds others' metrics under the names that they have.
    pub(super) fn register_foreign(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut lock(&self.foreign));
    }

    /// Adds what plugins and their host measure.
    pub(super) fn register_plugins(&self, host: &plugin::Host) {
        self.register(|registry| host.register(registry));
        self.register_foreign(|registry| registry.register_collector(Box::new(Exported::of(host))));
    }

    /// All numbers as they stand, in the text format of OpenMetrics.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        text::encode_registry(&mut out, &self.registry())
            .and_then(|()| text::encode_registry(&mut out, &lock(&self.foreign)))
            .and_then(|()| text::encode_eof(&mut out))
            .expect("a String takes all that is written");
        out
    }

    /// A connection, until the guard is dropped.
    pub(super) fn connection(&self) -> Counted {
        self.accepted.inc();
        Counted::new(&self.connections)
    }

    /// An exchange that is under way, until the guard is dropped.
    pub(super) fn exchange(&self) -> Counted {
        Counted::new(&self.exchanges)
    }

    /// How many exchanges are under way.
    pub(super) fn exchanges(&self) -> usize {
        usize::try_from(self.exchanges.get()).unwrap_or(0)
    }

    /// How many connections are open.
    pub(super) fn connections(&self) -> usize {
        usize::try_from(self.connections.get()).unwrap_or(0)
    }

    /// Something that has to be told what came of an exchange.
    pub(super) fn outcome(&self) -> Untold<'_> {
        Untold(Some(&self.outcomes))
    }

    /// The same report, which the number of sessions is read from on its way.
    pub(super) fn watch(&self, report: Arc<dyn Fn(Event) + Send + Sync>) -> Arc<dyn Fn(Event) + Send + Sync> {
        let sessions = self.sessions.clone();
        Arc::new(move |event| {
            match event {
                Event::Registered { .. } => _ = sessions.inc(),
                Event::Unregistered { .. } => _ = sessions.dec(),
                _ => {}
            }
            report(event);
        })
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }
}

// A panic while the lock is held can't leave the registry half-changed: each change is one call.
fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of those that a gauge counts.
pub(super) struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// An exchange of which nobody has said yet what came of it. One that is dropped so was of no use any more: its visitor
/// hung up.
pub(super) struct Untold<'a>(Option<&'a Outcomes>);

impl Untold<'_> {
    /// There was an answer.
    pub(super) fn answered(self, status: StatusCode) {
        self.ended(match status.as_u16() {
            101 => "websocket",
            ..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        });
    }

    /// There was an error with this code.
    pub(super) fn failed(self, code: &'static str) {
        self.ended(code);
    }

    fn ended(mut self, outcome: &'static str) {
        if let Some(outcomes) = self.0.take() {
            outcomes.count(outcome);
        }
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        if let Some(outcomes) = self.0.take() {
            outcomes.count(ErrorKind::Cancelled.code());
        }
    }
}
