//! The public role: visitors come in, clients attach, and each exchange finds its tunnel.
//!
//! Owns the life of one node, from [`bind`] to the end of [`Proxy::run`]. Must not know how a session works inside.
//!
//! A node leaves in this order, so that nobody's exchange is cut short without need:
//! 1. it isn't ready any more (`/readyz`), and takes no new connections;
//! 2. clients are told to move (`drain`); visitors are let go, each with the next answer or after a moment without one;
//! 3. exchanges under way have the grace period to end, those of other nodes' visitors too;
//! 4. what is left is cancelled (`kill`), sessions with it;
//! 5. the node leaves the bus.

pub mod access;
mod admin;
pub mod admission;
mod answer;
mod attach;
pub mod config;
pub mod door;
mod grpc;
mod health;
mod http1;
mod http2;
mod interim;
mod limits;
mod linger;
mod metrics;
pub mod observe;
mod outgoing;
mod own;
mod pace;
mod page;
mod plain;
pub mod policy;
mod roster;
mod route;
pub mod strict;
mod unreadable;
mod upgrade;
mod visitor;

#[cfg(test)]
mod tests;

pub use admission::{Registration, RegistrationSwitch};
pub use config::{Config, Dialects, Limits, Rate};
pub use pace::Pace;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    admission::Admission,
    attach::Spent,
    door::{Busy, Crowd, TlsDoor, TlsError, TlsSettings},
    metrics::{Counted, Metrics},
    observe::Observed,
    pace::SlowVisitors,
    policy::{Base, PolicyStage, PolicySwitch},
    roster::Roster,
    route::Names,
    strict::BadRequests,
};
use crate::{
    bus::{Bus, MemoryBus, RedisBus},
    exchange::{ExchangeId, Forward},
    operator::Listener,
    session::v1,
    trace::{Hop, Onward},
    wire::{NodeId, TunnelName},
};

/// How long clients may take to move once no exchange is open here.
const MOVING: Duration = Duration::from_secs(3);

/// How long sessions may take for their last words once everything else is over.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Takes the address; visitors and clients may connect from now on, and are served once [`Proxy::run`] is called.
///
/// # Errors
/// The address can't be listened on.
pub async fn bind(config: Config) -> Result<Proxy, BindError> {
    let (listener, address) = listen("--listen", config.listen).await?;
    let admin = match config.admin {
        Some(admin) => Some(listen("--admin", admin).await?),
        None => None,
    };
    let no_tls = |error| BindError { flag: "--listen", address, source: io::Error::other(error) };
    let no_randomness = |error| BindError { flag: "--listen", address, source: io::Error::other(error) };
    let plain = match config.door.http {
        Some(http) => Some(listen("--http", http).await?),
        None => None,
    };
    let tls = config.door.tls.clone().map(TlsDoor::new).transpose().map_err(no_tls)?;
    let random = || getrandom::u64().map_err(no_randomness);
    let (base, node) = (random()?, NodeId(random()?));
    let bus = bus_of(&config, node).await;
    let shared = Arc::new(Shared::new(config, address, node, base, bus, tls));
    let admin = admin.map(|(listener, address)| admin::start(listener, address, &shared));
    Ok(Proxy { listener, address, plain, admin, shared })
}

/// The bus that the settings want. It may still be connecting; then only the node's own tunnels are reached for now.
async fn bus_of(config: &Config, node: NodeId) -> Arc<dyn Bus> {
    let limits = &config.limits;
    let Some(redis) = &config.redis else {
        return Arc::new(MemoryBus::new(limits.max_sessions_per_name));
    };
    let bus =
        RedisBus::start(redis.clone(), node, limits.max_sessions_per_name, limits.max_websocket_message);
    bus.connected().await;
    Arc::new(bus)
}

/// Where policies lead: the bus, with a span around each exchange if anything is traced.
fn to_sessions(config: &Config, bus: &Arc<dyn Bus>) -> Arc<dyn Forward> {
    let Some(traces) = &config.observe.traces else { return bus.clone() };
    let hop = Hop { name: "tunnel", server: None };
    Arc::new(Onward::new(traces.tracer.clone(), hop, bus.clone()))
}

async fn listen(flag: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |source| BindError { flag, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// An address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address} ({flag})")]
pub struct BindError {
    /// What names it.
    pub flag: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// A proxy that has its address.
pub struct Proxy {
    listener: TcpListener,
    address: SocketAddr,
    /// The listener for plain HTTP beside TLS.
    plain: Option<(TcpListener, SocketAddr)>,
    admin: Option<Listener>,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where an operator's programs ask for its health, with the real port.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// How it is reached from outside; no slash at the end.
    pub fn public_url(&self) -> String {
        self.shared.names.public_url()
    }

    /// Replaces the policies while the proxy runs.
    pub fn policies(&self) -> PolicySwitch {
        PolicySwitch(Arc::clone(&self.shared.pipeline))
    }

    /// Replaces the rules of registration while the proxy runs.
    pub fn registration(&self) -> RegistrationSwitch {
        let hostnames = self.shared.names.hostnames().clone();
        RegistrationSwitch { admission: Arc::clone(&self.shared.admission), hostnames }
    }

    /// Replaces certificates, and all else of TLS, while the proxy runs; nothing where it speaks none.
    pub fn tls(&self) -> Option<TlsSwitch> {
        self.shared.tls.clone().map(TlsSwitch)
    }

    /// Serves until `stop` is cancelled, then drains and returns; at most the grace period and eight seconds later.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, address, plain, admin, shared } = self;
        // Should this future be dropped half-way, nothing of it lives on.
        let _end = shared.kill.clone().drop_guard();
        let report = shared.config.report.clone();
        // Before anybody hears that it listens: the next thing may be a question whether it is ready.
        shared.serving.store(true, Ordering::Relaxed);
        let public_url = shared.names.public_url();
        let http = plain.as_ref().map(|(_, address)| *address);
        report(Event::Listening {
            address,
            public_url,
            http,
            admin: admin.as_ref().map(|admin| admin.address),
        });

        let leave = &shared.leave;
        let plainly = async {
            if let Some((listener, _)) = plain {
                door::accept(listener, door::Listener::Plain, &shared, leave).await;
            }
        };
        let accepting =
            async { tokio::join!(door::accept(listener, door::Listener::Main, &shared, leave), plainly) };
        tokio::select! {
            _ = accepting => {}
            () = async { stop.cancelled().await; leave.cancel(); std::future::pending().await } => {}
        }
        shared.bus.drain();
        shared.drain.cancel();
        report(Event::Draining { exchanges: shared.metrics.exchanges() });
        shared.visitors.close();
        shared.sessions.close();
        let under_way = async {
            shared.visitors.wait().await;
            // Clients leave by themselves as soon as they have found another node, or know that there is none. Until then
            // exchanges of other nodes' visitors come here.
            let _ = tokio::time::timeout(MOVING, shared.sessions.wait()).await;
            shared.bus.quiet().await;
        };
        let _ = tokio::time::timeout(shared.config.grace_period, under_way).await;
        shared.kill.cancel();
        shared.bus.cut_off();
        shared.visitors.wait().await;
        let last_words = async {
            shared.sessions.wait().await;
            // What visitors of other nodes had here ends with the sessions; they hear of it over the links.
            shared.bus.quiet().await;
        };
        let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
        shared.bus.leave().await;
        report(Event::Stopped);
        // It has answered to the end.
        drop(admin);
    }
}

/// Puts other certificates, and all else of TLS, in force.
#[derive(Clone)]
pub struct TlsSwitch(Arc<TlsDoor>);

impl TlsSwitch {
    /// New connections are met by these settings.
    ///
    /// # Errors
    /// TLS can't be spoken by them; what was in force stays.
    pub fn replace(&self, settings: TlsSettings) -> Result<(), TlsError> {
        self.0.replace(settings)
    }
}

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
    crowd: Arc<Crowd>,
    /// What the listener speaks TLS by, if it does.
    tls: Option<Arc<TlsDoor>>,
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
    serving: AtomicBool,
    ids: Ids,
}

impl Shared {
    fn new(
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
            ids: Ids { base: first_id, next: AtomicU64::new(0) },
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
    fn hsts(&self) -> Option<HeaderValue> {
        self.tls.as_ref().and_then(|tls| tls.in_force().settings.hsts.clone())
    }

    /// Whether a visitor has to have a certificate, and has none.
    fn lacks_certificate(&self, arrived: &door::Arrived) -> bool {
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
    shared: Arc<Shared>,
    observed: Arc<Observed>,
    _counted: Counted,
    /// The visitor's connection is in use; a WebSocket's too, which nobody else holds any more.
    _busy: Busy,
}

impl OpenExchange {
    fn new(shared: Arc<Shared>, observed: Arc<Observed>, busy: Busy) -> Self {
        Self { _counted: shared.metrics.exchange(), _busy: busy, shared, observed }
    }
}

/// Names for exchanges: unlike each other in one process, and in all likelihood between processes.
struct Ids {
    base: u64,
    next: AtomicU64,
}

impl Ids {
    /// Splitmix64 (Steele, Lea, Flood 2014): a bijection, so that a counter never gives the same id twice, and ids
    /// don't tell visitors how many others there are.
    fn next(&self) -> ExchangeId {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut mixed = self.base.wrapping_add(count.wrapping_mul(GOLDEN));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ExchangeId(mixed ^ (mixed >> 31))
    }
}

/// What an operator, or a program that started the proxy, wants to see.
#[derive(Debug, Clone)]
pub enum Event {
    /// The proxy takes connections.
    Listening {
        /// The address, with the real port.
        address: SocketAddr,
        /// How the proxy is reached from outside, e.g. `http://localhost:6519`.
        public_url: String,
        /// The address of the listener for plain HTTP beside TLS, if there is one.
        http: Option<SocketAddr>,
        /// The address of the admin listener, if there is one.
        admin: Option<SocketAddr>,
    },
    /// A client registered a session.
    Registered {
        /// Its name.
        tunnel: TunnelName,
        /// The URL that visitors use.
        public_url: String,
        /// The client's address.
        client: SocketAddr,
    },
    /// A session ended.
    Unregistered {
        /// Its name.
        tunnel: TunnelName,
        /// Why, in words.
        reason: String,
    },
    /// The proxy no longer takes visitors and waits for exchanges under way.
    Draining {
        /// Exchanges still open.
        exchanges: usize,
    },
    /// The proxy has ended.
    Stopped,
}
