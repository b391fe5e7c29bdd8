//! What goes to the peer on one exchange: bodies cut into parts, a WebSocket's events, and the room they wait for.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Sink;
use http::HeaderMap;
use http_body::Body as _;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::PollSender;

use super::{
    command::Command,
    guard::{Direction, Guard, Shared},
    lines::Lines,
    part::Part,
};
use crate::{
    exchange::{Body, ErrorKind, ForwardError, websocket::Event},
    wire::{MAX_PART, message::WsKind},
};

/// Puts parts of one exchange into the driver's queue, no more than it has room for.
///
/// A place in the queue is taken only with a part in hand: many idle exchanges that each held one would leave none.
pub(super) struct PartSender {
    shared: Arc<Shared>,
    work: mpsc::Sender<Command>,
    waiting: Option<Waiting>,
}

/// The queue was full when it came.
struct Waiting {
    command: Command,
    work: PollSender<Command>,
}

impl PartSender {
    pub(super) fn new(shared: Arc<Shared>, lines: &Lines) -> Self {
        Self { shared, work: lines.work.clone(), waiting: None }
    }

    /// Waits until the next part may be sent.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        ready!(self.poll_flush(cx))?;
        self.shared.poll_room(cx).map_err(|_| gone())
    }

    /// Sends a part; only after [`poll_ready`](Self::poll_ready) was ready. It may not be with the driver before
    /// [`poll_flush`](Self::poll_flush) is ready.
    pub(super) fn send(&mut self, part: Part) -> Result<(), ForwardError> {
        let shared = &self.shared;
        shared.queue(part.weight());
        let command = Command::Part { shared: Arc::clone(shared), part };
        match self.work.try_send(command) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(command)) => {
                self.waiting = Some(Waiting { command, work: PollSender::new(self.work.clone()) });
                Ok(())
            }
            Err(TrySendError::Closed(_)) => Err(gone()),
        }
    }

    /// Whether every part is with the driver.
    pub(super) fn is_flushed(&self) -> bool {
        self.waiting.is_none()
    }

    /// Waits until every part is with the driver.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.work.poll_reserve(cx)).map_err(|_| gone())?;
            if let Some(Waiting { command, mut work }) = self.waiting.take() {
                work.send_item(command).map_err(|_| gone())?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn gone() -> ForwardError {
    ForwardError::new(ErrorKind::TunnelGone, "the tunnel's session ended")
}

/// Bytes of a body that are kept for another session. Before a node knows that it can't place an exchange it reads no more
/// than one part, and that lets the other side send a window and its growth; this has room for all of it.
const KEPT: usize = 4 * MAX_PART;

/// A body cut into pieces of at most [`MAX_PART`] bytes.
pub(super) struct Pieces {
    body: Body,
    left: Bytes,
    kept: Kept,
    /// They go with the last part.
    trailers: Option<Box<HeaderMap>>,
    /// Nothing more comes from the body.
    ended: bool,
    /// The last part was sent.
    sent: bool,
}

impl Pieces {
    pub(super) fn new(body: Body) -> Self {
        let ended = body.is_end_stream();
        Self { body, left: Bytes::new(), kept: Kept::Nothing, trailers: None, ended, sent: false }
    }

    /// The same; what is sent of it can be put back, up to [`KEPT`] bytes.
    pub(super) fn keeping(body: Body) -> Self {
        Self { kept: Kept::Sent { pieces: Vec::new(), bytes: 0, trailers: None }, ..Self::new(body) }
    }

    /// Nobody will want back what was sent.
    pub(super) fn forget(&mut self) {
        self.kept = Kept::TooMuch;
    }

    /// What is here without waiting: the first piece, and whether it is the whole body.
    pub(super) async fn first(&mut self) -> Result<(Bytes, bool), ForwardError> {
        if self.ended {
            return Ok((Bytes::new(), true));
        }
        poll_fn(|cx| {
            Poll::Ready(match self.poll_data(cx) {
                Poll::Ready(Ok(())) => {
                    let (data, end) = self.cut();
                    Ok((data, end && self.trailers.is_none()))
                }
                Poll::Ready(Err(error)) => Err(error),
                Poll::Pending => Ok((Bytes::new(), false)),
            })
        })
        .await
    }

    /// Whether there is no body.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether the last part was sent.
    pub(super) fn is_sent(&self) -> bool {
        self.sent
    }

    /// Puts a first piece back, and whatever was sent after it, and gives the body as it was; `None` if more was sent
    /// than was kept.
    pub(super) fn restore(self, first: Bytes) -> Option<Body> {
        let (sent, sent_trailers) = match self.kept {
            Kept::Nothing => (Vec::new(), None),
            Kept::Sent { pieces, trailers, .. } => (pieces, trailers),
            Kept::TooMuch => return None,
        };
        let trailers = self.trailers.or(sent_trailers);
        let rest = trailers.map_or(self.body, |trailers| Body::trailers(*trailers));
        let rest = Body::prefixed(self.left, rest);
        let rest = sent.into_iter().rev().fold(rest, |rest, piece| Body::prefixed(piece, rest));
        Some(Body::prefixed(first, rest))
    }

    /// Sends everything. May be given up and taken up again.
    pub(super) fn poll_pump(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut PartSender,
    ) -> Poll<Result<(), ForwardError>> {
        while !self.sent {
            // What is here is cut and handed over at once: held back it would be here all the same.
            if self.left.is_empty() {
                ready!(out.poll_ready(cx))?;
                if !self.ended {
                    ready!(self.poll_data(cx))?;
                }
            } else {
                ready!(out.poll_flush(cx))?;
            }
            let (data, end) = self.cut();
            if !data.is_empty() || end {
                let trailers = if end { self.trailers.take() } else { None };
                self.kept.keep(&data, trailers.as_deref());
                out.send(Part::Body { data, end, trailers })?;
                self.sent = end;
            }
        }
        out.poll_flush(cx)
    }

    /// Sends everything, in one go.
    pub(super) async fn pump(mut self, mut out: PartSender) -> Result<(), ForwardError> {
        poll_fn(|cx| self.poll_pump(cx, &mut out)).await
    }

    /// Waits for data in `left`, or the end.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.left = data;
                    self.ended = self.body.is_end_stream();
                }
                Err(frame) => {
                    self.trailers = frame.into_trailers().ok().map(Box::new);
                    self.ended = true;
                }
            },
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => self.ended = true,
        }
        Poll::Ready(Ok(()))
    }

    fn cut(&mut self) -> (Bytes, bool) {
        let data = self.left.split_to(self.left.len().min(MAX_PART));
        (data, self.ended && self.left.is_empty())
    }
}

/// What was sent of a body after its first piece.
enum Kept {
    /// It isn't kept, because a session that takes the head takes the exchange.
    Nothing,
    Sent {
        pieces: Vec<Bytes>,
        bytes: usize,
        trailers: Option<Box<HeaderMap>>,
    },
    /// More was sent than is kept.
    TooMuch,
}

impl Kept {
    fn keep(&mut self, data: &Bytes, end: Option<&HeaderMap>) {
        let Self::Sent { pieces, bytes, trailers } = self else { return };
        *bytes += data.len();
        if *bytes > KEPT {
            *self = Self::TooMuch;
            return;
        }
        pieces.push(data.clone());
        *trailers = end.cloned().map(Box::new);
    }
}

/// A WebSocket's events on their way to the peer.
pub(super) struct OutboundSocket {
    out: PartSender,
    guard: Arc<Guard>,
    /// The rest of a message that is being cut.
    cutting: Option<(WsKind, Bytes)>,
    closing: bool,
}

impl OutboundSocket {
    pub(super) fn new(guard: Arc<Guard>, lines: &Lines) -> Self {
        Self { out: PartSender::new(Arc::clone(guard.shared()), lines), guard, cutting: None, closing: false }
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        while let Some((kind, mut data)) = self.cutting.take() {
            match self.out.poll_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => {
                    self.cutting = Some((kind, data));
                    return Poll::Pending;
                }
            }
            let piece = data.split_to(data.len().min(MAX_PART));
            let end = data.is_empty();
            self.out.send(Part::Ws { kind, data: piece, end })?;
            if !end {
                self.cutting = Some((kind, data));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink<Event> for OutboundSocket {
    type Error = ForwardError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        ready!(self.poll_cut(cx))?;
        self.out.poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, event: Event) -> Result<(), ForwardError> {
        let (kind, mut data) = match event {
            Event::Text(data) => (WsKind::Text, data),
            Event::Binary(data) => (WsKind::Binary, data),
            Event::Ping(data) => (WsKind::Ping, data),
            Event::Pong(data) => (WsKind::Pong, data),
            Event::Close(close) => {
                self.guard.closed(Direction::Out);
                self.closing = true;
                return self.out.send(Part::Teardown { code: close.code, reason: close.reason });
            }
        };
        let piece = data.split_to(data.len().min(MAX_PART));
        let end = data.is_empty();
        if !end {
            self.cutting = Some((kind, data));
        }
        self.out.send(Part::Ws { kind, data: piece, end })
    }

    /// Everything is with the driver, which sends it as soon as there is credit. After a close that is waited for: a
    /// slow reader's last messages must not fall to the haste of those who only wait for its answer.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        ready!(self.poll_cut(cx))?;
        ready!(self.out.poll_flush(cx))?;
        let shared = &self.out.shared;
        // An exchange that is over ends this direction too, even while nothing is to be sent.
        if self.closing { shared.poll_drained(cx) } else { shared.poll_open(cx) }.map_err(|()| gone())
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    /// A request that comes back unsent goes to another session, with all that was looked at.
    #[tokio::test]
    async fn a_body_that_was_looked_at_is_restored_whole() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]);
        let mut pieces = Pieces::new(Body::trailers(trailers.clone()));
        let (first, end) = pieces.first().await.unwrap();
        assert!(first.is_empty() && !end, "trailers are still to come");
        let restored = pieces.restore(first).unwrap().collect().await.unwrap();
        assert_eq!(restored.trailers(), Some(&trailers));

        let long = vec![7; MAX_PART + 1];
        let mut pieces = Pieces::new(Body::full(long.clone()));
        let (first, end) = pieces.first().await.unwrap();
        assert_eq!((first.len(), end), (MAX_PART, false));
        let restored = pieces.restore(first).unwrap().collect().await.unwrap();
        assert_eq!(restored.to_bytes(), long);
    }
}
