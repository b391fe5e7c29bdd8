//! Stages of a way that put spans around what follows them.

use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use http_body::Body as _;

use super::{Hop, Span, Taken, Tracer};
use crate::exchange::{Answer, Asked, Forward, ForwardError, ForwardFuture, Request, Witness};

/// A span for each exchange as it comes in, and for each plugin that is asked further on.
pub struct Inward {
    tracer: Tracer,
    next: Arc<dyn Forward>,
}

impl Inward {
    /// Before this stage. Whoever sends exchanges here decides what is recorded.
    pub fn new(tracer: Tracer, next: Arc<dyn Forward>) -> Self {
        Self { tracer, next }
    }
}

impl Forward for Inward {
    fn forward(&self, mut request: Request) -> ForwardFuture<'_> {
        let span = self.tracer.serve(&mut request, None, Taken::Believed);
        let shared = Arc::new(Shared(Mutex::new(Some(span))));
        request.context.witness = Some(Arc::clone(&shared) as Arc<dyn Witness>);
        let answering = self.next.forward(request);
        Box::pin(async move { around(answering.await, Ending(shared)) })
    }
}

/// A span for each exchange as it goes on.
pub struct Onward {
    tracer: Tracer,
    hop: Hop,
    next: Arc<dyn Forward>,
}

impl Onward {
    /// Before this stage, which leads to the hop.
    pub fn new(tracer: Tracer, hop: Hop, next: Arc<dyn Forward>) -> Self {
        Self { tracer, hop, next }
    }
}

impl Forward for Onward {
    fn forward(&self, mut request: Request) -> ForwardFuture<'_> {
        let span = self.tracer.call(&mut request, &self.hop);
        let ending = Ending(Arc::new(Shared(Mutex::new(Some(span)))));
        let answering = self.next.forward(request);
        Box::pin(async move { around(answering.await, ending) })
    }
}

/// A span that the stages behind tell of what they do.
struct Shared(Mutex<Option<Span>>);

impl Shared {
    fn with(&self, f: impl FnOnce(&mut Span)) {
        if let Some(span) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            f(span);
        }
    }
}

impl Witness for Shared {
    fn asked(&self, asked: &Asked<'_>) {
        self.with(|span| span.asked(asked));
    }

    fn taken(&self, _: u64) {}
}

/// Ends the span when it is dropped: with the last piece of an answer, or because nobody waits any more.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        // The witness may live on; the span doesn't.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn around(answer: Result<Answer, ForwardError>, ending: Ending) -> Result<Answer, ForwardError> {
    match answer {
        Ok(Answer::Http(mut response)) => {
            ending.0.with(|span| span.answered(response.status));
            if !response.body.is_end_stream() {
                response.body = response.body.keeping(ending);
            }
            Ok(Answer::Http(response))
        }
        Ok(Answer::WebSocket(mut accepted)) => {
            ending.0.with(|span| span.answered(StatusCode::SWITCHING_PROTOCOLS));
            accepted.duplex = accepted.duplex.keeping(ending);
            Ok(Answer::WebSocket(accepted))
        }
        Err(error) => {
            ending.0.with(|span| span.failed(error.kind().code()));
            Err(error)
        }
    }
}
