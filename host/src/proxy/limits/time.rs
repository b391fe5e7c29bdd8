//! How long an answer's head may take.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use crate::exchange::{Answer, Body, ErrorKind, Forward, ForwardError, ForwardFuture, Request};

/// Gives up on an answer whose head doesn't come in time. The time begins anew with each part of the request's body
/// that is taken, so that a long upload isn't a late answer.
pub(crate) struct AnswerTimeout {
    next: Arc<dyn Forward>,
    limit: Duration,
    /// What an operator may change.
    setting: &'static str,
}

impl AnswerTimeout {
    /// The longest wait.
    pub(crate) fn new(limit: Duration, next: Arc<dyn Forward>) -> Self {
        Self { next, limit, setting: "answer_timeout" }
    }

    /// Names another setting where the limit is told of.
    pub(crate) fn set_by(self, setting: &'static str) -> Self {
        Self { setting, ..self }
    }

    async fn with_body(&self, mut request: Request) -> Result<Answer, ForwardError> {
        let upload = Arc::new(Upload(Mutex::new(Progress { last: Instant::now(), stalled: false })));
        request.body = Body::stream(Watched { inner: request.body, upload: upload.clone() });
        let mut answer = self.next.forward(request);
        let mut deadline = Instant::now() + self.limit;
        loop {
            if let Ok(answer) = tokio::time::timeout_at(deadline, &mut answer).await {
                return answer;
            }
            let Progress { last, stalled } = *upload.lock();
            deadline = last + self.limit;
            if deadline <= Instant::now() {
                return Err(if stalled { self.stalled() } else { self.late() });
            }
        }
    }

    fn late(&self) -> ForwardError {
        let detail =
            format!("no answer came within {:?}, the limit of this proxy ({})", self.limit, self.setting);
        ForwardError::new(ErrorKind::TimedOut, detail)
    }

    fn stalled(&self) -> ForwardError {
        let detail = format!("nothing more of the request's body arrived for {:?}", self.limit);
        ForwardError::new(ErrorKind::RequestTimedOut, detail)
    }
}

impl Forward for AnswerTimeout {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        if !request.body.is_end_stream() {
            return Box::pin(self.with_body(request));
        }
        let answer = tokio::time::timeout(self.limit, self.next.forward(request));
        Box::pin(answer.map(|answer| answer.unwrap_or_else(|_| Err(self.late()))))
    }
}

/// How far a request's body got.
struct Upload(Mutex<Progress>);

#[derive(Clone, Copy)]
struct Progress {
    /// When a part was last taken.
    last: Instant,
    /// Whether someone waits for the next part.
    stalled: bool,
}

impl Upload {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watched {
    inner: Body,
    upload: Arc<Upload>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if polled.is_pending() {
            self.upload.lock().stalled = true;
        }
        let frame = ready!(polled);
        *self.upload.lock() = Progress { last: Instant::now(), stalled: false };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Whoever stops reading no longer waits for the visitor.
        self.upload.lock().stalled = false;
    }
}
