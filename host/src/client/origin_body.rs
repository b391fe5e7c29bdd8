//! The bodies of one exchange with the origin, and what ties them together.
//!
//! The HTTP library owns the request's body while the answer is ours. [`Upload`] is the thread between the two: it
//! holds the body back until it is wanted (RFC 9110 section 10.1.1) and keeps the error that ended it. An answer that
//! isn't here yet holds its connection and drives it; when nobody wants the answer any more, the connection is dropped with it,
//! and with that the request's body.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use super::{
    kept::{Line, unwatched},
    pool::Pool,
};
use crate::exchange::{Body, ErrorKind, ForwardError, Interim};

/// How long a body with `Expect: 100-continue` waits for the origin's word. Many servers never give it; RFC 9110
/// section 10.1.1 forbids to wait for ever.
const EXPECTATION: Duration = Duration::from_secs(1);

/// The state of a request's body, shared by whoever sends it and whoever reads the answer.
pub(super) struct Upload(Mutex<State>);

struct State {
    gate: Gate,
    failure: Option<ForwardError>,
    waker: Option<Waker>,
    interim: Option<Interim>,
    /// The HTTP library has no use for the body any more.
    over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// The body waits to be asked for.
    Closed,
    Open,
}

impl Upload {
    /// `expects` says that the body is to wait until it is asked for.
    pub(super) fn new(expects: bool, interim: Option<Interim>) -> Arc<Self> {
        let gate = if expects { Gate::Closed } else { Gate::Open };
        Arc::new(Self(Mutex::new(State { gate, failure: None, waker: None, interim, over: false })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An interim response came from the origin.
    pub(super) fn interim(&self, status: StatusCode, headers: HeaderMap) {
        if status == StatusCode::CONTINUE {
            return self.wanted();
        }
        // The receiver may do as it likes, so it is not called under the lock.
        let interim = self.lock().interim.clone();
        if let Some(interim) = interim {
            interim(status, headers);
        }
    }

    /// The body is wanted: whoever holds it is asked for it, once.
    pub(super) fn wanted(&self) {
        let interim = {
            let state = self.lock();
            if state.gate == Gate::Open {
                return;
            }
            state.interim.clone()
        };
        if let Some(interim) = interim {
            interim(StatusCode::CONTINUE, HeaderMap::new());
        }
        self.open();
    }

    /// The final response came; the origin may read on, so the body goes out if it comes.
    pub(super) fn open(&self) {
        let waker = {
            let mut state = self.lock();
            state.gate = Gate::Open;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether some of the body may still have to go out.
    pub(super) fn goes_on(&self) -> bool {
        !self.lock().over
    }

    /// Why the request's body ended early, if it did: the reason behind whatever the HTTP library says.
    pub(super) fn take_failure(&self) -> Option<ForwardError> {
        self.lock().failure.take()
    }
}

/// A request's body on its way to the origin.
pub(super) struct RequestBody {
    body: Body,
    /// Nothing where there is no body, which most requests don't have.
    upload: Option<Arc<Upload>>,
    /// The gate was found open; it never closes again.
    passed: bool,
    patience: Option<Pin<Box<Sleep>>>,
}

/// The body ended early; [`Upload`] has the reason. By HTTP/2 the origin is told CANCEL, and not that something went wrong.
#[derive(Debug, thiserror::Error)]
#[error("the request's body ended early")]
pub(super) struct EndedEarly(#[source] h2::Error);

impl RequestBody {
    pub(super) fn new(body: Body, upload: Arc<Upload>) -> Self {
        Self { body, upload: Some(upload), passed: false, patience: None }
    }

    /// No body at all.
    pub(super) fn none() -> Self {
        Self { body: Body::empty(), upload: None, passed: true, patience: None }
    }

    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(upload) = self.upload.as_ref().filter(|_| !self.passed) else {
            return Poll::Ready(());
        };
        {
            let mut state = upload.lock();
            if state.gate == Gate::Open {
                self.passed = true;
                return Poll::Ready(());
            }
            state.waker = Some(cx.waker().clone());
        }
        // Polled for the first time when the head has been written.
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(EXPECTATION)));
        if patience.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        upload.wanted();
        Poll::Ready(())
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.lock().over = true;
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = EndedEarly;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EndedEarly>>> {
        ready!(self.poll_gate(cx));
        Pin::new(&mut self.body).poll_frame(cx).map_err(|error| {
            if let Some(upload) = &self.upload {
                upload.lock().failure = Some(error);
            }
            EndedEarly(h2::Reason::CANCEL.into())
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body as it comes from the origin.
pub(super) struct ResponseBody {
    // Gone before the connection, which is told by that to end.
    pub(super) body: Incoming,
    /// The connection, where nobody else drives it, and where it goes when the body has ended.
    pub(super) line: Option<(Box<Line>, Pool)>,
    pub(super) upload: Option<Arc<Upload>>,
    /// The origin as configured, for messages.
    pub(super) url: Arc<str>,
}

impl ResponseBody {
    /// A body that may still be on its way.
    pub(super) fn arriving(self) -> Body {
        if self.body.is_end_stream() { Body::empty() } else { Body::stream(self) }
    }

    /// A body whose last byte was read with the head, as most that are short.
    pub(super) fn arrived(mut self) -> Body {
        if self.body.size_hint().exact().is_none() {
            return self.arriving();
        }
        let first = unwatched(|cx| Pin::new(&mut self.body).poll_frame(cx));
        let Poll::Ready(Some(Ok(frame))) = first else { return self.arriving() };
        let Ok(piece) = frame.into_data() else { return self.arriving() };
        if self.body.is_end_stream() { Body::full(piece) } else { Body::prefixed(piece, self.arriving()) }
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some((line, _)) = &mut self.line else { return Pin::new(&mut self.body).poll_frame(cx) };
        let body = &mut self.body;
        let mut arrived = || unwatched(|cx| Pin::new(&mut *body).poll_frame(cx));
        // It can be here by what the connection has done, and by nothing else.
        if let Poll::Ready(frame) = arrived() {
            return Poll::Ready(frame);
        }
        let _ = line.poll(cx);
        arrived()
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        let polled = ready!(self.poll_incoming(cx));
        // Nobody has to ask for more after trailers, or after the last byte of an announced length.
        let more = matches!(&polled, Some(Ok(frame)) if frame.is_data()) && !self.body.is_end_stream();
        if !more && let Some((line, pool)) = self.line.take() {
            pool.take_back(line);
        }
        Poll::Ready(polled.map(|frame| {
            frame.map_err(|error| {
                self.upload.as_ref().and_then(|upload| upload.take_failure()).unwrap_or_else(|| {
                    let detail = format!("{} broke off in the middle of its answer", self.url);
                    ForwardError::new(ErrorKind::OriginFailed, detail).because(error)
                })
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[path = "tests/origin_body.rs"]
mod tests;
