//! Between our messages and the original's documents: what one side says, as the other hears it. Pure: messages, documents and
//! the time go in, messages and documents come out.
//!
//! To the session above it is a client of version 2. What such a client would say and this one can't, it says in its place: it
//! grants credit while it collects a request's body, asks for one that waits for `100 Continue`, answers a visitor's pings, and
//! takes its leave once it was told to go and has nothing under way. What can't be said at all is counted ([`Loss`]).

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use jiff::Timestamp;

use super::{
    super::ended::Ended,
    down::Down,
    headers,
    losses::{Loss, SessionLosses},
};
use crate::{
    exchange::hygiene,
    wire::{
        self, INITIAL_WINDOW, Message,
        message::{CancelCode, ExchangeNumber, RequestStart, ResponseStart},
        v1::{self, DocumentError, FromClient, RegistrationRequest},
    },
};

/// Bytes that all exchanges of a session may hold here, in both directions; as much as windows grow by in version 2. Past it
/// only those go on that hold no more than a first window.
const MOST_HELD: usize = 64 * 1024 * 1024;

/// See the module's text.
pub(super) struct Translator {
    pub(super) exchanges: HashMap<ExchangeNumber, Exchange>,
    /// By the id in documents.
    numbers: HashMap<String, ExchangeNumber>,
    pub(super) arrivals: VecDeque<Message>,
    pub(super) outgoing: VecDeque<Outgoing>,
    registrations: VecDeque<RegistrationRequest>,
    held: usize,
    /// The node drains.
    pub(super) draining: bool,
    /// The client's leave was taken for it.
    left: bool,
    pub(super) losses: SessionLosses,
}

/// What goes to the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// A text frame.
    Document(String),
    /// A ping of the WebSocket itself, which its library answers.
    Ping,
}

/// An exchange that is open in the session above.
pub(super) struct Exchange {
    pub(super) id: String,
    pub(super) stage: Stage,
    pub(super) down: Down,
    /// What it holds, as far as that is in the session's sum.
    counted: usize,
}

pub(super) enum Stage {
    /// A request whose body isn't all here.
    Collecting(Box<Upload>),
    /// The client has the request.
    Asked { head_only: bool },
    /// It has answered; the rest waits for credit.
    Answered,
    /// The client has a visitor's wish for a WebSocket.
    Wished { subprotocol: bool },
    /// Both ends are there. `text` is a visitor's message that isn't all here.
    Joined { text: Vec<u8> },
    /// The client's end is gone; the visitor's isn't.
    Parting,
}

pub(super) struct Upload {
    start: RequestStart,
    body: Vec<u8>,
}

impl Exchange {
    fn holds(&self) -> usize {
        let up = match &self.stage {
            Stage::Collecting(upload) => upload.body.len(),
            Stage::Joined { text } => text.len(),
            _ => 0,
        };
        up + self.down.held()
    }
}

impl Translator {
    pub(super) fn new(losses: SessionLosses) -> Self {
        Self {
            exchanges: HashMap::new(),
            numbers: HashMap::new(),
            arrivals: VecDeque::new(),
            outgoing: VecDeque::new(),
            registrations: VecDeque::new(),
            held: 0,
            draining: false,
            left: false,
            losses,
        }
    }

    /// What the session says to its client.
    pub(super) fn send(&mut self, message: &Message, now: Timestamp) {
        match message {
            Message::HttpRequest(start) => self.begin(start, now),
            Message::Body(part) => {
                if part.trailers.is_some() {
                    self.losses.count(Loss::Trailers);
                }
                self.collect(part.id, &part.data, part.end, now);
            }
            Message::WsRequest(start) => self.wish(start, now),
            Message::WsMessage(part) => self.visitor_says(part, now),
            Message::WsTeardown { id, code, .. } => self.visitor_closed(*id, *code, now),
            Message::Credit { id, bytes } => {
                if let Some(exchange) = self.exchanges.get_mut(id) {
                    exchange.down.grant(*bytes);
                    self.flow(*id, now);
                }
            }
            Message::Cancel { id, .. } => self.cancelled(*id, now),
            Message::Ping => self.outgoing.push_back(Outgoing::Ping),
            // The client can't be told to move, and connects again only when its session has ended. Until there is nothing that
            // this would cut off, visitors find it here.
            Message::GoAway { .. } => {
                self.draining = true;
                self.leave_if_idle();
            }
            // It logs what is no document, and sees the end.
            Message::RegistrationResponse { outcome: Err(refusal), .. } => self.say(refusal.text.clone()),
            // A client's messages, a registration of version 2, and the answer to a ping that this client never sends.
            Message::RegistrationRequest { .. }
            | Message::RegistrationResponse { .. }
            | Message::HttpResponse(_)
            | Message::WsResponse(_)
            | Message::Pong
            | Message::Disconnect => {}
        }
    }

    /// What the client says.
    pub(super) fn receive(&mut self, text: &str, now: Timestamp) -> Result<(), Ended> {
        match FromClient::decode(text) {
            Ok(FromClient::Register(request)) => self.registrations.push_back(request),
            Ok(FromClient::HttpResponse(response)) => self.answered(response, now),
            Ok(FromClient::WsResponse { id, ok, error }) => self.decided(&id, ok, &error, now),
            Ok(FromClient::WsMessage { id, opcode, body }) => self.origin_says(&id, opcode, body, now),
            Ok(FromClient::WsTeardown { id }) => self.origin_closed(&id, now),
            Ok(FromClient::Disconnect) => self.arrivals.push_back(Message::Disconnect),
            Ok(FromClient::Other) => {}
            Err(error @ DocumentError::Unusable { .. }) => return self.unusable(&error, now),
            Err(error) => return Err(Ended::NotADocument(error)),
        }
        Ok(())
    }

    /// A further registration that the client wants.
    pub(super) fn registration(&mut self) -> Option<RegistrationRequest> {
        self.registrations.pop_front()
    }

    pub(super) fn say(&mut self, document: String) {
        self.outgoing.push_back(Outgoing::Document(document));
    }

    fn begin(&mut self, start: &RequestStart, now: Timestamp) {
        let number = start.id;
        let upload = Upload { start: RequestStart { body: Bytes::new(), ..start.clone() }, body: Vec::new() };
        self.open(start, Stage::Collecting(Box::new(upload)));
        if announced(&start.headers).is_some_and(|length| length > v1::MAX_BODY) {
            return self.too_large(number);
        }
        if !start.end && hygiene::expects_continue(&start.headers) {
            let response = ResponseStart::bare(number, StatusCode::CONTINUE);
            self.arrivals.push_back(Message::HttpResponse(response));
        }
        self.collect(number, &start.body, start.end, now);
    }

    pub(super) fn open(&mut self, start: &RequestStart, stage: Stage) {
        if !start.notes.is_empty() {
            self.losses.count(Loss::Notes);
        }
        let id = document_id(start.exchange, start.id);
        self.numbers.insert(id.clone(), start.id);
        self.exchanges.insert(start.id, Exchange { id, stage, down: Down::new(), counted: 0 });
    }

    fn collect(&mut self, number: ExchangeNumber, data: &Bytes, end: bool, now: Timestamp) {
        let Some(Exchange { stage: Stage::Collecting(upload), .. }) = self.exchanges.get_mut(&number) else {
            return;
        };
        if upload.body.len() + data.len() > v1::MAX_BODY {
            return self.too_large(number);
        }
        upload.body.extend_from_slice(data);
        if end {
            return self.ask(number, now);
        }
        if !data.is_empty() {
            self.arrivals.push_back(Message::Credit { id: number, bytes: wire::cost(data.len()) });
        }
        self.settle(number, now);
    }

    /// The request is all here: the client gets it.
    fn ask(&mut self, number: ExchangeNumber, now: Timestamp) {
        let Some(exchange) = self.exchanges.get_mut(&number) else { return };
        let Stage::Collecting(upload) = &mut exchange.stage else { return };
        let Upload { start, body } = &mut **upload;
        let head_only = start.method == Method::HEAD;
        let path = v1::url_of(start.target.path());
        let (headers, lost) = headers::joined(&start.headers);
        let (target, lossless) = ((&*path.url, start.target.query().unwrap_or_default()), path.exact);
        let document = v1::http_request(&exchange.id, now, &start.method, target, &headers, body);
        exchange.stage = Stage::Asked { head_only };
        self.count_head(lost, lossless);
        self.say(document);
        self.settle(number, now);
    }

    pub(super) fn count_head(&mut self, header: bool, path_is_exact: bool) {
        if header {
            self.losses.count(Loss::Header);
        }
        if !path_is_exact {
            self.losses.count(Loss::Path);
        }
    }

    fn answered(&mut self, response: v1::HttpResponse, now: Timestamp) {
        let v1::HttpResponse { id, status, mut headers, mut body } = response;
        // The visitor may have left meanwhile.
        let Some((number, exchange)) = self.find(&id) else { return };
        let Stage::Asked { head_only } = exchange.stage else { return };
        headers.remove(header::TRANSFER_ENCODING);
        if head_only || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            // Their length speaks of a body that isn't sent.
            body.clear();
        } else {
            // Clients that unpack what is compressed leave the length that it had.
            headers.insert(header::CONTENT_LENGTH, body.len().into());
        }
        let first = exchange.down.first(&mut body);
        let end = body.is_empty();
        exchange.down.body(body);
        exchange.stage = Stage::Answered;
        let response = Box::new(ResponseStart { id: number, status, headers, body: first, end });
        self.arrivals.push_back(Message::HttpResponse(response));
        if end {
            self.remove(number);
        } else {
            self.flow(number, now);
        }
    }

    /// Lets the visitor have what there is credit for.
    pub(super) fn flow(&mut self, number: ExchangeNumber, now: Timestamp) {
        let Some(exchange) = self.exchanges.get_mut(&number) else { return };
        let mut answered = false;
        while let Some(part) = exchange.down.next() {
            answered |= part.is_last() && matches!(exchange.stage, Stage::Answered);
            self.arrivals.push_back(part.into_message(number));
        }
        if answered {
            self.remove(number);
        } else {
            self.settle(number, now);
        }
    }

    /// Counts what an exchange holds by now, and ends it if all of them hold too much.
    pub(super) fn settle(&mut self, number: ExchangeNumber, now: Timestamp) {
        let Some(exchange) = self.exchanges.get_mut(&number) else { return };
        let holds = exchange.holds();
        self.held = self.held - exchange.counted + holds;
        exchange.counted = holds;
        if self.held > MOST_HELD && holds > INITIAL_WINDOW as usize {
            let detail = "this tunnel's client takes and gives bodies whole, and too many are under way";
            self.fail(number, CancelCode::TooManyExchanges, detail, now);
        }
    }

    fn too_large(&mut self, number: ExchangeNumber) {
        self.losses.count(Loss::LargeBody);
        let detail =
            "the request's body is over 500 kB, the limit of the dialect that this tunnel's client speaks";
        self.remove(number);
        self.give_up(number, CancelCode::RequestTooLarge, detail);
    }

    /// Ends an exchange on both sides.
    pub(super) fn fail(&mut self, number: ExchangeNumber, code: CancelCode, detail: &str, now: Timestamp) {
        if let Some(exchange) = self.remove(number) {
            if matches!(exchange.stage, Stage::Wished { .. } | Stage::Joined { .. }) {
                self.say(v1::ws_teardown(&exchange.id, now));
            }
            self.give_up(number, code, detail);
        }
    }

    /// Ends an exchange in the session above.
    pub(super) fn give_up(&mut self, number: ExchangeNumber, code: CancelCode, detail: &str) {
        self.arrivals.push_back(Message::Cancel { id: number, code, detail: detail.to_owned() });
    }

    /// Nobody wants the exchange any more. A request can't be taken back.
    fn cancelled(&mut self, number: ExchangeNumber, now: Timestamp) {
        let Some(exchange) = self.remove(number) else { return };
        match exchange.stage {
            Stage::Asked { .. } => self.losses.count(Loss::Cancel),
            Stage::Wished { .. } | Stage::Joined { .. } => self.say(v1::ws_teardown(&exchange.id, now)),
            Stage::Collecting(_) | Stage::Answered | Stage::Parting => {}
        }
    }

    fn unusable(&mut self, error: &DocumentError, now: Timestamp) -> Result<(), Ended> {
        let DocumentError::Unusable { id, .. } = error else { return Ok(()) };
        if error.is_registration() {
            return Err(Ended::Refused(error.to_string()));
        }
        self.losses.count(Loss::Unusable);
        tracing::debug!(%error, "a client of the original's dialect said something that can't be used");
        if let Some(&number) = self.numbers.get(id) {
            let detail = "the tunnel's client gave an answer that can't be used";
            self.fail(number, CancelCode::ProtocolBroken, detail, now);
        }
        Ok(())
    }

    pub(super) fn find(&mut self, id: &str) -> Option<(ExchangeNumber, &mut Exchange)> {
        let number = *self.numbers.get(id)?;
        self.exchanges.get_mut(&number).map(|exchange| (number, exchange))
    }

    pub(super) fn remove(&mut self, number: ExchangeNumber) -> Option<Exchange> {
        let exchange = self.exchanges.remove(&number)?;
        self.numbers.remove(&exchange.id);
        self.held -= exchange.counted;
        self.leave_if_idle();
        Some(exchange)
    }

    fn leave_if_idle(&mut self) {
        if self.draining && !self.left && self.exchanges.is_empty() {
            self.left = true;
            self.arrivals.push_back(Message::Disconnect);
        }
    }
}

fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A UUID of version 8 (RFC 9562 section 5.8), made of what is unique already: the exchange's name in logs, of which the first 15
/// digits can be read in it, and its number in the session.
fn document_id(exchange: u64, number: ExchangeNumber) -> String {
    let variant = 0b10 << 62 | (exchange & 0xf) << 58 | number & ((1 << 58) - 1);
    format!(
        "{:08x}-{:04x}-8{:03x}-{:04x}-{:012x}",
        exchange >> 32,
        exchange >> 16 & 0xffff,
        exchange >> 4 & 0xfff,
        variant >> 48,
        variant & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
#[path = "translator_tests.rs"]
mod tests;
