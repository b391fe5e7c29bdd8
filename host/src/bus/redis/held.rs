//! How busy we keep another node: counted until an exchange has ended, with its body or its WebSocket.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::exchange::{
    Answer, Body, ForwardError,
    websocket::{Duplex, Event},
};

/// An exchange that is under way at another node until this is dropped.
pub(super) struct Held(Arc<AtomicUsize>);

impl Held {
    pub(super) fn new(busy: Arc<AtomicUsize>) -> Self {
        busy.fetch_add(1, Ordering::Relaxed);
        Self(busy)
    }

    /// Goes with what is left of the answer.
    pub(super) fn with(self, mut answer: Answer) -> Answer {
        match &mut answer {
            // A short answer is here already.
            Answer::Http(response) if response.body.size_hint().exact().is_some() => {}
            Answer::Http(response) => {
                let body = std::mem::take(&mut response.body);
                response.body = Body::stream(HeldBody { body, _held: self });
            }
            Answer::WebSocket(accepted) => {
                let Duplex { incoming, .. } = &mut accepted.duplex;
                let inner = std::mem::replace(incoming, Box::pin(futures_util::stream::empty()));
                *incoming = Box::pin(HeldEvents { inner, _held: self });
            }
        }
        answer
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct HeldBody {
    body: Body,
    _held: Held,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct HeldEvents {
    inner: Pin<Box<dyn Stream<Item = Event> + Send>>,
    _held: Held,
}

impl Stream for HeldEvents {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.inner.as_mut().poll_next(cx)
    }
}
