//! What all parts of one node share, from its start to its end.
//!
//! Owns how the parts are put together. Must not know what any of them does.

use std::{
    net::SocketAddr,
    sync::{Arc, Once, atomic::AtomicBool},
    time::SystemTime,
};

use http::HeaderValue;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Config, LAST_WORDS,
    admission::Admission,
    attach::{self, Spent},
    door::{self, Busy, Crowd, TlsDoor},
    http2,
    ids::Ids,
    metrics::{Counted, Metrics},
    observe::Observed,
    pace::SlowVisitors,
    policy::{Base, PolicyStage},
    roster::Roster,
    route::Names,
    strict::BadRequests,
};
use crate::{
    bus::Bus,
    exchange::Forward,
    session::v1,
    trace::{Hop, Onward},
    wire::{NodeId, TunnelName},
};

/// What all parts of one node share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) names: Names,
    /// This run of the proxy.
    pub(crate) node: NodeId,
    /// The origins by which clients may dial this proxy.
    pub(crate) origins: Vec<http::Uri>,
    pub(crate) bus: Arc<dyn Bus>,
    /// Places for connections.
    pub(super) crowd: Arc<Crowd>,
    /// What the listener speaks TLS by, if it does.
    pub(super) tls: Option<Arc<TlsDoor>>,
    /// Every exchange goes in here.
    pub(crate) pipeline: Arc<PolicyStage>,
    /// Connections of visitors, and their WebSockets. A node drains until these are done.
    pub(crate) visitors: TaskTracker,
    /// Sessions of clients. They end when `kill` is cancelled, or before.
    pub(crate) sessions: TaskTracker,
    /// Cancelled when somebody wants the node to drain and end.
    pub(crate) leave: CancellationToken,
    /// Cancelled when the node begins to drain: clients have to move.
    pub(crate) drain: CancellationToken,
    /// Cancelled when what is left has to end at once.
    pub(crate) kill: CancellationToken,
    /// A permit for each connected client that hasn't registered yet.
    pub(crate) unregistered: Arc<Semaphore>,
    /// Who may register.
    pub(crate) admission: Arc<Admission>,
    /// Tokens of the original's dialect that have registered.
    pub(crate) spent: Spent,
    /// What that dialect couldn't carry.
    pub(crate) losses: v1::Losses,
    pub(crate) metrics: Metrics,
    /// What visitors sent that isn't HTTP.
    pub(crate) bad_requests: BadRequests,
    /// Visitors that were too slow.
    pub(crate) slow_visitors: SlowVisitors,
    /// What went wrong with connections by HTTP/2.
    pub(crate) http2: http2::Counts,
    pub(crate) roster: Arc<Roster>,
    pub(crate) since: SystemTime,
    plugins_counted: Once,
    /// It has begun to serve.
    pub(super) serving: AtomicBool,
    pub(super) ids: Ids,
}

impl Shared {
    pub(super) fn new(
        mut config: Config,
        address: SocketAddr,
        node: NodeId,
        first_id: u64,
        bus: Arc<dyn Bus>,
        tls: Option<TlsDoor>,
    ) -> Self {
        let metrics = Metrics::new(node, config.observe.metrics_per_tunnel);
        let losses = v1::Losses::default();
        let admission = Arc::new(Admission::new(config.registration.clone(), config.redis.as_ref()));
        let (bad_requests, slow_visitors) = (BadRequests::default(), SlowVisitors::default());
        let http2 = http2::Counts::default();
        metrics.register(|registry| {
            http2.register(registry);
            bus.register_metrics(registry);
            losses.register(registry);
            admission.register_metrics(registry);
            if let Some(tls) = &tls {
                tls.register(registry);
            }
            bad_requests.register(registry);
            slow_visitors.register(registry);
        });
        if let Some(measured) = &config.observe.measured {
            metrics.register_foreign(|registry| measured(registry));
        }
        let crowd = Crowd::new(config.limits.max_connections, config.limits.max_connections_per_address);
        metrics.register(|registry| crowd.register(registry));
        config.report = metrics.watch(config.report);
        let limits = &config.limits;
        let base = Base {
            domain: config.domain.clone(),
            max_body: limits.max_body,
            rate: limits.rate,
            redis: config.redis.clone(),
            answer_timeout: config.answer_timeout,
            next: to_sessions(&config, &bus),
        };
        let pipeline = PolicyStage::new(base, &config.policies);
        let names = Names::new(&config, address);
        Self {
            origins: attach::own_origins(&config, address, &names.public_url()),
            names,
            node,
            bus,
            crowd: Arc::new(crowd),
            tls: tls.map(Arc::new),
            pipeline: Arc::new(pipeline),
            visitors: TaskTracker::new(),
            sessions: TaskTracker::new(),
            drain: CancellationToken::new(),
            kill: CancellationToken::new(),
            unregistered: Arc::new(Semaphore::new(limits.max_unregistered)),
            leave: CancellationToken::new(),
            roster: Arc::new(Roster::new(metrics.clients.clone())),
            since: SystemTime::now(),
            plugins_counted: Once::new(),
            admission,
            spent: Spent::new(config.redis.clone()),
            losses,
            metrics,
            bad_requests,
            slow_visitors,
            http2,
            serving: AtomicBool::new(false),
            ids: Ids::from(first_id),
            config,
        }
    }

    /// All numbers as they stand. Those of plugins are there from the first of them on, which a changed settings file may bring.
    pub(crate) fn numbers(&self) -> String {
        if let Some(host) = self.config.observe.plugins.get() {
            self.plugins_counted.call_once(|| self.metrics.register_plugins(host));
        }
        self.metrics.text()
    }

    /// Waits until the node ends at once, and then for as long as visitors' WebSockets may take to be told: their
    /// far ends close with 1012 when the sessions end, and the links to other nodes.
    pub(crate) async fn killed_and_told(&self) {
        self.kill.cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    }

    /// What answers by TLS say of the next visit.
    pub(super) fn hsts(&self) -> Option<HeaderValue> {
        self.tls.as_ref().and_then(|tls| tls.in_force().settings.hsts.clone())
    }

    /// Whether a visitor has to have a certificate, and has none.
    pub(super) fn lacks_certificate(&self, arrived: &door::Arrived) -> bool {
        let required = |tls: &Arc<TlsDoor>| {
            tls.in_force().settings.visitors.as_ref().is_some_and(|visitors| visitors.required)
        };
        arrived.tls.as_ref().is_none_or(|tls| tls.client.is_none()) && self.tls.as_ref().is_some_and(required)
    }

    /// The URL by which visitors reach a tunnel; no slash at the end.
    pub(crate) fn public_url_of(&self, name: &TunnelName) -> String {
        self.names.public_url_of(name)
    }
}

/// An exchange that is under way until this is dropped.
pub(crate) struct OpenExchange {
    pub(super) shared: Arc<Shared>,
    pub(super) observed: Arc<Observed>,
    _counted: Counted,
    /// The visitor's connection is in use; a WebSocket's too, which nobody else holds any more.
    _busy: Busy,
}

impl OpenExchange {
    pub(super) fn new(shared: Arc<Shared>, observed: Arc<Observed>, busy: Busy) -> Self {
        Self { _counted: shared.metrics.exchange(), _busy: busy, shared, observed }
    }
}

/// Where policies lead: the bus, with a span around each exchange if anything is traced.
fn to_sessions(config: &Config, bus: &Arc<dyn Bus>) -> Arc<dyn Forward> {
    let Some(traces) = &config.observe.traces else { return bus.clone() };
    let hop = Hop { name: "tunnel", server: None };
    Arc::new(Onward::new(traces.tracer.clone(), hop, bus.clone()))
}
