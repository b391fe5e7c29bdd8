//! The multiplexer: which exchanges are open, who may send how much, and what goes out next. Pure: messages and the
//! time go in, messages and deliveries come out.
//!
//! ```text
//!            opener                                acceptor
//!   open() ──HttpRequest──▶ │ Received::Request → accept()
//!   part() ──Body*──▶       │ Received::Part…             each side: `ours` until its last part is out,
//!          ◀──HttpResponse──│ respond()                              `theirs` until their last part is in;
//!          ◀──Body*──       │ part()                      the stream is gone when both are done, or cancelled
//! ```

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;

use super::{part::Part, stream::Stream};
use crate::wire::{
    Message,
    message::{BodyPart, CancelCode, ExchangeNumber, Refusal, RequestStart, ResponseStart, WsPart},
};

/// Messages that may wait for a peer that is slow to read, beside its exchanges' own: a head, some credit and a cancel
/// of each exchange are no misbehaviour.
const BACKLOG_PER_STREAM: usize = 4;
const BACKLOG: usize = 1024;

/// Which side of the session this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The proxy: opens exchanges.
    Opener,
    /// The client: answers them.
    Acceptor,
}

/// The state of one side of a session. `T` is what its owner keeps with each open exchange.
pub struct Mux<T> {
    side: Side,
    streams: HashMap<ExchangeNumber, Stream<T>, RandomState>,
    /// The newest id that was opened.
    newest: ExchangeNumber,
    max_streams: usize,
    /// Heads, credit and whatever else doesn't wait for credit.
    control: VecDeque<Message>,
    /// Streams that have a part and the credit for it, in turn.
    ready: VecDeque<ExchangeNumber>,
    ping_after: Duration,
    heard: Instant,
    pinged: bool,
    /// A Pong is owed; one answers any number of pings.
    pong: bool,
}

/// What a message means for the mux's owner.
#[derive(Debug)]
pub enum Received<T> {
    /// Nothing to do.
    Nothing,
    /// A new exchange, to be accepted or cancelled; the flag says whether a WebSocket is wanted.
    Request(Box<RequestStart>, bool),
    /// An interim response.
    Interim(ExchangeNumber, Box<ResponseStart>),
    /// The response's head and first piece; the exchange goes on unless `ended`.
    Response(ExchangeNumber, Box<ResponseStart>),
    /// A part for an open exchange.
    Part(ExchangeNumber, Part),
    /// The peer cut the exchange off. It is closed; here is what was kept with it.
    Cancelled(T, CancelCode, String),
    /// The peer drains.
    GoAway(Duration),
    /// The peer takes its leave.
    Disconnect,
    /// The peer has taken the registration back.
    Dismissed(Refusal),
}

/// The peer broke the protocol: the session ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A message that the other role sends.
    #[error("a message of the wrong role")]
    WrongRole,
    /// A registration on a registered session.
    #[error("a second registration")]
    Registration,
    /// An id that is not newer than the newest.
    #[error("exchange {0} was opened before")]
    Reused(ExchangeNumber),
    /// An id that nobody opened.
    #[error("exchange {0} was never opened")]
    NeverOpened(ExchangeNumber),
    /// A part before its head, or a second head, or a part after the last.
    #[error("a message for exchange {0} out of its order")]
    OutOfOrder(ExchangeNumber),
    /// More bytes than credit.
    #[error("exchange {0} has sent more than it had credit for")]
    OverCredit(ExchangeNumber),
    /// Credit beyond all reason.
    #[error("exchange {0} was given more credit than can be counted")]
    TooMuchCredit(ExchangeNumber),
    /// More exchanges at once than agreed.
    #[error("more exchanges at once than agreed")]
    TooManyStreams,
    /// The peer goes on sending what has to be answered, and reads no answers.
    #[error("it sends without reading")]
    NotReading,
}

impl<T> Mux<T> {
    /// A mux of a session that begins now.
    pub fn new(side: Side, max_streams: usize, ping_after: Duration, now: Instant) -> Self {
        Self {
            side,
            streams: HashMap::default(),
            newest: 0,
            max_streams,
            control: VecDeque::new(),
            ready: VecDeque::new(),
            ping_after,
            heard: now,
            pinged: false,
            pong: false,
        }
    }

    /// Opens an exchange and queues its head; gives its id.
    pub fn open(&mut self, mut request: Box<RequestStart>, websocket: bool, user: T) -> ExchangeNumber {
        self.newest += 1;
        let id = self.newest;
        request.id = id;
        let mut stream = Stream::new(user);
        stream.ours_done = request.end && !websocket;
        stream.spend_first(&request.body);
        self.streams.insert(id, stream);
        self.control.push_back(if websocket {
            Message::WsRequest(request)
        } else {
            Message::HttpRequest(request)
        });
        id
    }

    /// The id that the next [`open`](Self::open) gives.
    pub fn next_id(&self) -> ExchangeNumber {
        self.newest + 1
    }

    /// Keeps `user` with an exchange that [`receive`](Self::receive) just announced.
    pub fn accept(&mut self, id: ExchangeNumber, user: T) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.user = user;
        }
    }

    /// Queues the head of a response, interim or final. Does nothing when the exchange is over.
    pub fn respond(&mut self, response: Box<ResponseStart>, websocket: bool) {
        let Entry::Occupied(mut entry) = self.streams.entry(response.id) else { return };
        let stream = entry.get_mut();
        if stream.answered {
            return;
        }
        if !response.status.is_informational() || websocket {
            stream.answered = true;
            stream.ours_done = response.end;
            stream.spend_first(&response.body);
        }
        if stream.is_done() {
            entry.remove();
        }
        self.control.push_back(if websocket {
            Message::WsResponse(response)
        } else {
            Message::HttpResponse(response)
        });
    }

    /// Queues a part; false when the exchange is over.
    pub fn part(&mut self, id: ExchangeNumber, part: Part) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        stream.queue.push_back(part);
        self.schedule(id);
        true
    }

    /// Gives the peer more credit on an exchange.
    pub fn grant(&mut self, id: ExchangeNumber, bytes: u32) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.theirs_done) {
            stream.receive_credit += u64::from(bytes);
            self.control.push_back(Message::Credit { id, bytes });
        }
    }

    /// Cuts an exchange off and tells the peer. What was kept with it comes back, unless it is over already.
    pub fn cancel(&mut self, id: ExchangeNumber, code: CancelCode, detail: String) -> Option<T> {
        let stream = self.streams.remove(&id)?;
        let head = |message: &Message| match message {
            Message::HttpRequest(head) | Message::WsRequest(head) => head.id == id,
            _ => false,
        };
        // Behind a peer that doesn't read, heads of visitors who have left must not pile up.
        match self.control.iter().rposition(head) {
            Some(unsent) if self.side == Side::Opener => {
                self.control.remove(unsent);
                // Credit that was to go with the head.
                self.control
                    .retain(|message| !matches!(message, Message::Credit { id: of, .. } if *of == id));
            }
            _ => self.control.push_back(Message::Cancel { id, code, detail }),
        }
        Some(stream.user)
    }

    /// Queues a message that belongs to no exchange.
    pub fn announce(&mut self, message: Message) {
        self.control.push_back(message);
    }

    /// What goes out next, and the exchange whose part it was with that part's weight.
    pub fn transmit(&mut self) -> Option<(Message, Option<Sent<'_, T>>)> {
        if std::mem::take(&mut self.pong) {
            return Some((Message::Pong, None));
        }
        if let Some(message) = self.control.pop_front() {
            return Some((message, None));
        }
        let id = loop {
            let id = self.ready.pop_front()?;
            match self.streams.get_mut(&id) {
                Some(stream) if stream.may_send() => break id,
                Some(stream) => stream.scheduled = false,
                None => {}
            }
        };
        let stream = self.streams.get_mut(&id).expect("found above");
        let front = stream.queue.front_mut().expect("may_send saw one");
        let part = if u64::from(front.cost()) > stream.send_credit {
            front.split(stream.send_credit)
        } else {
            stream.queue.pop_front().expect("may_send saw one")
        };
        let weight = part.weight();
        stream.send_credit -= u64::from(part.cost());
        stream.ours_done |= part.is_last();
        stream.scheduled = stream.may_send();
        if stream.scheduled {
            self.ready.push_back(id);
        }
        let message = part.into_message(id);
        if stream.is_done() {
            let stream = self.streams.remove(&id).expect("found above");
            return Some((message, Some(Sent { user: Kept::Closed(stream.user), weight })));
        }
        Some((message, Some(Sent { user: Kept::Open(&self.streams[&id].user), weight })))
    }

    /// Takes in one message.
    ///
    /// # Errors
    /// The peer broke the protocol.
    pub fn receive(
        &mut self,
        message: Message,
        user: impl FnOnce() -> T,
        now: Instant,
    ) -> Result<Received<T>, Violation> {
        self.heard = now;
        self.pinged = false;
        if self.control.len() > BACKLOG_PER_STREAM * self.max_streams + BACKLOG {
            return Err(Violation::NotReading);
        }
        match message {
            Message::RegistrationResponse { outcome: Err(refusal), .. } if self.side == Side::Acceptor => {
                Ok(Received::Dismissed(refusal))
            }
            Message::RegistrationRequest { .. } | Message::RegistrationResponse { .. } => {
                Err(Violation::Registration)
            }
            Message::HttpRequest(request) => self.receive_request(request, false, user),
            Message::WsRequest(request) => self.receive_request(request, true, user),
            Message::HttpResponse(response) => self.receive_response(response, false),
            Message::WsResponse(response) => self.receive_response(response, true),
            Message::Body(BodyPart { id, data, end, trailers }) => {
                self.receive_part(id, Part::Body { data, end, trailers: trailers.map(Box::new) })
            }
            Message::WsMessage(WsPart { id, kind, data, end }) => {
                self.receive_part(id, Part::Ws { kind, data, end })
            }
            Message::WsTeardown { id, code, reason } => {
                self.receive_part(id, Part::Teardown { code, reason })
            }
            Message::Credit { id, bytes } => self.receive_credit(id, bytes),
            Message::Cancel { id, code, detail } => {
                self.known(id)?;
                Ok(match self.streams.remove(&id) {
                    Some(stream) => Received::Cancelled(stream.user, code, detail),
                    None => Received::Nothing,
                })
            }
            Message::Ping => {
                self.pong = true;
                Ok(Received::Nothing)
            }
            Message::Pong => Ok(Received::Nothing),
            Message::Disconnect if self.side == Side::Opener => Ok(Received::Disconnect),
            Message::GoAway { grace } if self.side == Side::Acceptor => Ok(Received::GoAway(grace)),
            Message::Disconnect | Message::GoAway { .. } => Err(Violation::WrongRole),
        }
    }

    /// Something came from the peer, even if it wasn't a message of ours.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = false;
    }

    /// Does what is due: pings a silent peer. False when it has been silent for too long.
    pub fn tick(&mut self, now: Instant) -> bool {
        let silent = now.saturating_duration_since(self.heard);
        if silent >= self.ping_after && !self.pinged {
            self.pinged = true;
            self.control.push_back(Message::Ping);
        }
        silent < self.ping_after * 2
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn deadline(&self) -> Instant {
        self.heard + self.ping_after * if self.pinged { 2 } else { 1 }
    }

    /// Whether an exchange is open.
    pub fn get(&mut self, id: ExchangeNumber) -> Option<&mut T> {
        self.streams.get_mut(&id).map(|stream| &mut stream.user)
    }

    /// Exchanges open now.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether a message waits for [`transmit`](Self::transmit).
    pub fn has_output(&self) -> bool {
        self.pong || !self.control.is_empty() || !self.ready.is_empty()
    }

    /// Ends the session: gives back what was kept with the open exchanges.
    pub fn close(&mut self) -> impl Iterator<Item = T> {
        self.control.clear();
        self.ready.clear();
        std::mem::take(&mut self.streams).into_values().map(|stream| stream.user)
    }

    fn receive_request(
        &mut self,
        request: Box<RequestStart>,
        websocket: bool,
        user: impl FnOnce() -> T,
    ) -> Result<Received<T>, Violation> {
        if self.side == Side::Opener {
            return Err(Violation::WrongRole);
        }
        if request.id <= self.newest {
            return Err(Violation::Reused(request.id));
        }
        if self.streams.len() >= self.max_streams {
            return Err(Violation::TooManyStreams);
        }
        self.newest = request.id;
        let mut stream = Stream::new(user());
        stream.theirs_done = request.end && !websocket;
        stream.take_first(&request.body);
        self.streams.insert(request.id, stream);
        Ok(Received::Request(request, websocket))
    }

    fn receive_response(
        &mut self,
        response: Box<ResponseStart>,
        websocket: bool,
    ) -> Result<Received<T>, Violation> {
        if self.side == Side::Acceptor {
            return Err(Violation::WrongRole);
        }
        let id = response.id;
        self.known(id)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(Received::Nothing) };
        if stream.answered {
            return Err(Violation::OutOfOrder(id));
        }
        if response.status.is_informational() && !websocket {
            return Ok(Received::Interim(id, response));
        }
        stream.answered = true;
        stream.theirs_done = response.end;
        stream.take_first(&response.body);
        Ok(Received::Response(id, response))
    }

    fn receive_part(&mut self, id: ExchangeNumber, part: Part) -> Result<Received<T>, Violation> {
        self.known(id)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(Received::Nothing) };
        if stream.theirs_done || (self.side == Side::Opener && !stream.answered) {
            return Err(Violation::OutOfOrder(id));
        }
        let cost = u64::from(part.cost());
        stream.receive_credit = stream.receive_credit.checked_sub(cost).ok_or(Violation::OverCredit(id))?;
        stream.theirs_done = part.is_last();
        Ok(Received::Part(id, part))
    }

    fn receive_credit(&mut self, id: ExchangeNumber, bytes: u32) -> Result<Received<T>, Violation> {
        self.known(id)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send_credit += u64::from(bytes);
            if stream.send_credit > u64::from(u32::MAX) {
                return Err(Violation::TooMuchCredit(id));
            }
            self.schedule(id);
        }
        Ok(Received::Nothing)
    }

    /// Takes an exchange off the table once both directions are done. To be called after the last part was
    /// handed on.
    pub fn close_if_done(&mut self, id: ExchangeNumber) -> Option<T> {
        let done = self.streams.get(&id).is_some_and(Stream::is_done);
        if done { self.streams.remove(&id).map(|stream| stream.user) } else { None }
    }

    /// Whether the peer has nothing more to send on an open exchange, while we have.
    pub fn only_ours_left(&self, id: ExchangeNumber) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.theirs_done && !stream.ours_done)
    }

    fn known(&self, id: ExchangeNumber) -> Result<(), Violation> {
        if id == 0 || id > self.newest { Err(Violation::NeverOpened(id)) } else { Ok(()) }
    }

    fn schedule(&mut self, id: ExchangeNumber) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.scheduled
            && stream.may_send()
        {
            stream.scheduled = true;
            self.ready.push_back(id);
        }
    }
}

/// A part that went out: what is kept with its exchange, and what it took up in the queue.
pub struct Sent<'a, T> {
    /// What is kept with the exchange.
    pub user: Kept<'a, T>,
    /// Bytes of credit.
    pub weight: u32,
}

/// What is kept with an exchange, still open or just closed.
pub enum Kept<'a, T> {
    /// The exchange goes on.
    Open(&'a T),
    /// It was the last part of both directions.
    Closed(T),
}

impl<T> Kept<'_, T> {
    /// What is kept, either way.
    pub fn get(&self) -> &T {
        match self {
            Self::Open(user) => user,
            Self::Closed(user) => user,
        }
    }
}
