//! How large the bodies of an exchange may be.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use bytesize::ByteSize;
use http::{HeaderMap, Method, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;

use crate::exchange::{Answer, Body, ErrorKind, Forward, ForwardError, ForwardFuture, Request, Response};

/// Refuses bodies that are too large: by their announced length before anything is forwarded, else on the way.
pub(crate) struct BodyLimit {
    next: Arc<dyn Forward>,
    limit: Option<u64>,
    /// What an operator may change.
    setting: &'static str,
}

/// A limit in bytes, and where it is set.
#[derive(Clone, Copy)]
struct Bound {
    bytes: u64,
    setting: &'static str,
}

impl BodyLimit {
    /// A limit in bytes for each request's and each response's body; `None` lets everything pass.
    pub(crate) fn new(limit: Option<u64>, next: Arc<dyn Forward>) -> Self {
        Self { next, limit, setting: "--max-body" }
    }

    /// Names another setting where the limit is told of.
    pub(crate) fn set_by(self, setting: &'static str) -> Self {
        Self { setting, ..self }
    }
}

impl Forward for BodyLimit {
    fn forward(&self, mut request: Request) -> ForwardFuture<'_> {
        let Some(limit) = self.limit else { return self.next.forward(request) };
        let limit = Bound { bytes: limit, setting: self.setting };
        Box::pin(async move {
            let bodiless = request.head.method == Method::HEAD;
            let size = request.body.size_hint();
            if size.lower() > limit.bytes {
                return Err(request_too_large(limit));
            }
            let answer = if size.upper().is_some_and(|upper| upper <= limit.bytes) {
                self.next.forward(request).await?
            } else {
                let (tripped, trip) = oneshot::channel();
                request.body = Body::stream(Capped::new(request.body, limit, Some(tripped)));
                watch(self.next.forward(request), trip, limit).await?
            };
            match answer {
                Answer::Http(response) => limited(response, bodiless, limit).map(Answer::Http),
                websocket @ Answer::WebSocket(_) => Ok(websocket),
            }
        })
    }
}

/// Waits for the answer, but no longer once the request's body has turned out too large: the visitor shall hear the
/// true reason, whatever the stages behind make of a body that breaks off.
async fn watch(
    answer: ForwardFuture<'_>,
    mut trip: oneshot::Receiver<()>,
    limit: Bound,
) -> Result<Answer, ForwardError> {
    tokio::select! {
        biased;
        Ok(()) = &mut trip => Err(request_too_large(limit)),
        answer = answer => match answer {
            Err(_) if trip.try_recv().is_ok() => Err(request_too_large(limit)),
            answer => answer,
        }
    }
}

fn limited(mut response: Response, head_only: bool, limit: Bound) -> Result<Response, ForwardError> {
    // Their Content-Length speaks of a body that isn't sent (RFC 9110 section 8.6).
    if head_only || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(response);
    }
    let size = response.body.size_hint();
    let announced = content_length(&response.headers);
    if announced.unwrap_or(size.lower()) > limit.bytes {
        return Err(response_too_large(limit));
    }
    // With an announced length, hyper writes no byte beyond it.
    if announced.is_none() && size.upper().is_none_or(|upper| upper > limit.bytes) {
        response.body = Body::stream(Capped::new(response.body, limit, None));
    }
    Ok(response)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

fn request_too_large(limit: Bound) -> ForwardError {
    let Bound { bytes, setting } = limit;
    let detail = format!("the request's body is over {}, the limit of this proxy ({setting})", size(bytes));
    ForwardError::new(ErrorKind::RequestTooLarge { limit: bytes }, detail)
}

fn response_too_large(limit: Bound) -> ForwardError {
    let Bound { bytes, setting } = limit;
    let detail =
        format!("the service's response is over {}, the limit of this proxy ({setting})", size(bytes));
    ForwardError::new(ErrorKind::ResponseTooLarge { limit: bytes }, detail)
}

fn size(bytes: u64) -> String {
    // `100.0 kB` reads as if it had been measured.
    ByteSize(bytes).display().si().to_string().replace(".0 ", " ")
}

/// A body that breaks off at a limit.
struct Capped {
    inner: Body,
    limit: Bound,
    left: u64,
    over: bool,
    /// Told when the limit is passed; only a request has someone to tell.
    tripped: Option<oneshot::Sender<()>>,
    is_request: bool,
}

impl Capped {
    fn new(inner: Body, limit: Bound, tripped: Option<oneshot::Sender<()>>) -> Self {
        let is_request = tripped.is_some();
        Self { inner, limit, left: limit.bytes, over: false, tripped, is_request }
    }

    fn trip(&mut self) -> ForwardError {
        self.over = true;
        self.inner = Body::empty();
        if let Some(tripped) = self.tripped.take() {
            // Nobody waits any more once the answer's head is there.
            let _ = tripped.send(());
        }
        if self.is_request { request_too_large(self.limit) } else { response_too_large(self.limit) }
    }
}

impl HttpBody for Capped {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(self.trip()))),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        !self.over && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
