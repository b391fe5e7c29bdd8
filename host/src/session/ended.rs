//! Why a session ended.

use tokio_tungstenite::tungstenite::{self, error::CapacityError};

use super::mux::Violation;
use crate::{
    exchange::websocket,
    wire::{DecodeError, message::Refusal, v1::DocumentError},
};

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The peer closed the connection.
    #[error("the other side closed the connection")]
    ClosedByPeer,
    /// The peer closed the connection, and said why.
    #[error("the other side closed the connection: {0}")]
    ClosedBecause(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Messages of the peer got lost on the way.
    #[error("{0} messages of the other side were lost on the way")]
    Lost(u64),
    /// Nothing was heard from the peer for too long.
    #[error("nothing was heard from the other side for {0:?}")]
    Silent(std::time::Duration),
    /// The peer sent a frame that is larger than any message.
    #[error("the other side sent a message of more than {most} bytes")]
    TooLarge {
        /// Bytes allowed.
        most: usize,
    },
    /// The peer broke the rules of WebSocket.
    #[error("the other side broke the rules of WebSocket: {0}")]
    Framing(websocket::Violation),
    /// The peer sent what is no message.
    #[error("the other side sent what is no message: {0}")]
    Undecodable(DecodeError),
    /// The same, in the original's dialect.
    #[error("the other side sent what is no document: {0}")]
    NotADocument(DocumentError),
    /// The peer broke the protocol.
    #[error("the other side broke the protocol: {0}")]
    Violation(Violation),
    /// A further registration was refused; in the original's dialect only.
    #[error("a registration was refused: {0}")]
    Refused(String),
    /// The proxy has taken the registration back.
    #[error("{}", .0.text)]
    Dismissed(Refusal),
    /// This side ended it, with nothing under way or because it had to.
    #[error("it was ended here")]
    Local,
    /// The driver was dropped.
    #[error("it was dropped")]
    Dropped,
}

impl Ended {
    /// The reason in a stable word, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::ClosedByPeer | Self::ClosedBecause(_) => "closed-by-client",
            Self::Broken(_) => "connection-broke",
            Self::Lost(_) => "messages-lost",
            Self::Silent(_) => "silent",
            Self::TooLarge { .. } => "message-too-large",
            Self::Framing(_) | Self::Undecodable(_) | Self::NotADocument(_) | Self::Violation(_) => {
                "protocol-broken"
            }
            Self::Refused(_) => "refused",
            Self::Dismissed(_) => "revoked",
            Self::Local => "ended-here",
            Self::Dropped => "dropped",
        }
    }

    /// What a failure of the socket means.
    pub(super) fn broken(error: &tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => Self::ClosedByPeer,
            tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                Self::ClosedByPeer
            }
            tungstenite::Error::Capacity(CapacityError::MessageTooLong { max_size, .. }) => {
                Self::TooLarge { most: *max_size }
            }
            error => Self::Broken(error.to_string()),
        }
    }
}
