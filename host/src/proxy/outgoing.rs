//! A response's body as hyper writes it.
//!
//! Owns the differences between a [`Body`] and what may follow a head: nothing after HEAD, 204 and 304, no trailers
//! of one hop.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::ext::ReasonPhrase;

use super::{OpenExchange, interim::Turn, observe::Observed};
use crate::exchange::{Body, ErrorKind, ForwardError, Response, hygiene};

/// The body that hyper gets. Holds the exchange open until it is written, or dropped.
pub(super) struct Outgoing {
    body: Body,
    /// What the service's head announces, in bytes.
    length: Option<u64>,
    /// Looks like a body, so that hyper keeps the Content-Length of a 304, which it wouldn't beside none.
    phantom: bool,
    _exchange: Option<OpenExchange>,
    _turn: Option<Turn>,
    observed: Option<Watched>,
}

/// Who wants to know what passes, and how many bytes are still to come, where that is known.
struct Watched {
    observed: Arc<Observed>,
    left: Option<u64>,
}

impl Watched {
    fn saw(&mut self, frame: &Frame<Bytes>) {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.observed.sent(bytes);
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(bytes as u64);
            // Nobody asks a body of a known length for more than that.
            if *left == 0 {
                self.observed.whole();
            }
        }
    }
}

impl Outgoing {
    /// The same body for HTTP/2, where frames say that there is none, whatever Content-Length says.
    pub(super) fn in_frames(self) -> Self {
        Self { phantom: false, ..self }
    }

    /// The same body, told of as it passes.
    pub(super) fn observed(mut self, observed: Arc<Observed>) -> Self {
        let left = self.length.or(self.body.size_hint().exact());
        if self.body.is_end_stream() {
            observed.whole();
        }
        self.observed = Some(Watched { observed, left });
        self
    }

    /// The same body, which the proxy's answer in this turn ends with.
    pub(super) fn during(mut self, turn: Turn) -> Self {
        self._turn = Some(turn);
        self
    }
}

impl From<Body> for Outgoing {
    fn from(body: Body) -> Self {
        Self { body, length: None, phantom: false, _exchange: None, _turn: None, observed: None }
    }
}

/// Makes a response ready for hyper.
///
/// # Errors
/// The response isn't one that can be sent.
pub(super) fn response(
    mut response: Response,
    method: &Method,
    exchange: OpenExchange,
) -> Result<http::Response<Outgoing>, ForwardError> {
    if !(200..=599).contains(&response.status.as_u16()) {
        return Err(failed(format!("the service answered with the status {}", response.status.as_u16())));
    }
    hygiene::response(&mut response.headers);
    let length = content_length(&mut response.headers)?;
    let mut outgoing = Outgoing {
        body: response.body,
        length,
        phantom: false,
        _exchange: Some(exchange),
        _turn: None,
        observed: None,
    };
    match response.status {
        _ if method == Method::HEAD => outgoing.body = Body::empty(),
        StatusCode::NO_CONTENT => {
            outgoing.body = Body::empty();
            // RFC 9110 section 8.6: a 204 has none.
            if length.is_some() {
                response.headers.remove(header::CONTENT_LENGTH);
            }
        }
        StatusCode::NOT_MODIFIED => {
            outgoing.body = Body::empty();
            outgoing.phantom = length.is_some();
        }
        // Hyper trusts the header, and a body of another length would shift all that follows.
        _ => match (length, outgoing.body.size_hint().exact()) {
            (Some(length), Some(exact)) if length != exact => {
                return Err(failed("the service announced a length other than that of its response"));
            }
            _ => {}
        },
    }
    let mut head = http::Response::new(outgoing);
    *head.status_mut() = response.status;
    *head.headers_mut() = response.headers;
    if response.status.canonical_reason().is_none() {
        // Hyper would write "<none>"; RFC 9112 section 4 lets it be empty.
        head.extensions_mut().insert(ReasonPhrase::from_static(b""));
    }
    Ok(head)
}

/// Reads Content-Length and makes it one value (RFC 9110 section 8.6: repeats of the same number are one).
fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, ForwardError> {
    let mut length = None;
    let mut values = 0;
    for value in hygiene::tokens(headers, &header::CONTENT_LENGTH) {
        let digits = value.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(value).ok().filter(|_| digits);
        let parsed: Option<u64> = text.and_then(|text| text.parse().ok());
        if parsed.is_none() || (length.is_some() && length != parsed) {
            return Err(failed("the service sent a Content-Length that can't be right"));
        }
        length = parsed;
        values += 1;
    }
    if let (Some(length), 2..) = (length, values) {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(length)
}

fn failed(detail: impl Into<std::borrow::Cow<'static, str>>) -> ForwardError {
    ForwardError::new(ErrorKind::OriginFailed, detail)
}

/// A body that broke off, in a form that hyper takes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BrokenOff(String);

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        Poll::Ready(match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    hygiene::trailers(trailers);
                }
                if let Some(watched) = &mut self.observed {
                    watched.saw(&frame);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(BrokenOff(error.to_string()))),
            None => {
                if let Some(watched) = &self.observed {
                    watched.observed.whole();
                }
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        !self.phantom && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.phantom { SizeHint::default() } else { self.body.size_hint() }
    }
}
