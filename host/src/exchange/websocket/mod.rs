//! WebSocket messages on their way, as a duplex that every stage can look at.
//!
//! Owns the values and the plumbing between two ends; knows the framing of RFC 6455 but no handshake.

use std::{fmt, pin::Pin};

use bytes::Bytes;
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol},
};

use super::{ErrorKind, ForwardError};

/// One thing that crosses a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole text message; valid UTF-8.
    Text(Bytes),
    /// A whole binary message.
    Binary(Bytes),
    /// A ping with its payload, at most 125 bytes. Whoever receives it at the far end answers, nobody on the way.
    Ping(Bytes),
    /// A pong with its payload, at most 125 bytes.
    Pong(Bytes),
    /// The end of this direction; nothing follows.
    Close(Close),
}

/// Why a direction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// A code of RFC 6455 section 7.4; [`Close::NONE`] when the frame had none, [`Close::ABNORMAL`] when there was
    /// no frame at all.
    pub code: u16,
    /// At most 123 bytes of UTF-8.
    pub reason: String,
}

impl Close {
    /// A close frame without a code; never sent as a number.
    pub const NONE: u16 = 1005;
    /// The connection broke off without a close frame; never sent as a number.
    pub const ABNORMAL: u16 = 1006;

    /// A close with a code and a reason.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// The connection broke off without a close frame.
    pub fn abnormal() -> Self {
        Self::new(Self::ABNORMAL, "")
    }
}

/// One end of a WebSocket: what comes from the far side, and the way to it.
///
/// `incoming` ends after [`Event::Close`]; ending without one means [`Close::ABNORMAL`]. `outgoing` takes one
/// `Close` as its last item. Dropping both breaks the connection off.
pub struct Duplex {
    /// Events from the far side, in order.
    pub incoming: Pin<Box<dyn Stream<Item = Event> + Send>>,
    /// Events to the far side, in order; its readiness is the backpressure.
    pub outgoing: Pin<Box<dyn Sink<Event, Error = ForwardError> + Send>>,
}

impl fmt::Debug for Duplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Duplex")
    }
}

/// Which side of the handshake this end of a connection is (RFC 6455 section 5.3: only clients mask).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The end that accepted the upgrade.
    Server,
    /// The end that asked for it.
    Client,
}

/// What passed through [`join`].
#[derive(Debug)]
pub struct Joined;

/// Speaks WebSocket over an upgraded connection. `max_message` is in bytes.
pub fn over<I>(io: I, role: Role, max_message: usize) -> Duplex
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let role = match role {
        Role::Server => protocol::Role::Server,
        Role::Client => protocol::Role::Client,
    };
    let config = protocol::WebSocketConfig::default().max_message_size(Some(max_message));
    let socket = WebSocketStream::from_raw_socket(io, role, Some(config)).now_or_never();
    let (outgoing, incoming) = socket.expect("nothing to wait for").split();
    let incoming = incoming.filter_map(async |message| match message.ok()? {
        Message::Text(text) => Some(Event::Text(text.into())),
        Message::Binary(bytes) => Some(Event::Binary(bytes)),
        Message::Ping(bytes) => Some(Event::Ping(bytes)),
        Message::Pong(bytes) => Some(Event::Pong(bytes)),
        Message::Close(frame) => Some(Event::Close(match frame {
            Some(frame) => Close::new(frame.code.into(), frame.reason.as_str()),
            None => Close::new(Close::NONE, ""),
        })),
        Message::Frame(_) => None,
    });
    let outgoing = outgoing
        .sink_map_err(|error| {
            ForwardError::new(ErrorKind::Cancelled, "the connection broke off").because(error)
        })
        .with(async |event| {
            Ok::<_, ForwardError>(match event {
                Event::Text(text) => Message::Text(text.try_into().expect("valid UTF-8")),
                Event::Binary(bytes) => Message::Binary(bytes),
                Event::Ping(bytes) => Message::Ping(bytes),
                Event::Pong(bytes) => Message::Pong(bytes),
                Event::Close(close) => Message::Close(Some(protocol::CloseFrame {
                    code: close.code.into(),
                    reason: close.reason.into(),
                })),
            })
        });
    Duplex { incoming: Box::pin(incoming), outgoing: Box::pin(outgoing) }
}

/// Pumps both directions until the WebSocket is over.
pub async fn join(near: Duplex, far: Duplex) -> Joined {
    let there = near.incoming.map(Ok).forward(far.outgoing);
    let back = far.incoming.map(Ok).forward(near.outgoing);
    let _ = futures_util::future::join(there, back).await;
    Joined
}
