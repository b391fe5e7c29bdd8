//! Tells of each exchange when it has ended: what was asked, what came of it, how much passed and how long it took.
//!
//! A stage like any other; changes nothing that passes. Nothing is allocated for a piece of a body.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context as TaskContext, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use http::{Method, StatusCode, uri::PathAndQuery};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Event, ExchangeSummary, Outcome};
use crate::exchange::{
    Accepted, Answer, Body, ErrorKind, ExchangeId, Forward, ForwardError, ForwardFuture, Request,
    websocket::{Duplex, Event as Message},
};

type Report = Arc<dyn Fn(Event) + Send + Sync>;

/// Reports each exchange of the next stage once, when it has ended: with its last byte, or because it broke off,
/// failed or was cancelled.
pub struct Summarised {
    /// The stage that answers.
    pub next: Arc<dyn Forward>,
    /// Takes [`Event::Exchange`].
    pub report: Report,
}

impl Forward for Summarised {
    fn forward(&self, mut request: Request) -> ForwardFuture<'_> {
        let summary = Summary::of(&mut request, Arc::clone(&self.report));
        let answering = self.next.forward(request);
        Box::pin(async move { summary.observe(answering.await) })
    }
}

/// What is known so far; reports itself when dropped.
struct Summary {
    exchange: ExchangeId,
    method: Method,
    path: PathAndQuery,
    outcome: Outcome,
    /// Nothing where the request has no body.
    bytes_in: Option<Arc<AtomicU64>>,
    bytes_out: u64,
    started: Instant,
    report: Report,
}

impl Summary {
    fn of(request: &mut Request, report: Report) -> Self {
        // An empty body stays one: stages after this look whether there is a body at all.
        let bytes_in = (!request.body.is_end_stream()).then(|| {
            let (body, bytes) = (std::mem::take(&mut request.body), Arc::new(AtomicU64::new(0)));
            request.body = Body::stream(RequestBody { body, bytes: Arc::clone(&bytes) });
            bytes
        });
        Self {
            exchange: request.context.exchange,
            method: request.head.method.clone(),
            path: request.head.target.clone(),
            // Stands until there is an answer: dropping a future cancels its exchange.
            outcome: Outcome::Failed(ErrorKind::Cancelled),
            bytes_in,
            bytes_out: 0,
            started: Instant::now(),
            report,
        }
    }

    fn observe(mut self, answer: Result<Answer, ForwardError>) -> Result<Answer, ForwardError> {
        match answer {
            Err(error) => {
                self.outcome = Outcome::Failed(error.kind());
                Err(error)
            }
            Ok(Answer::Http(mut response)) => {
                self.outcome = Outcome::Broken(response.status);
                if response.body.is_end_stream() {
                    self.complete();
                } else {
                    response.body = Body::stream(ResponseBody { body: response.body, summary: Some(self) });
                }
                Ok(Answer::Http(response))
            }
            Ok(Answer::WebSocket(accepted)) => {
                self.outcome = Outcome::Status(StatusCode::SWITCHING_PROTOCOLS);
                Ok(Answer::WebSocket(watch(accepted, self)))
            }
        }
    }

    /// All of the answer has passed.
    fn complete(&mut self) {
        if let Outcome::Broken(status) = self.outcome {
            self.outcome = Outcome::Status(status);
        }
    }
}

impl Drop for Summary {
    fn drop(&mut self) {
        (self.report)(Event::Exchange(ExchangeSummary {
            exchange: self.exchange,
            method: self.method.clone(),
            path: self.path.clone(),
            outcome: self.outcome,
            bytes_in: self.bytes_in.as_ref().map_or(0, |bytes| bytes.load(Relaxed)),
            bytes_out: self.bytes_out,
            time: self.started.elapsed(),
        }));
    }
}

struct RequestBody {
    body: Body,
    bytes: Arc<AtomicU64>,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
            self.bytes.fetch_add(data.map_or(0, Bytes::len) as u64, Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct ResponseBody {
    body: Body,
    /// Taken, and so reported, at the end.
    summary: Option<Summary>,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        // Whoever reads a body may stop at its last piece, without asking for the end.
        let ended = frame.is_none() || (matches!(frame, Some(Ok(_))) && self.body.is_end_stream());
        if let Some(summary) = &mut self.summary {
            if let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
                summary.bytes_out += data.map_or(0, Bytes::len) as u64;
            }
            if ended {
                summary.complete();
            }
        }
        if ended || matches!(frame, Some(Err(_))) {
            self.summary = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Counts the messages of a WebSocket both ways; reports when both halves are gone.
fn watch(accepted: Accepted, mut summary: Summary) -> Accepted {
    let from_visitor = Arc::clone(summary.bytes_in.get_or_insert_default());
    let messages = Arc::new(Messages { to_visitor: AtomicU64::new(0), from_visitor, summary });
    let Duplex { incoming, outgoing } = accepted.duplex;
    let incoming = Box::pin(Incoming { stream: incoming, messages: Arc::clone(&messages) });
    let outgoing = Box::pin(Outgoing { sink: outgoing, messages });
    Accepted { headers: accepted.headers, duplex: Duplex { incoming, outgoing } }
}

struct Messages {
    to_visitor: AtomicU64,
    from_visitor: Arc<AtomicU64>,
    summary: Summary,
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.summary.bytes_out = self.to_visitor.load(Relaxed);
    }
}

fn payload(message: &Message) -> u64 {
    match message {
        Message::Text(bytes) | Message::Binary(bytes) => bytes.len() as u64,
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => 0,
    }
}

struct Incoming {
    stream: Pin<Box<dyn Stream<Item = Message> + Send>>,
    messages: Arc<Messages>,
}

impl Stream for Incoming {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Message>> {
        let message = ready!(self.stream.as_mut().poll_next(cx));
        self.messages.to_visitor.fetch_add(message.as_ref().map_or(0, payload), Relaxed);
        Poll::Ready(message)
    }
}

struct Outgoing {
    sink: Pin<Box<dyn Sink<Message, Error = ForwardError> + Send>>,
    messages: Arc<Messages>,
}

impl Sink<Message> for Outgoing {
    type Error = ForwardError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), ForwardError>> {
        self.sink.as_mut().poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), ForwardError> {
        self.messages.from_visitor.fetch_add(payload(&message), Relaxed);
        self.sink.as_mut().start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), ForwardError>> {
        self.sink.as_mut().poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), ForwardError>> {
        self.sink.as_mut().poll_close(cx)
    }
}

#[cfg(test)]
#[path = "tests/summary.rs"]
mod tests;
