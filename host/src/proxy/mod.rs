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
mod charset;
pub mod config;
mod cores;
pub mod door;
mod grpc;
mod health;
mod http1;
mod http2;
mod ids;
mod interim;
mod limits;
mod linger;
mod metrics;
mod network;
pub mod observe;
mod outgoing;
mod own;
mod pace;
mod page;
mod plain;
pub mod policy;
mod recall;
mod roster;
mod route;
mod shared;
pub mod strict;
mod unreadable;
mod upgrade;
mod visitor;

#[cfg(test)]
mod tests;

pub use admission::{Registration, RegistrationSwitch};
pub use config::{Config, Dialects, Limits, Rate};
pub use cores::Cores;
pub use pace::Pace;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{
    door::{TlsDoor, TlsError, TlsSettings},
    policy::PolicySwitch,
    shared::{OpenExchange, Shared},
};
use crate::{
    bus::{Bus, MemoryBus, RedisBus},
    operator::Listener,
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
