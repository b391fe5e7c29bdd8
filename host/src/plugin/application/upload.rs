//! A request's body on its way to the guest.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;
use wasmtime_wasi_http::Error;

use crate::exchange::{Body, Interim};

/// When the guest last got a piece. The time that it may take for its answer begins anew with each: a slow upload is not
/// its fault.
#[derive(Clone)]
pub(super) struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn made(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When it has taken too long.
    pub(super) fn deadline(&self, wait: Duration) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) + wait
    }
}

pub(super) struct Upload {
    body: Body,
    progress: Progress,
    /// The visitor waits for a word before it sends the body (RFC 9110 section 10.1.1).
    wanted: Option<Interim>,
}

impl Upload {
    pub(super) fn new(body: Body, progress: Progress, wanted: Option<Interim>) -> Self {
        Self { body, progress, wanted }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(wanted) = self.wanted.take() {
            wanted(StatusCode::CONTINUE, HeaderMap::new());
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.progress.made();
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| {
                tracing::debug!(%error, "a request's body broke off on its way to an application");
                Error::ConnectionTerminated
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
