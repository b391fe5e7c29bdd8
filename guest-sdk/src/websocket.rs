//! What a hook says about a WebSocket and its messages.
//!
//! Owns the builders; knows nothing of frames.

use std::result;

use crate::{
    Fault,
    bindings::plugin::types::{self, WsAction, WsInterest},
};

/// One of the two ends of a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who called.
    Visitor,
    /// The service that answers.
    Origin,
}

/// One whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Message {
    /// The text of a text message.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes)
    }
}

/// Which messages of a connection the plugin wants to see. The others pass without a call.
#[derive(Debug)]
pub struct Accept<C = ()> {
    pub(crate) interest: WsInterest,
    pub(crate) connection: Option<C>,
}

impl<C> Accept<C> {
    /// None of them, until one of the following methods says so.
    #[must_use]
    pub fn nothing() -> Self {
        Self { interest: WsInterest::empty(), connection: None }
    }

    /// All of them.
    #[must_use]
    pub fn everything() -> Self {
        Self { interest: WsInterest::all(), connection: None }
    }

    /// Text from this side.
    #[must_use]
    pub fn text_from(mut self, side: Side) -> Self {
        self.interest |= match side {
            Side::Visitor => WsInterest::VISITOR_TEXT,
            Side::Origin => WsInterest::ORIGIN_TEXT,
        };
        self
    }

    /// Binary messages from this side.
    #[must_use]
    pub fn binary_from(mut self, side: Side) -> Self {
        self.interest |= match side {
            Side::Visitor => WsInterest::VISITOR_BINARY,
            Side::Origin => WsInterest::ORIGIN_BINARY,
        };
        self
    }

    /// What the hooks of this connection start with.
    #[must_use]
    pub fn connection(mut self, connection: C) -> Self {
        self.connection = Some(connection);
        self
    }
}

/// What becomes of a message.
#[derive(Debug)]
pub struct Relay {
    pub(crate) action: WsAction,
    pub(crate) send: Vec<(types::Side, types::WsMessage)>,
}

impl Relay {
    /// It goes on as it came.
    #[must_use]
    pub fn keep() -> Self {
        Self { action: WsAction::Keep, send: Vec::new() }
    }

    /// This one goes on instead.
    #[must_use]
    pub fn replace(message: impl Into<Message>) -> Self {
        Self { action: WsAction::Replace(message.into().into()), send: Vec::new() }
    }

    /// Nobody gets it.
    #[must_use]
    pub fn discard() -> Self {
        Self { action: WsAction::Discard, send: Vec::new() }
    }

    /// The connection is closed towards both sides, with a code of RFC 6455 section 7.4 and a reason of 123 bytes at most.
    pub fn close(code: u16, reason: impl Into<String>) -> Self {
        Self { action: WsAction::Close((code, reason.into())), send: Vec::new() }
    }

    /// One more message, to this side, after the one in hand. It doesn't come back to this plugin.
    #[must_use]
    pub fn send(mut self, to: Side, message: impl Into<Message>) -> Self {
        self.send.push((to.into(), message.into().into()));
        self
    }
}

impl From<Relay> for result::Result<Relay, Fault> {
    fn from(relay: Relay) -> Self {
        Ok(relay)
    }
}

impl<C> From<Accept<C>> for result::Result<Accept<C>, Fault> {
    fn from(accept: Accept<C>) -> Self {
        Ok(accept)
    }
}

impl From<Side> for types::Side {
    fn from(side: Side) -> Self {
        match side {
            Side::Visitor => Self::Visitor,
            Side::Origin => Self::Origin,
        }
    }
}

impl From<types::Side> for Side {
    fn from(side: types::Side) -> Self {
        match side {
            types::Side::Visitor => Self::Visitor,
            types::Side::Origin => Self::Origin,
        }
    }
}

impl From<Message> for types::WsMessage {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(text) => Self::Text(text),
            Message::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

impl From<types::WsMessage> for Message {
    fn from(message: types::WsMessage) -> Self {
        match message {
            types::WsMessage::Text(text) => Self::Text(text),
            types::WsMessage::Binary(bytes) => Self::Binary(bytes),
        }
    }
}
