//! A connection to the origin by HTTP/1.1, which carries one exchange after another.
//!
//! Owns how an exchange is sent on it, and what becomes of one whose connection ends. Whoever has the exchange drives the
//! connection: with a task for each connection every request would wake that task, and every answer would be woken
//! by it, through channels that cost more than the bytes. Must not know what else is kept; `pool` does.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    thread,
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{Builder, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use tokio::task::unconstrained;

use super::{
    connect::Stream,
    listening::{Listener, Listening},
    origin_body::RequestBody,
};
use crate::wire;

/// Header fields of an answer; HAProxy takes 101. For more the HTTP library makes room on the heap, 16 kB of it for each answer.
pub(super) const MOST_FIELDS: usize = 100;

/// One connection.
///
/// When it is dropped it ends, and with it the exchange that it carried.
pub(super) struct Line {
    // Gone before the connection, which knows by that that nothing more follows.
    sender: SendRequest<RequestBody>,
    connection: Connection,
    heard: Heard,
    /// It has carried an exchange before.
    reused: bool,
}

/// A request that a connection has.
pub(super) struct Begun {
    /// The connection has carried an exchange before.
    reused: bool,
    /// In a box, because it has room for the request, and so would all that wait for it.
    response: BoxFuture<'static, Result<Response<Incoming>, Unanswered>>,
}

type Unanswered = TrySendError<Request<RequestBody>>;

/// What became of a request.
pub(super) enum Sent {
    /// The head of the final response is here.
    Answered(Response<Incoming>),
    /// It was never begun, because the connection, kept from an earlier exchange, had ended.
    Unsent(Box<Request<RequestBody>>),
    /// The connection, kept from an earlier exchange, ended before a single byte of the answer came. The origin may have
    /// closed it in the very moment in which the request was on its way.
    Crossed(hyper::Error),
    /// Nobody knows what the origin did with it.
    Failed(hyper::Error),
}

impl Line {
    /// Makes a new connection ready for its first request.
    pub(super) async fn new(io: Stream) -> hyper::Result<Self> {
        let heard = Heard::default();
        let io = TokioIo::new(Listening::new(io, heard.clone()));
        let (sender, connection) = Builder::new()
            // What is read at once travels as two parts; a larger buffer would only hold more for slow visitors.
            .max_buf_size(2 * wire::MAX_PART)
            .allow_obsolete_multiline_headers_in_responses(true)
            .handshake(io)
            .await?;
        let connection = Connection(Some(Box::pin(connection.with_upgrades())));
        Ok(Self { sender, connection, heard, reused: false })
    }

    /// Takes a request, which goes out as soon as somebody waits for its [`outcome`](Self::outcome).
    pub(super) fn begin(mut self: Box<Self>, request: Request<RequestBody>) -> (Box<Self>, Begun) {
        let reused = std::mem::replace(&mut self.reused, true);
        self.heard.forget();
        let response = Box::pin(self.sender.try_send_request(request));
        (self, Begun { reused, response })
    }

    /// Waits for the head of the final response.
    ///
    /// That the connection ended while it was idle is seen here: nobody looks before.
    pub(super) async fn outcome(&mut self, begun: Begun) -> Sent {
        let Begun { reused, response } = begun;
        let mut failed = match self.connection.drive(response).await {
            Ok(response) => return Sent::Answered(response),
            Err(failed) => failed,
        };
        if reused && let Some(unsent) = failed.take_message() {
            return Sent::Unsent(Box::new(unsent));
        }
        let error = failed.into_error();
        if reused && !self.heard.anything() && ended(&error) {
            return Sent::Crossed(error);
        }
        Sent::Failed(error)
    }

    /// Drives the connection until what can only come of that is there.
    pub(super) async fn drive<T>(&mut self, outcome: impl Future<Output = T>) -> T {
        self.connection.drive(outcome).await
    }

    /// Drives the connection; ready when it has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.connection.poll(cx)
    }

    /// Whether the exchange is over in both directions, and another may follow.
    pub(super) fn is_ready(&self) -> bool {
        !self.is_over() && self.sender.is_ready()
    }

    /// Whether the connection has ended.
    pub(super) fn is_over(&self) -> bool {
        self.connection.0.is_none()
    }

    /// Drives the connection until the exchange is over in both directions; whether another may follow.
    pub(super) async fn settled(&mut self) -> bool {
        poll_fn(|cx| {
            let ended = self.poll(cx).is_ready();
            if ended || self.is_ready() { Poll::Ready(!ended) } else { Poll::Pending }
        })
        .await
    }
}

/// What is driven; nothing when it has ended.
struct Connection(Option<BoxFuture<'static, hyper::Result<()>>>);

impl Connection {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = &mut self.0 else { return Poll::Ready(()) };
        if let Err(error) = ready!(connection.as_mut().poll(cx)) {
            tracing::debug!(%error, "a connection to the origin broke off");
        }
        // Only now does the library hand back what was never begun.
        self.0 = None;
        Poll::Ready(())
    }

    /// The same without a task to be woken, and whatever the task has done before.
    fn poll_unwatched(&mut self) -> Poll<()> {
        unwatched(|cx| self.poll(cx))
    }

    async fn drive<T>(&mut self, outcome: impl Future<Output = T>) -> T {
        let mut outcome = pin!(outcome);
        poll_fn(|cx| {
            let _ = self.poll(cx);
            // Only what was done just now can have made it ready, so it needn't wake this task a second time.
            unwatched(|cx| outcome.as_mut().poll(cx))
        })
        .await
    }
}

impl Drop for Connection {
    /// Takes leave, which TLS has a word for; it is a few bytes, for which there is room or nobody who waits for them.
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = self.poll_unwatched();
        }
    }
}

/// Polls without a task to be woken. What has to do with the runtime must not think that it is another's turn: its way to
/// give way is to say that nothing is ready and to wake the task, and here there is none.
pub(super) fn unwatched<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    let polled = unconstrained(poll_fn(|cx| poll(cx)));
    pin!(polled).poll(&mut Context::from_waker(Waker::noop()))
}

/// Whether the connection ended, and nothing else went wrong.
fn ended(error: &hyper::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    if error.is_incomplete_message() {
        return true;
    }
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let kind = error.kind();
            return matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected);
        }
        cause = error.source();
    }
    false
}

/// Whether anything was read. Only whoever drives the connection writes it.
#[derive(Clone, Default)]
struct Heard(Arc<AtomicBool>);

impl Heard {
    fn forget(&self) {
        self.0.store(false, Relaxed);
    }

    fn anything(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Listener for Heard {
    fn heard(&mut self) {
        self.0.store(true, Relaxed);
    }
}
