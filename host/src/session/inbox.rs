//! What comes from the peer on one exchange, as a body or as a WebSocket's events, and the credit that goes back.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::HeaderMap;
use http_body::Frame;
use tokio::sync::mpsc;

use super::{
    guard::{Direction, Guard},
    part::Part,
};
use crate::{
    exchange::{
        ErrorKind, ForwardError,
        websocket::{Close, Event},
    },
    wire::{self, INITIAL_WINDOW, MIN_PART_COST, message::WsKind},
};

/// A window grows up to this while its reader keeps up: enough for 40 MB/s over a way of 100 ms.
const MAX_WINDOW: u32 = 4 * 1024 * 1024;

/// A window opens as far as this at once, where a body's announced length has a use for it: a few hundred kilobytes then take one
/// round trip, and not one for each time that the window doubles.
const ANNOUNCED_WINDOW: u32 = 512 * 1024;

/// All windows of a session together grow by at most this many bytes, so that many fast readers that stop reading
/// can't hold more.
pub(super) const MAX_GROWTH: u64 = 64 * 1024 * 1024;

/// What the driver puts into an inbox.
pub(super) enum Inbound {
    Part(Part),
    Failed(Box<ForwardError>),
}

/// The sending end of an inbox. Credit bounds what can be in it.
pub(super) type InboxSender = mpsc::Sender<Inbound>;

/// The receiving end: counts what was taken out and grants the peer as much again.
pub(super) struct Inbox {
    parts: mpsc::Receiver<Inbound>,
    guard: Arc<Guard>,
    window: u32,
    used: u32,
    /// Bytes that are still to come, where that was announced.
    left: Option<u64>,
}

/// Makes the channel of an inbox: room for as many parts as the largest window allows, and one failure. Memory is
/// taken only as parts come.
pub(super) fn channel() -> (InboxSender, mpsc::Receiver<Inbound>) {
    mpsc::channel((MAX_WINDOW / MIN_PART_COST) as usize + 2)
}

impl Inbox {
    pub(super) fn new(parts: mpsc::Receiver<Inbound>, guard: Arc<Guard>) -> Self {
        let window = INITIAL_WINDOW.saturating_add(guard.ahead());
        Self { parts, guard, window, used: 0, left: None }
    }

    /// The same for a body whose head announces so many bytes: what is sure to come may come before anything was taken out.
    pub(super) fn expecting(parts: mpsc::Receiver<Inbound>, guard: Arc<Guard>, length: Option<u64>) -> Self {
        let mut inbox = Self { left: length, ..Self::new(parts, guard) };
        let long = length.filter(|length| *length > inbox.window.into());
        let wanted = long.map_or(0, |length| length.min((ANNOUNCED_WINDOW - MIN_PART_COST).into()) as u32);
        // So that it needs no more.
        let wanted = (wanted + MIN_PART_COST).next_multiple_of(INITIAL_WINDOW);
        let growth = wanted.saturating_sub(inbox.window);
        if growth > 0 && inbox.guard.grow_ahead(growth) {
            inbox.window += growth;
            inbox.guard.grant(growth);
        }
        inbox
    }

    /// Counts what was taken out, and grants the peer as much again once it is worth a message.
    fn took(&mut self, bytes: usize) {
        self.used += wire::cost(bytes);
        // One that announced less than it sends has announced nothing.
        self.left = self.left.and_then(|left| left.checked_sub(bytes as u64));
        if self.used >= self.window / 2 && !self.needs_no_more() {
            self.grant();
        }
    }

    /// Whether the peer has credit for all that it announced, and for one more part.
    fn needs_no_more(&self) -> bool {
        let unused = self.window.saturating_sub(self.used);
        self.left.is_some_and(|left| left + u64::from(MIN_PART_COST) <= unused.into())
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, ForwardError>>> {
        match self.parts.poll_recv(cx) {
            Poll::Ready(Some(Inbound::Part(part))) => {
                if let Some(bytes) = part.length() {
                    self.took(bytes);
                }
                Poll::Ready(Some(Ok(part)))
            }
            Poll::Ready(Some(Inbound::Failed(error))) => Poll::Ready(Some(Err(*error))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn grant(&mut self) {
        let mut granted = std::mem::take(&mut self.used);
        // Nothing is waiting although half the window is used: the reader is faster than the window allows.
        if self.window < MAX_WINDOW && self.parts.is_empty() && self.guard.grow(u64::from(self.window)) {
            granted += self.window;
            self.window *= 2;
        }
        self.guard.grant(granted);
    }
}

/// The windows of a session may grow by what is left here, in bytes.
#[derive(Debug)]
pub(super) struct Growth(AtomicU64);

impl Growth {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(MAX_GROWTH))
    }

    /// Takes room for a reader that keeps up.
    pub(super) fn take(&self, bytes: u64) -> bool {
        self.take_above(0, bytes)
    }

    /// Takes room for a reader of whom nothing is known yet: half of it is kept for those that keep up.
    pub(super) fn take_ahead(&self, bytes: u64) -> bool {
        self.take_above(MAX_GROWTH / 2, bytes)
    }

    fn take_above(&self, kept: u64, bytes: u64) -> bool {
        let take = |left: u64| left.checked_sub(bytes).filter(|left| *left >= kept);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    pub(super) fn put_back(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A body that comes from the peer.
pub(super) struct InboundBody {
    inbox: Inbox,
    first: Bytes,
    trailers: Option<Box<HeaderMap>>,
    ended: bool,
}

impl InboundBody {
    pub(super) fn new(inbox: Inbox, first: Bytes) -> Self {
        Self { inbox, first, trailers: None, ended: false }
    }

    fn end(&mut self) {
        self.ended = true;
        self.inbox.guard.received_all();
    }
}

impl http_body::Body for InboundBody {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            self.inbox.took(first.len());
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        loop {
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match std::task::ready!(self.inbox.poll_part(cx)) {
                Some(Ok(Part::Body { data, end, trailers })) => {
                    self.trailers = trailers;
                    if end {
                        self.end();
                    }
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Some(Ok(_)) => {
                    self.ended = true;
                    let error =
                        ForwardError::new(ErrorKind::PeerBrokeProtocol, "a WebSocket message in a body");
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.ended = true;
                    let error = ForwardError::new(ErrorKind::TunnelGone, "the tunnel's session ended");
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.first.is_empty() && self.trailers.is_none()
    }
}

/// The events of a WebSocket that come from the peer.
pub(super) struct InboundSocket {
    inbox: Inbox,
    message: BytesMut,
    max_message: usize,
    ended: bool,
}

impl InboundSocket {
    pub(super) fn new(inbox: Inbox, max_message: usize) -> Self {
        Self { inbox, message: BytesMut::new(), max_message, ended: false }
    }

    /// Puts a message together; `None` while pieces are missing.
    fn assemble(&mut self, kind: WsKind, data: Bytes, end: bool) -> Option<Event> {
        if self.message.len() + data.len() > self.max_message {
            self.ended = true;
            return Some(Event::Close(Close::new(1009, "message too big")));
        }
        let whole = match (end, self.message.is_empty()) {
            (true, true) => data,
            (true, false) if matches!(kind, WsKind::Text | WsKind::Binary) => {
                self.message.extend_from_slice(&data);
                self.message.split().freeze()
            }
            (true, false) => data,
            (false, _) => {
                self.message.extend_from_slice(&data);
                return None;
            }
        };
        Some(match kind {
            WsKind::Text if std::str::from_utf8(&whole).is_err() => {
                self.ended = true;
                Event::Close(Close::new(1007, "text that is not UTF-8"))
            }
            WsKind::Text => Event::Text(whole),
            WsKind::Binary => Event::Binary(whole),
            WsKind::Ping => Event::Ping(whole),
            WsKind::Pong => Event::Pong(whole),
        })
    }
}

impl Stream for InboundSocket {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        while !self.ended {
            match std::task::ready!(self.inbox.poll_part(cx)) {
                Some(Ok(Part::Ws { kind, data, end })) => {
                    if let Some(event) = self.assemble(kind, data, end) {
                        return Poll::Ready(Some(event));
                    }
                }
                Some(Ok(Part::Teardown { code, reason })) => {
                    self.ended = true;
                    self.inbox.guard.closed(Direction::In);
                    return Poll::Ready(Some(Event::Close(Close { code, reason })));
                }
                Some(Ok(Part::Body { .. })) => {
                    self.ended = true;
                    return Poll::Ready(Some(Event::Close(Close::new(
                        1014,
                        "the tunnel broke its protocol",
                    ))));
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Event::Close(close_of(&error))));
                }
                None => self.ended = true,
            }
        }
        Poll::Ready(None)
    }
}

/// What a WebSocket's end hears when the exchange was cut off (RFC 6455 section 7.4.1 and the IANA registry).
fn close_of(error: &ForwardError) -> Close {
    match error.kind() {
        ErrorKind::TunnelGone | ErrorKind::Draining => Close::new(1012, "the tunnel is restarting"),
        ErrorKind::Cancelled | ErrorKind::OriginFailed => Close::abnormal(),
        ErrorKind::TooManyRequests { .. } | ErrorKind::TooManyExchanges => {
            Close::new(1013, "try again later")
        }
        _ => Close::new(1014, error.kind().code()),
    }
}

/// Hands the driver's failure to whoever reads.
pub(super) fn fail(inbox: &InboxSender, error: ForwardError) {
    // The channel keeps one place for this; a reader that is gone needs no word.
    let _ = inbox.try_send(Inbound::Failed(Box::new(error)));
}
