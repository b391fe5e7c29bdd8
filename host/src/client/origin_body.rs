//! The bodies of one exchange with the origin, and what ties them together.
//!
//! The HTTP library owns the request's body while the answer is ours. [`Upload`] is the thread between the two: it
//! holds the body back until it is wanted (RFC 9110 section 10.1.1) and keeps the error that ended it. When nobody
//! waits for the answer any more, the library drops the connection and with it the body.

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
        Arc::new(Self(Mutex::new(State { gate, failure: None, waker: None, interim })))
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

    /// Why the request's body ended early, if it did: the reason behind whatever the HTTP library says.
    pub(super) fn take_failure(&self) -> Option<ForwardError> {
        self.lock().failure.take()
    }
}

/// A request's body on its way to the origin.
pub(super) struct RequestBody {
    body: Body,
    upload: Arc<Upload>,
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
        Self { body, upload, passed: false, patience: None }
    }

    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.passed {
            return Poll::Ready(());
        }
        {
            let mut state = self.upload.lock();
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
        self.upload.wanted();
        Poll::Ready(())
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
            self.upload.lock().failure = Some(error);
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
    pub(super) body: Incoming,
    pub(super) upload: Arc<Upload>,
    /// The origin as configured, for messages.
    pub(super) url: Arc<str>,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(polled.map(|frame| {
            frame.map_err(|error| {
                self.upload.take_failure().unwrap_or_else(|| {
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
