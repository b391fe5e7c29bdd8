//! What can be wrong with the bytes of a request, in words for whoever sent them and in a word for the metric.

use http::StatusCode;

use crate::proxy::route::BadTarget;

/// Why a request is refused before anybody acts on it. Two programs might read it differently, and what one of them takes for a
/// body would be a request to the other (RFC 9112 section 11.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RFC 9112 section 2.2: one empty line is forgiven.
    #[error("more than one empty line stands before the request")]
    EmptyLines,
    /// RFC 9112 section 2.2.
    #[error("a line of the request's head or framing ends with LF alone; lines end with CRLF")]
    BareLf,
    /// RFC 9112 section 2.2.
    #[error("a CR stands alone in the request's head or framing; lines end with CRLF")]
    BareCr,
    /// RFC 9110 section 5.5.
    #[error("the request's head has a control character in it")]
    Control,
    /// RFC 9112 section 3.
    #[error("the request's first line isn't a method, a target and a version with one space between each")]
    RequestLine,
    /// RFC 9110 section 9.1.
    #[error("the request's method isn't a token")]
    Method,
    /// RFC 9110 section 9.3.8.
    #[error("a TRACE request has no body")]
    TraceBody,
    /// RFC 9112 section 2.3.
    #[error("the request's version isn't HTTP/1.1 or HTTP/1.0, which are spoken here")]
    Version,
    /// RFC 9112 section 2.2.
    #[error("whitespace stands before the request's first header field")]
    LeadingSpace,
    /// RFC 9112 section 5.2.
    #[error("a header field goes on in a second line, which is obsolete")]
    Fold,
    /// RFC 9112 section 5.1.
    #[error("whitespace stands between a header field's name and its colon")]
    SpaceBeforeColon,
    /// RFC 9110 section 5.1.
    #[error("the name of a header field is empty, too long, or not a token")]
    FieldName,
    /// RFC 9110 section 8.6.
    #[error("the request has more than one Content-Length")]
    LengthTwice,
    /// RFC 9110 section 8.6.
    #[error("the request's Content-Length isn't a plain number")]
    Length,
    /// RFC 9112 section 6.1.
    #[error("the request has both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    /// RFC 9112 section 6.1.
    #[error("the request's Transfer-Encoding isn't one `chunked`")]
    Coding,
    /// RFC 9112 section 6.1.
    #[error("the request's body has a transfer coding that this proxy doesn't know; it knows chunked only")]
    UnknownCoding,
    /// RFC 9112 section 6.1.
    #[error("an HTTP/1.0 request has no Transfer-Encoding")]
    CodingInHttp10,
    /// RFC 9112 section 7.1.
    #[error("the size of a chunk of the request's body isn't a plain hexadecimal number")]
    ChunkSize,
    /// RFC 9112 section 7.1.1.
    #[error("the request's body has chunk extensions that are too long, or not text")]
    ChunkExtension,
    /// RFC 9112 section 7.1.
    #[error("a chunk of the request's body is longer or shorter than its size says")]
    ChunkEnd,
    /// RFC 9112 section 7.1.2.
    #[error("the request's trailers are too many or too large")]
    Trailers,
    /// RFC 9112 section 3.
    #[error("the request's target is too long")]
    TargetTooLong,
    /// RFC 6585 section 5.
    #[error("the request's head is too large, or has too many header fields")]
    HeadTooLarge,
    /// Whom the request is for can't be told.
    #[error(transparent)]
    Target(#[from] BadTarget),
}

impl Violation {
    /// The word for it in `tunnel_bad_requests_total`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::EmptyLines => "empty-lines",
            Self::BareLf => "bare-lf",
            Self::BareCr => "bare-cr",
            Self::Control => "control",
            Self::RequestLine => "request-line",
            Self::Method => "method",
            Self::TraceBody => "trace-body",
            Self::Version => "version",
            Self::LeadingSpace => "leading-space",
            Self::Fold => "fold",
            Self::SpaceBeforeColon => "space-before-colon",
            Self::FieldName => "field-name",
            Self::LengthTwice => "content-length-twice",
            Self::Length => "content-length",
            Self::LengthAndCoding => "content-length-and-transfer-encoding",
            Self::Coding => "transfer-encoding",
            Self::UnknownCoding => "transfer-coding",
            Self::CodingInHttp10 => "transfer-encoding-in-http10",
            Self::ChunkSize => "chunk-size",
            Self::ChunkExtension => "chunk-extension",
            Self::ChunkEnd => "chunk-end",
            Self::Trailers => "trailers",
            Self::TargetTooLong => "target-too-long",
            Self::HeadTooLarge => "head-too-large",
            Self::Target(bad) => bad.kind(),
        }
    }

    /// The status that it is answered with.
    pub fn status(self) -> StatusCode {
        match self {
            Self::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Target(bad) => bad.status(),
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
