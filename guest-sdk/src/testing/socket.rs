//! A WebSocket under test.

use super::{Loaded, exchange};
use crate::{
    Message, Plugin, Side,
    bindings::plugin::types::{self, WsAction, WsInterest},
    glue,
};

/// A connection that both sides have accepted.
pub struct Socket<P> {
    loaded: Loaded<P>,
    interest: WsInterest,
    state: Vec<u8>,
    closed: bool,
}

/// What came of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// What the visitor got.
    pub to_visitor: Vec<Message>,
    /// What the origin got.
    pub to_origin: Vec<Message>,
    /// Code and reason, if the plugin closed the connection.
    pub closed: Option<(u16, String)>,
}

impl<P: Plugin> Socket<P> {
    #[track_caller]
    pub(super) fn open(loaded: Loaded<P>, request: &exchange::Request, state: &[u8]) -> Self {
        if !P::HOOKS.websocket {
            return Self { loaded, interest: WsInterest::empty(), state: Vec::new(), closed: false };
        }
        match loaded.host.run(|| glue::on_open(&*loaded.plugin, request, state)) {
            Ok(accept) => Self { loaded, interest: accept.interest, state: accept.state, closed: false },
            Err(fault) => panic!("on_open fails: {fault}"),
        }
    }

    /// The visitor sends a message.
    #[track_caller]
    pub fn visitor_sends(&mut self, message: impl Into<Message>) -> Delivered {
        self.send(Side::Visitor, message.into())
    }

    /// The origin sends a message.
    #[track_caller]
    pub fn origin_sends(&mut self, message: impl Into<Message>) -> Delivered {
        self.send(Side::Origin, message.into())
    }

    /// The connection ends.
    ///
    /// # Panics
    /// It has ended already, or its state can't be read.
    #[track_caller]
    pub fn ends(mut self, by: Side, code: u16, reason: &str) {
        self.end(by, code, reason);
    }

    #[track_caller]
    fn send(&mut self, from: Side, message: Message) -> Delivered {
        assert!(!self.closed, "the plugin has closed this connection");
        let mut delivered = Delivered::default();
        if !self.interest.contains(kind(from, &message)) {
            delivered.add(opposite(from), message);
            return delivered;
        }
        let Loaded { plugin, host } = self.loaded.clone();
        let said = message.clone().into();
        let verdict = match host.run(|| glue::on_message(&*plugin, from.into(), said, &self.state)) {
            Ok(verdict) => verdict,
            Err(fault) => panic!("on_message fails: {fault}"),
        };
        if let Some(state) = verdict.state {
            self.state = state;
        }
        match verdict.action {
            WsAction::Keep => delivered.add(opposite(from), message),
            WsAction::Replace(other) => delivered.add(opposite(from), other.into()),
            WsAction::Discard => {}
            WsAction::Close((code, reason)) => {
                assert!(
                    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999),
                    "{code} is no close code to send"
                );
                assert!(reason.len() <= 123, "a close reason has 123 bytes at most: {reason:?}");
                delivered.closed = Some((code, reason));
            }
        }
        for (to, message) in verdict.send {
            delivered.add(to.into(), message.into());
        }
        if let Some((code, reason)) = &delivered.closed {
            self.end(Side::Visitor, *code, reason);
        }
        delivered
    }

    #[track_caller]
    fn end(&mut self, by: Side, code: u16, reason: &str) {
        assert!(!self.closed, "this connection has ended already");
        self.closed = true;
        if !P::HOOKS.websocket {
            return;
        }
        let Loaded { plugin, host } = &self.loaded;
        let done = host.run(|| glue::on_close(&**plugin, types::Side::from(by), code, reason, &self.state));
        if let Err(fault) = done {
            panic!("on_close fails: {fault}");
        }
    }
}

impl Delivered {
    fn add(&mut self, to: Side, message: Message) {
        match to {
            Side::Visitor => self.to_visitor.push(message),
            Side::Origin => self.to_origin.push(message),
        }
    }
}

fn opposite(side: Side) -> Side {
    match side {
        Side::Visitor => Side::Origin,
        Side::Origin => Side::Visitor,
    }
}

fn kind(from: Side, message: &Message) -> WsInterest {
    match (from, message) {
        (Side::Visitor, Message::Text(_)) => WsInterest::VISITOR_TEXT,
        (Side::Visitor, Message::Binary(_)) => WsInterest::VISITOR_BINARY,
        (Side::Origin, Message::Text(_)) => WsInterest::ORIGIN_TEXT,
        (Side::Origin, Message::Binary(_)) => WsInterest::ORIGIN_BINARY,
    }
}
