//! How busy we keep another node: counted until an exchange has ended, with its body or its WebSocket.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http_body::Body as _;

use crate::exchange::{Accepted, Answer, Response};

/// An exchange that is under way at another node until this is dropped.
pub(super) struct Held(Arc<AtomicUsize>);

impl Held {
    pub(super) fn new(busy: Arc<AtomicUsize>) -> Self {
        busy.fetch_add(1, Ordering::Relaxed);
        Self(busy)
    }

    /// Goes with what is left of the answer.
    pub(super) fn with(self, answer: Answer) -> Answer {
        match answer {
            // A short one is here already.
            Answer::Http(response) if response.body.size_hint().exact().is_some() => Answer::Http(response),
            Answer::Http(response) => {
                Answer::Http(Response { body: response.body.keeping(self), ..response })
            }
            Answer::WebSocket(accepted) => {
                Answer::WebSocket(Accepted { duplex: accepted.duplex.keeping(self), ..accepted })
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
