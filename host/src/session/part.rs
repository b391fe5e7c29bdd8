//! What one side sends on an exchange after its head.

use bytes::Bytes;
use http::HeaderMap;

use crate::wire::{
    self, Message,
    message::{BodyPart, ExchangeNumber, WsKind, WsPart},
};

/// A piece of a body or of a WebSocket message, or the end of a direction.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A piece of a body.
    Body {
        /// At most [`wire::MAX_PART`] bytes.
        data: Bytes,
        /// The last one.
        end: bool,
        /// With the last one only.
        trailers: Option<Box<HeaderMap>>,
    },
    /// A piece of a WebSocket message.
    Ws {
        /// Its kind.
        kind: WsKind,
        /// At most [`wire::MAX_PART`] bytes.
        data: Bytes,
        /// The message's last piece.
        end: bool,
    },
    /// The end of a WebSocket's direction.
    Teardown {
        /// The close code.
        code: u16,
        /// The close reason.
        reason: String,
    },
}

impl Part {
    /// What the part costs, in bytes of credit.
    pub fn cost(&self) -> u32 {
        match self {
            Self::Body { data, .. } | Self::Ws { data, .. } => wire::cost(data.len()),
            Self::Teardown { .. } => 0,
        }
    }

    /// Bytes of a body or of a WebSocket message in it.
    pub(super) fn length(&self) -> Option<usize> {
        match self {
            Self::Body { data, .. } | Self::Ws { data, .. } => Some(data.len()),
            Self::Teardown { .. } => None,
        }
    }

    /// What the part takes up in the driver's queue. A teardown takes no credit, but whoever sent it waits for it as for all
    /// else.
    pub(super) fn weight(&self) -> u32 {
        self.cost().max(1)
    }

    /// Takes off a first piece that costs at most `credit`. A body or a message may be cut anywhere.
    pub(super) fn split(&mut self, credit: u64) -> Self {
        let at = usize::try_from(credit).unwrap_or(usize::MAX);
        match self {
            Self::Body { data, .. } => Self::Body { data: data.split_to(at), end: false, trailers: None },
            Self::Ws { kind, data, .. } => Self::Ws { kind: *kind, data: data.split_to(at), end: false },
            Self::Teardown { .. } => unreachable!("a teardown costs nothing"),
        }
    }

    pub(super) fn is_last(&self) -> bool {
        match self {
            Self::Body { end, .. } => *end,
            Self::Ws { .. } => false,
            Self::Teardown { .. } => true,
        }
    }

    pub(super) fn into_message(self, id: ExchangeNumber) -> Message {
        match self {
            Self::Body { data, end, trailers } => {
                Message::Body(BodyPart { id, data, end, trailers: trailers.map(|trailers| *trailers) })
            }
            Self::Ws { kind, data, end } => Message::WsMessage(WsPart { id, kind, data, end }),
            Self::Teardown { code, reason } => Message::WsTeardown { id, code, reason },
        }
    }
}
