//! WebSocket messages on their way, as a duplex that every stage can look at.
//!
//! Owns the values and the plumbing between two ends; knows the framing of RFC 6455 but no handshake.

mod codec;
mod decode;
mod encode;
pub mod frames;
mod join;
mod mask;

#[cfg(test)]
mod tests;

pub use codec::{Role, over};
pub use decode::{Violation, may_be_sent};
pub use join::{Joined, Way, join, join_telling};

use std::{fmt, pin::Pin};

use bytes::Bytes;
use futures_util::{Sink, Stream, StreamExt};

use super::ForwardError;

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

impl Duplex {
    /// The same duplex, whose incoming side keeps something until it is dropped.
    #[must_use]
    pub fn keeping(self, kept: impl Send + 'static) -> Self {
        let incoming = self.incoming.map(move |event| {
            let _kept = &kept;
            event
        });
        Self { incoming: Box::pin(incoming), ..self }
    }
}

impl fmt::Debug for Duplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Duplex")
    }
}
