//! What the proxy needs to know before it starts. Checked values only; `settings` makes them.

use std::{net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use ipnet::IpNet;

use super::{Cores, Event, Pace, Registration, door::DoorSettings, observe::Observe, policy::Policy};
use crate::redis::Redis;

/// Settings of one proxy node.
#[derive(Clone)]
pub struct Config {
    /// Where visitors and clients connect. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// How connections come in there.
    pub door: DoorSettings,
    /// The domain under which tunnels get their hostnames, lower case, without a trailing dot.
    pub domain: String,
    /// How the proxy is reached from outside, e.g. `https://example.com`: scheme and authority, no path. By
    /// default `http://<domain>:<port>`, or `https` with TLS. Gives scheme and port of the public URLs of tunnels.
    pub public_url: Option<http::Uri>,
    /// Further origins by which clients may dial this proxy (scheme and authority), beside the public URL and the
    /// listening address. A registration made for any other is refused.
    pub also_known_as: Vec<http::Uri>,
    /// Who may register at the start, and under which names; replaced by [`Proxy::registration`](super::Proxy::registration).
    pub registration: Registration,
    /// Peers whose `X-Forwarded-For` and `-Proto` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Longest wait for a response's head.
    pub answer_timeout: Duration,
    /// How long a draining node waits for exchanges under way.
    pub grace_period: Duration,
    /// What clients may speak.
    pub dialects: Dialects,
    /// The bus over which several nodes share the work; `None` is the memory of a single one.
    pub redis: Option<Redis>,
    /// Where an operator's programs ask for the node's health. Not for visitors.
    pub admin: Option<SocketAddr>,
    /// The cores that work on it.
    pub cores: Cores,
    /// Bounds on what peers may use.
    pub limits: Limits,
    /// What holds for some tunnels and paths; the first that fits counts.
    pub policies: Vec<Policy>,
    /// What is logged, traced and measured, and who may see it.
    pub observe: Observe,
    /// Told of what an operator wants to see.
    pub report: Arc<dyn Fn(Event) + Send + Sync>,
}

/// What clients may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialects {
    /// The original's JSON documents.
    pub v1: bool,
    /// Ours.
    pub v2: bool,
}

impl Default for Dialects {
    fn default() -> Self {
        Self { v1: true, v2: true }
    }
}

/// Bounds on what visitors and clients may use. `None` lifts a bound.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of one request's body and of one response's body.
    pub max_body: Option<u64>,
    /// Headers of one message.
    pub max_headers: usize,
    /// Bytes of one message's head.
    pub max_header_bytes: usize,
    /// Bytes of one WebSocket message.
    pub max_websocket_message: usize,
    /// Exchanges open at once on one session.
    pub max_exchanges: usize,
    /// Sessions at once for one name.
    pub max_sessions_per_name: usize,
    /// Connected clients that haven't registered yet.
    pub max_unregistered: usize,
    /// How long a client may take to register.
    pub registration_timeout: Duration,
    /// How long a visitor may take to send a request's head, from its first byte.
    pub header_timeout: Duration,
    /// How long a connection may be unused between two requests.
    pub idle_timeout: Duration,
    /// Connections of visitors at once; some more are for clients alone.
    pub max_connections: usize,
    /// Of these from one address, or one network of 64 bits of IPv6. This machine's own programs and trusted proxies may have more.
    pub max_connections_per_address: usize,
    /// How slowly a visitor may send a body or read an answer.
    pub pace: Pace,
    /// The message limiter of each tunnel: requests, and WebSocket messages of visitors.
    pub rate: Option<Rate>,
    /// Silence after which a session is pinged; after twice as long it is dropped.
    pub ping_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // The promise of the protocol (docs/protocol.md, Limits).
            max_body: Some(500_000),
            // What hyper and most servers take; more is an attack or a mistake.
            max_headers: 100,
            // Apache and nginx stop at 8 KiB a line and 32 KiB in all; 64 KiB leaves room for large cookies.
            max_header_bytes: 64 * 1024,
            max_websocket_message: 16 * 1024 * 1024,
            // Times the window of 64 KiB: at most 256 MiB held for one session.
            max_exchanges: 4096,
            max_sessions_per_name: 16,
            max_unregistered: 1024,
            registration_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            // Longer than balancers keep connections, commonly 60 s, so that it is they who close.
            idle_timeout: Duration::from_secs(75),
            // With TLS each costs some 30 kB.
            max_connections: 20_000,
            // An office or a provider's customers behind one address; each browser opens six or so.
            max_connections_per_address: 1000,
            pace: Pace::default(),
            rate: Some(Rate::per_second(
                NonZeroU32::new(1000).expect("not zero"),
                NonZeroU32::new(2000).expect("not zero"),
            )),
            ping_after: Duration::from_secs(10),
        }
    }
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back in each period.
    pub tokens: NonZeroU32,
    /// The period; longer than no time.
    pub per: Duration,
    /// Tokens the bucket holds.
    pub burst: NonZeroU32,
}

impl Rate {
    /// So many tokens each second.
    pub fn per_second(tokens: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { tokens, per: Duration::from_secs(1), burst }
    }

    /// The period, as it follows a number: `a second`, `in 60s`.
    pub fn period(&self) -> String {
        if self.per == Duration::from_secs(1) { "a second".to_owned() } else { format!("in {:?}", self.per) }
    }
}
