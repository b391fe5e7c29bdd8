//! The answer to a request, on its way back to the visitor.

use http::{HeaderMap, StatusCode};

use super::{Body, websocket::Duplex};

/// What comes back for a request.
#[derive(Debug)]
pub enum Answer {
    /// An HTTP response; also the refusal of an upgrade.
    Http(Response),
    /// The upgrade was accepted.
    WebSocket(Accepted),
}

/// A final HTTP response.
#[derive(Debug)]
pub struct Response {
    /// 200 to 599.
    pub status: StatusCode,
    /// End-to-end headers; values of one name keep their order.
    pub headers: HeaderMap,
    /// The body, with its trailers.
    pub body: Body,
}

/// An accepted upgrade: the origin has answered 101.
#[derive(Debug)]
pub struct Accepted {
    /// End-to-end headers of the 101, among them the subprotocol that the origin chose.
    pub headers: HeaderMap,
    /// The messages of the connection, seen from the visitor's side.
    pub duplex: Duplex,
}
