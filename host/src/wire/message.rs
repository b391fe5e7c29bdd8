//! The messages of the tunnel protocol, version 2.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, uri::PathAndQuery};

use super::{NodeId, Notes, Tls, TunnelName};

/// Names an exchange within one session; never reused in it.
pub type ExchangeNumber = u64;

/// One unit on the wire: one CBOR map in one binary WebSocket frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// From the client, first on a connection: who it is.
    RegistrationRequest {
        /// Comes back in the response.
        id: u64,
        /// A COSE_Sign1, see [`registration`](super::registration).
        statement: Bytes,
    },
    /// From the proxy: registered, or why not. A refusal that comes later ends the session: the registration holds no more.
    RegistrationResponse {
        /// The id of the request.
        id: u64,
        /// What was registered.
        outcome: Result<Registered, Refusal>,
    },
    /// From the proxy: a visitor's request.
    HttpRequest(Box<RequestStart>),
    /// From the client: an interim (1xx) or the final response.
    HttpResponse(Box<ResponseStart>),
    /// From both: the next piece of a body.
    Body(BodyPart),
    /// From both: more bytes that the other side may send on this exchange.
    Credit {
        /// The exchange.
        id: ExchangeNumber,
        /// Bytes, added to what is left.
        bytes: u32,
    },
    /// From both: the exchange ends here, in both directions.
    Cancel {
        /// The exchange.
        id: ExchangeNumber,
        /// Why.
        code: CancelCode,
        /// Why, in a sentence that a visitor may read; empty when the code says it all.
        detail: String,
    },
    /// From the proxy: a visitor wants a WebSocket. Method GET, no body.
    WsRequest(Box<RequestStart>),
    /// From the client: 101 when the origin accepted, else the origin's refusal, which may have a body.
    WsResponse(Box<ResponseStart>),
    /// From both: a WebSocket message, or a piece of one.
    WsMessage(WsPart),
    /// From both: this direction of the WebSocket has ended.
    WsTeardown {
        /// The exchange.
        id: ExchangeNumber,
        /// RFC 6455 section 7.4; 1005 when there was no code, 1006 when there was no close frame.
        code: u16,
        /// At most 123 bytes.
        reason: String,
    },
    /// From both: is anybody there?
    Ping,
    /// From both: yes.
    Pong,
    /// From the client: a clean good-bye. No new exchanges; those under way may end.
    Disconnect,
    /// From the proxy: this node drains. Open a replacement, finish what is under way, close.
    GoAway {
        /// How long exchanges under way may take.
        grace: Duration,
    },
}

/// A registration that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The name of the key, or of the key's labelled session.
    pub name: TunnelName,
    /// `<name>.<domain>`.
    pub hostname: String,
    /// The URL that visitors use.
    pub public_url: String,
    /// Bytes of one body in either direction, if limited.
    pub max_body: Option<u64>,
    /// Bytes of one WebSocket message.
    pub max_websocket_message: u64,
    /// Exchanges open at once.
    pub max_exchanges: u64,
    /// The node that holds the session; older proxies don't say.
    pub node: Option<NodeId>,
}

/// A registration that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A stable code for programs, lower case with dashes.
    pub code: String,
    /// What was wrong and what to do.
    pub text: String,
    /// Whether the same client may succeed later without a change.
    pub retry: bool,
    /// How long it should wait before it tries again; whole seconds. What is `None` is left to the client.
    pub retry_after: Option<Duration>,
}

impl Message {
    /// Bytes of a body, or of a WebSocket message, that it carries.
    pub fn payload(&self) -> usize {
        match self {
            Self::HttpRequest(start) | Self::WsRequest(start) => start.body.len(),
            Self::HttpResponse(start) | Self::WsResponse(start) => start.body.len(),
            Self::Body(part) => part.data.len(),
            Self::WsMessage(part) => part.data.len(),
            _ => 0,
        }
    }
}

/// The head of a request, with its body's first piece.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestStart {
    /// Names the exchange in this session.
    pub id: ExchangeNumber,
    /// The tunnel that is asked for. Between nodes only: a session with a client has one.
    pub tunnel: Option<TunnelName>,
    /// Names the exchange in logs and error answers.
    pub exchange: u64,
    /// Any token.
    pub method: Method,
    /// Whether the visitor came by `https`.
    pub secure: bool,
    /// Host and port as the visitor sent them.
    pub authority: String,
    /// As the visitor sent it.
    pub target: PathAndQuery,
    /// In order, repeats kept.
    pub headers: HeaderMap,
    /// The visitor's address and port, if known.
    pub visitor: Option<String>,
    /// What is established of the visitor's TLS, if there was any.
    pub tls: Option<Arc<Tls>>,
    /// What plugins at the proxy left for those at the client.
    pub notes: Notes,
    /// The body or its first piece.
    pub body: Bytes,
    /// Whether this is the whole body.
    pub end: bool,
}

/// The head of a response, with its body's first piece.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseStart {
    /// The id of the request.
    pub id: ExchangeNumber,
    /// The status; 1xx is interim and has no body.
    pub status: StatusCode,
    /// In order, repeats kept.
    pub headers: HeaderMap,
    /// The body or its first piece.
    pub body: Bytes,
    /// Whether this is the whole body.
    pub end: bool,
}

impl ResponseStart {
    /// A status and no headers; more follows.
    pub fn bare(id: ExchangeNumber, status: StatusCode) -> Box<Self> {
        Box::new(Self { id, status, headers: HeaderMap::new(), body: Bytes::new(), end: false })
    }
}

/// A piece of a body.
#[derive(Debug, Clone, PartialEq)]
pub struct BodyPart {
    /// The exchange.
    pub id: ExchangeNumber,
    /// At most [`MAX_PART`](super::MAX_PART) bytes.
    pub data: Bytes,
    /// Whether this is the last piece.
    pub end: bool,
    /// With the last piece only.
    pub trailers: Option<HeaderMap>,
}

/// A WebSocket message or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WsPart {
    /// The exchange.
    pub id: ExchangeNumber,
    /// What it is a piece of; the same in all pieces of one message.
    pub kind: WsKind,
    /// At most [`MAX_PART`](super::MAX_PART) bytes.
    pub data: Bytes,
    /// Whether this is the message's last piece.
    pub end: bool,
}

/// The kinds of WebSocket messages that pass; the numbers are the opcodes of RFC 6455 section 5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WsKind {
    /// UTF-8 text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// At most 125 bytes, in one piece.
    Ping = 9,
    /// At most 125 bytes, in one piece.
    Pong = 10,
}

/// Why an exchange was cut off. The numbers are the protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelCode {
    /// Not needed any more: the visitor hung up, or the answer is complete without the rest of the request.
    Gone = 0,
    /// No response head in time.
    TimedOut = 1,
    /// The client couldn't connect to the origin.
    OriginUnreachable = 2,
    /// The origin broke off or sent what is not HTTP.
    OriginFailed = 3,
    /// The request's body is over a limit.
    RequestTooLarge = 4,
    /// The response's body is over a limit.
    ResponseTooLarge = 5,
    /// A plugin refused.
    Refused = 6,
    /// As many exchanges as allowed are open.
    TooManyExchanges = 7,
    /// The sender is shutting down.
    Draining = 8,
    /// The other side broke the rules of this exchange.
    ProtocolBroken = 9,
    /// Anything else; the sender's log knows.
    Failed = 10,
    /// A plugin failed, and its policy is to deny.
    PluginFailed = 11,
    /// A plugin has more to do than it may.
    PluginBusy = 12,
    /// Between nodes: no session of the tunnel is here, or none that takes the exchange; nothing of it was sent.
    NotHere = 13,
    /// Between nodes: as many exchanges as allowed are open on every session that is here; nothing of it was sent.
    Full = 14,
    /// Between nodes: the session ended while the exchange was under way.
    SessionGone = 15,
}

impl CancelCode {
    /// All codes, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Gone,
        Self::TimedOut,
        Self::OriginUnreachable,
        Self::OriginFailed,
        Self::RequestTooLarge,
        Self::ResponseTooLarge,
        Self::Refused,
        Self::TooManyExchanges,
        Self::Draining,
        Self::ProtocolBroken,
        Self::Failed,
        Self::PluginFailed,
        Self::PluginBusy,
        Self::NotHere,
        Self::Full,
        Self::SessionGone,
    ];

    /// The code of a number. One that this version doesn't know counts as [`Failed`](Self::Failed).
    pub fn from_number(number: u64) -> Self {
        usize::try_from(number).ok().and_then(|index| Self::ALL.get(index).copied()).unwrap_or(Self::Failed)
    }
}

/// Numbers of the message kinds: the value of key 0.
pub(super) mod kind {
    pub(crate) const REGISTRATION_REQUEST: u64 = 1;
    pub(crate) const REGISTRATION_RESPONSE: u64 = 2;
    pub(crate) const HTTP_REQUEST: u64 = 3;
    pub(crate) const HTTP_RESPONSE: u64 = 4;
    pub(crate) const BODY: u64 = 5;
    pub(crate) const CREDIT: u64 = 6;
    pub(crate) const CANCEL: u64 = 7;
    pub(crate) const WS_REQUEST: u64 = 8;
    pub(crate) const WS_RESPONSE: u64 = 9;
    pub(crate) const WS_MESSAGE: u64 = 10;
    pub(crate) const WS_TEARDOWN: u64 = 11;
    pub(crate) const PING: u64 = 12;
    pub(crate) const PONG: u64 = 13;
    pub(crate) const DISCONNECT: u64 = 14;
    pub(crate) const GO_AWAY: u64 = 15;
}

/// Map keys, one meaning each in all messages.
pub(super) mod key {
    pub(crate) const KIND: u64 = 0;
    pub(crate) const ID: u64 = 1;
    /// Request: the method. Response: the status. Credit: bytes. Cancel and teardown: the code. WebSocket message:
    /// the opcode. GoAway: the grace period in milliseconds.
    pub(crate) const VALUE: u64 = 2;
    /// A sentence or a reason.
    pub(crate) const TEXT: u64 = 3;
    pub(crate) const AUTHORITY: u64 = 4;
    pub(crate) const TARGET: u64 = 5;
    pub(crate) const HEADERS: u64 = 6;
    pub(crate) const DATA: u64 = 7;
    pub(crate) const END: u64 = 8;
    pub(crate) const VISITOR: u64 = 9;
    pub(crate) const EXCHANGE: u64 = 10;
    pub(crate) const TRAILERS: u64 = 11;
    pub(crate) const SECURE: u64 = 12;
    pub(crate) const STATEMENT: u64 = 13;
    pub(crate) const NAME: u64 = 14;
    pub(crate) const PUBLIC_URL: u64 = 15;
    pub(crate) const MAX_BODY: u64 = 16;
    pub(crate) const MAX_WEBSOCKET_MESSAGE: u64 = 17;
    pub(crate) const MAX_EXCHANGES: u64 = 18;
    pub(crate) const REFUSAL: u64 = 19;
    pub(crate) const RETRY: u64 = 20;
    pub(crate) const NOTES: u64 = 21;
    pub(crate) const NODE: u64 = 22;
    pub(crate) const TLS: u64 = 23;
    pub(crate) const RETRY_AFTER: u64 = 24;
}
