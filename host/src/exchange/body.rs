//! A body on its way: empty, one piece, or a stream of pieces with optional trailers.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use super::ForwardError;

/// The one body type of all stages. Errors end the body; what came before stands.
pub struct Body(Inner);

enum Inner {
    Empty,
    Full(Bytes),
    /// Few bodies have them, and all have room for what is here.
    Trailers(Box<HeaderMap>),
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = ForwardError> + Send>>),
}

impl Body {
    /// No body at all.
    pub fn empty() -> Self {
        Self(Inner::Empty)
    }

    /// A body that is already here, in one piece.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self(Inner::Full(bytes)) }
    }

    /// A body without data that ends with these trailers (RFC 9110 section 6.5).
    pub fn trailers(trailers: HeaderMap) -> Self {
        Self(Inner::Trailers(Box::new(trailers)))
    }

    /// A streamed body.
    pub fn stream(body: impl HttpBody<Data = Bytes, Error = ForwardError> + Send + 'static) -> Self {
        Self(Inner::Stream(Box::pin(body)))
    }

    /// A streamed body whose pieces or errors are of another type.
    pub fn wrap<B>(body: B, error: impl FnMut(B::Error) -> ForwardError + Send + 'static) -> Self
    where
        B: HttpBody + Send + 'static,
        B::Data: Buf + Send,
    {
        Self::stream(
            body.map_frame(|frame| frame.map_data(|mut d| d.copy_to_bytes(d.remaining()))).map_err(error),
        )
    }

    /// The same body, which keeps something until it is dropped.
    pub fn keeping(self, kept: impl Send + Unpin + 'static) -> Self {
        Self::stream(Keeping { body: self, _kept: kept })
    }

    /// A body that gives `first` and then what is left of `rest`.
    pub fn prefixed(first: Bytes, rest: Body) -> Self {
        if first.is_empty() { rest } else { Self::stream(Prefixed { first, rest }) }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        match &mut self.0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Trailers(trailers) => {
                let trailers = std::mem::take(trailers);
                self.0 = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::trailers(*trailers))))
            }
            Inner::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Full(_) | Inner::Trailers(_) => false,
            Inner::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty | Inner::Trailers(_) => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Stream(stream) => stream.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Empty => f.write_str("Body::Empty"),
            Inner::Full(bytes) => write!(f, "Body::Full({} bytes)", bytes.len()),
            Inner::Trailers(_) => f.write_str("Body::Trailers"),
            Inner::Stream(_) => f.write_str("Body::Stream"),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

struct Keeping<T> {
    body: Body,
    _kept: T,
}

impl<T: Unpin> HttpBody for Keeping<T> {
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

struct Prefixed {
    first: Bytes,
    rest: Body,
}

impl HttpBody for Prefixed {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.rest).poll_frame(cx);
        }
        let first = std::mem::take(&mut self.first);
        Poll::Ready(Some(Ok(Frame::data(first))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.size_hint();
        let first = self.first.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(first)) {
            hint.set_upper(upper);
        }
        hint
    }
}
