//! The translator's part for WebSockets: text messages in order, and the end. This dialect has no close codes, no pings and no
//! binary messages.

use http::{StatusCode, header};
use jiff::Timestamp;

use super::{
    down::Down,
    headers,
    losses::Loss,
    translator::{Exchange, Stage, Translator},
};
use crate::wire::{
    self, Message,
    message::{CancelCode, ExchangeNumber, RequestStart, ResponseStart, WsKind, WsPart},
    v1,
};

/// Opcodes of RFC 6455.
const TEXT: u64 = 1;
const BINARY: u64 = 2;

/// RFC 6455 section 7.4.1: no code; broken off; not what the far end takes; not what it says it is.
const NO_CODE: u16 = 1005;
const BROKEN_OFF: u16 = 1006;
const UNSUPPORTED: u16 = 1003;
const NORMAL: u16 = 1000;

impl Translator {
    pub(super) fn wish(&mut self, start: &RequestStart, now: Timestamp) {
        let subprotocol = start.headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL);
        self.open(start, Stage::Wished { subprotocol });
        let path = v1::url_of(start.target.path());
        let target = (&*path.url, start.target.query().unwrap_or_default());
        let (headers, lost) = headers::joined(&start.headers);
        let id = self.exchanges[&start.id].id.clone();
        self.count_head(lost, path.exact);
        self.say(v1::ws_request(&id, now, target, &headers));
    }

    /// The origin took the WebSocket, or not.
    pub(super) fn decided(&mut self, id: &str, ok: bool, error: &str, now: Timestamp) {
        let found = self.find(id).filter(|(_, exchange)| matches!(exchange.stage, Stage::Wished { .. }));
        let Some((number, exchange)) = found else {
            if ok {
                // The visitor didn't wait for it.
                self.say(v1::ws_teardown(id, now));
            }
            return;
        };
        if !ok {
            // Not with the client's own words: they may name what visitors needn't know.
            tracing::debug!(error, "a service behind a client of the original's dialect took no WebSocket");
            self.remove(number);
            return self.give_up(number, CancelCode::OriginFailed, "the service didn't accept the WebSocket");
        }
        let stage = std::mem::replace(&mut exchange.stage, Stage::Joined { text: Vec::new() });
        if matches!(stage, Stage::Wished { subprotocol: true }) {
            self.losses.count(Loss::Subprotocol);
        }
        let response = ResponseStart::bare(number, StatusCode::SWITCHING_PROTOCOLS);
        self.arrivals.push_back(Message::WsResponse(response));
    }

    pub(super) fn visitor_says(&mut self, part: &WsPart, now: Timestamp) {
        let number = part.id;
        let Some(Exchange { id, stage: Stage::Joined { text }, down, .. }) = self.exchanges.get_mut(&number)
        else {
            return;
        };
        match part.kind {
            WsKind::Text => {
                text.extend_from_slice(&part.data);
                if part.end {
                    let whole = std::mem::take(text);
                    // The visitor's end has looked at each message; what isn't text must not become another text.
                    let Ok(whole) = String::from_utf8(whole) else { return self.refuse_binary(number, now) };
                    let document = v1::ws_message(id, now, &whole);
                    self.say(document);
                }
            }
            WsKind::Binary => return self.refuse_binary(number, now),
            WsKind::Ping => {
                down.pong(part.data.clone());
                self.flow(number, now);
            }
            WsKind::Pong => {}
        }
        self.arrivals.push_back(Message::Credit { id: number, bytes: wire::cost(part.data.len()) });
        self.settle(number, now);
    }

    pub(super) fn origin_says(&mut self, id: &str, opcode: u64, body: String, now: Timestamp) {
        let found = self.find(id).filter(|(_, exchange)| matches!(exchange.stage, Stage::Joined { .. }));
        let Some((number, exchange)) = found else { return };
        match opcode {
            TEXT => exchange.down.message(WsKind::Text, body.into()),
            // Bytes that were no text have been replaced on their way into the document.
            BINARY if body.contains(char::REPLACEMENT_CHARACTER) => return self.refuse_binary(number, now),
            BINARY => exchange.down.message(WsKind::Binary, body.into()),
            // Pings and pongs concern the client alone.
            _ => return,
        }
        self.flow(number, now);
    }

    /// Closes both ends: what is binary can't be carried.
    fn refuse_binary(&mut self, number: ExchangeNumber, now: Timestamp) {
        self.losses.count(Loss::Binary);
        let Some(exchange) = self.exchanges.get_mut(&number) else { return };
        exchange.stage = Stage::Parting;
        exchange.down = Down::new();
        let document = v1::ws_teardown(&exchange.id, now);
        let reason = "this tunnel's client takes text messages only".to_owned();
        self.arrivals.push_back(Message::WsTeardown { id: number, code: UNSUPPORTED, reason });
        self.say(document);
        self.settle(number, now);
    }

    /// The visitor's end is closed. Clients don't answer that: the answer is given here.
    pub(super) fn visitor_closed(&mut self, number: ExchangeNumber, code: u16, now: Timestamp) {
        let Some(exchange) = self.remove(number) else { return };
        let mut answer = !exchange.down.is_empty();
        if matches!(exchange.stage, Stage::Joined { .. }) {
            if !matches!(code, NORMAL | NO_CODE | BROKEN_OFF) {
                self.losses.count(Loss::CloseCode);
            }
            self.say(v1::ws_teardown(&exchange.id, now));
            answer = true;
        }
        if answer {
            self.arrivals.push_back(Message::WsTeardown { id: number, code, reason: String::new() });
        }
    }

    pub(super) fn origin_closed(&mut self, id: &str, now: Timestamp) {
        let Some((number, exchange)) = self.find(id) else { return };
        match exchange.stage {
            Stage::Joined { .. } => {
                exchange.stage = Stage::Parting;
                exchange.down.teardown(NO_CODE, "");
                self.flow(number, now);
            }
            Stage::Wished { .. } => {
                self.remove(number);
                self.give_up(number, CancelCode::OriginFailed, "the service didn't accept the WebSocket");
            }
            _ => {}
        }
    }
}
