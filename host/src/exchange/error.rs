//! Why there is no answer: few kinds, whose fault each was, and whether trying again is safe.
//!
//! Every stage reports failure with [`ForwardError`]; one file of each role turns it into what its peer sees.

use std::{borrow::Cow, fmt, time::Duration};

use super::Request;

/// Who has to act so that the exchange can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The visitor's request.
    Visitor,
    /// The proxy, or the limits its operator set.
    Proxy,
    /// The client, or the connection between it and the proxy.
    Client,
    /// The service behind the client.
    Origin,
}

/// The kinds of failure. `code()` is what visitors see in `tunnel-error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request itself can't be served as sent.
    BadRequest,
    /// The request's body has a transfer coding other than chunked.
    UnknownCoding,
    /// Nobody ever registered this name here.
    NoSuchTunnel,
    /// The name is known, but no session is up.
    Offline,
    /// Only tunnels of this node can be reached, and this isn't one.
    BusAway,
    /// The session ended while the exchange was under way.
    TunnelGone,
    /// No response head in time.
    TimedOut,
    /// The client couldn't connect to the origin.
    OriginUnreachable,
    /// The origin broke off or sent what is not HTTP.
    OriginFailed,
    /// A plugin refused to forward the exchange.
    RefusedByPlugin,
    /// A plugin failed, and its policy is to deny.
    PluginFailed,
    /// A plugin has more to do than it may.
    PluginBusy,
    /// The other side of the session broke the tunnel protocol.
    PeerBrokeProtocol,
    /// The visitor stopped sending in the middle of the request.
    RequestTimedOut,
    /// The request's body is over the limit (bytes).
    RequestTooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// The request's head is over one of its limits.
    RequestHeadTooLarge,
    /// The response's body is over the limit (bytes).
    ResponseTooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// The tunnel's rate limit was passed.
    TooManyRequests {
        /// When a request will pass again.
        retry_after: Duration,
    },
    /// As many exchanges as allowed are open on every session of the tunnel.
    TooManyExchanges,
    /// This node is shutting down.
    Draining,
    /// The visitor, or whoever asked, went away or gave up.
    Cancelled,
}

impl ErrorKind {
    /// A stable code for programs, lower case with dashes.
    pub fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::UnknownCoding => "unknown-transfer-coding",
            Self::NoSuchTunnel => "no-such-tunnel",
            Self::Offline => "tunnel-offline",
            Self::BusAway => "bus-away",
            Self::TunnelGone => "tunnel-gone",
            Self::TimedOut => "timed-out",
            Self::OriginUnreachable => "origin-unreachable",
            Self::OriginFailed => "origin-failed",
            Self::RefusedByPlugin => "refused-by-plugin",
            Self::PluginFailed => "plugin-failed",
            Self::PluginBusy => "plugin-busy",
            Self::PeerBrokeProtocol => "protocol-broken",
            Self::RequestTimedOut => "request-timed-out",
            Self::RequestTooLarge { .. } => "request-too-large",
            Self::RequestHeadTooLarge => "request-head-too-large",
            Self::ResponseTooLarge { .. } => "response-too-large",
            Self::TooManyRequests { .. } => "too-many-requests",
            Self::TooManyExchanges => "too-many-exchanges",
            Self::Draining => "draining",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whose fault it was.
    pub fn blame(self) -> Blame {
        match self {
            Self::BadRequest | Self::NoSuchTunnel | Self::RequestTooLarge { .. } | Self::Cancelled => {
                Blame::Visitor
            }
            Self::TooManyRequests { .. }
            | Self::RefusedByPlugin
            | Self::RequestHeadTooLarge
            | Self::RequestTimedOut
            | Self::UnknownCoding => Blame::Visitor,
            Self::PluginFailed
            | Self::PluginBusy
            | Self::TooManyExchanges
            | Self::Draining
            | Self::BusAway => Blame::Proxy,
            Self::Offline | Self::TunnelGone | Self::PeerBrokeProtocol => Blame::Client,
            Self::TimedOut | Self::OriginUnreachable | Self::OriginFailed | Self::ResponseTooLarge { .. } => {
                Blame::Origin
            }
        }
    }
}

/// A failed exchange: the kind, a sentence that a visitor may read, and the private cause for the log.
pub struct ForwardError {
    kind: ErrorKind,
    detail: Cow<'static, str>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    unsent: Option<Box<Request>>,
}

impl ForwardError {
    /// An error with a public sentence: what happened, without a full stop, fit for a visitor's eyes.
    pub fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), cause: None, unsent: None }
    }

    /// Adds the private cause, for the log only.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Hands the request back, whole: no byte of it was ever sent, so that another session may take it.
    #[must_use]
    pub fn unsent(mut self, request: Request) -> Self {
        self.unsent = Some(Box::new(request));
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened, for the visitor.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The private cause, if there is one.
    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.cause.as_deref()
    }

    /// Takes back the request if it was provably never sent.
    pub fn take_unsent(&mut self) -> Option<Request> {
        self.unsent.take().map(|request| *request)
    }
}

impl fmt::Debug for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardError")
            .field("kind", &self.kind)
            .field("detail", &self.detail)
            .field("cause", &self.cause)
            .field("unsent", &self.unsent.is_some())
            .finish()
    }
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.code(), self.detail)
    }
}

impl std::error::Error for ForwardError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as &(dyn std::error::Error + 'static))
    }
}
