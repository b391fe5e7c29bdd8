//! What the client needs to know before it starts. Checked values only; `settings` makes them.

use std::{sync::Arc, time::Duration};

use ed25519_dalek::SigningKey;
use http::{HeaderValue, uri::Authority};

use super::{Event, ProxyCa};
use crate::{exchange::Forward, wire::TunnelName};

/// Settings of one published target.
#[derive(Clone)]
pub struct Config {
    /// The proxy's URL: `http`, `https`, `ws` or `wss`; no path is needed.
    pub proxy: http::Uri,
    /// Who has to have signed its certificate, in the place of the system's authorities.
    pub proxy_ca: Option<ProxyCa>,
    /// The key that names the tunnel.
    pub key: SigningKey,
    /// A label that gives this session a name of its own.
    pub session: Option<String>,
    /// A chosen name in place of the key's.
    pub hostname: Option<TunnelName>,
    /// A secret that lets the key in at the proxy.
    pub invitation: Option<String>,
    /// Sessions held open at once, at different nodes where that can be had.
    pub connections: usize,
    /// What answers visitors: an [`Origin`](super::Origin), with whatever stands before it.
    pub pipeline: Arc<dyn Forward>,
    /// What users are told that it is.
    pub target: String,
    /// Bytes of one WebSocket message.
    pub max_websocket_message: usize,
    /// Silence after which the proxy is pinged; after twice as long the client reconnects.
    pub ping_after: Duration,
    /// Told of what a user wants to see.
    pub report: Arc<dyn Fn(Event) + Send + Sync>,
}

/// Settings of the service behind the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginConfig {
    /// `http` or `https`.
    pub scheme: http::uri::Scheme,
    /// Host and optional port. Nothing else is ever connected to, whatever a request says.
    pub authority: Authority,
    /// The `Host` that the origin sees.
    pub host_header: HostHeader,
    /// Accept any certificate of an `https` origin.
    pub insecure: bool,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// The version of HTTP that the origin is spoken to in.
    pub protocol: OriginProtocol,
}

/// The version of HTTP that the origin is spoken to in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OriginProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: over TLS as ALPN agrees, else by prior knowledge (RFC 9113 section 3.3).
    H2,
    /// Over TLS whichever of the two ALPN agrees on (RFC 7301), HTTP/2 first; else HTTP/1.1.
    Auto,
}

/// The `Host` header that the origin sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostHeader {
    /// As the visitor sent it.
    Keep,
    /// The origin's own authority.
    Origin,
    /// This value.
    Value(HeaderValue),
}
