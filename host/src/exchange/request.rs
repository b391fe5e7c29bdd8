//! A visitor's request on its way to the origin.

use http::{HeaderMap, Method, uri::PathAndQuery};

use super::{Body, Context};

/// A request: its head, its body and what this process knows about the exchange.
#[derive(Debug)]
pub struct Request {
    /// Method, target and headers.
    pub head: RequestHead,
    /// The body; always empty for [`RequestKind::WebSocket`].
    pub body: Body,
    /// Identity of the exchange and facts that are not part of the HTTP message.
    pub context: Context,
}

/// The head of a request, after hop-by-hop headers were taken off.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// Whether the visitor wants an HTTP answer or a WebSocket.
    pub kind: RequestKind,
    /// The method as sent; any token (RFC 9110 section 9.1).
    pub method: Method,
    /// How the visitor reached the proxy.
    pub scheme: Scheme,
    /// Host and optional port that the visitor named, as sent.
    pub authority: String,
    /// Path and query, byte for byte as sent: nothing is decoded or normalised. `*` for `OPTIONS *`.
    pub target: PathAndQuery,
    /// End-to-end headers, without `Host`. Values of one name keep their order.
    ///
    /// For [`RequestKind::WebSocket`] without `Connection`, `Upgrade` and `Sec-WebSocket-Key`, `-Version`,
    /// `-Extensions`, which belong to one hop each; `Sec-WebSocket-Protocol` is kept.
    pub headers: HeaderMap,
}

/// What kind of answer a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// A plain HTTP exchange.
    Http,
    /// An upgrade to WebSocket (RFC 6455 section 4).
    WebSocket,
}

/// The scheme by which the visitor reached the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http` (or `ws`).
    Http,
    /// `https` (or `wss`).
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}
