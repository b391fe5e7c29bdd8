//! The sample's bodies in motion: what it receives, what it makes up, and events without end.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::LazyLock,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures_util::stream;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName},
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use jiff::{Timestamp, Unit};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::answer::{Reply, text};

/// The beat of clock and events.
pub(super) const BEAT: Duration = Duration::from_secs(1);

/// Bytes of a download that doesn't say how many.
const USUAL: u64 = 100_000;

/// What arrived.
#[derive(Debug, Serialize)]
pub(super) struct Receipt {
    bytes: u64,
    /// Lower-case hexadecimal.
    sha256: String,
}

/// Takes a body in, piece by piece; holds none of it.
///
/// # Errors
/// The body broke off.
pub(super) async fn receive<B: Body>(body: B) -> Result<Receipt, B::Error> {
    let mut body = pin!(body);
    let mut bytes = 0;
    let mut hash = Sha256::new();
    while let Some(frame) = body.frame().await {
        // Trailers have no part in the sum.
        let Ok(mut data) = frame?.into_data() else { continue };
        bytes += data.remaining() as u64;
        while data.has_remaining() {
            let chunk = data.chunk();
            hash.update(chunk);
            let length = chunk.len();
            data.advance(length);
        }
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Receipt { bytes, sha256 })
}

/// `?bytes=N`: that many, always the same.
pub(super) fn download(query: Option<&str>) -> Reply {
    let wanted = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("bytes="));
    let Ok(left) = wanted.map_or(Ok(USUAL), str::parse) else {
        return text(StatusCode::BAD_REQUEST, "Say how many, as a number: /download?bytes=N\n");
    };
    let mut reply = Response::new(Pattern { left }.boxed_unsync());
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// Byte `i` is `i` modulo 251: a prime, so that a piece that is lost, repeated or moved by any power of two shows.
const PERIOD: usize = 251;

static BLOCK: LazyLock<Bytes> =
    LazyLock::new(|| (0..=u8::MAX).take(PERIOD).collect::<Vec<u8>>().repeat(256).into());

struct Pattern {
    left: u64,
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // Whole blocks until the last, so that each begins at a multiple of the period.
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(BLOCK.len());
        self.left -= length as u64;
        Poll::Ready((length > 0).then(|| Ok(Frame::data(BLOCK.slice(..length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Server-sent events (WHATWG HTML section 9.2), one each beat until `stop`; goes on after `Last-Event-ID`.
pub(super) fn events(request: &HeaderMap, stop: CancellationToken) -> Reply {
    let seen = request.get(HeaderName::from_static("last-event-id"));
    let seen: u64 = seen.and_then(|id| id.to_str().ok()?.parse().ok()).unwrap_or(0);
    let beats = stream::unfold((time::interval(BEAT), seen), move |(mut beat, seen)| {
        let stop = stop.clone();
        async move {
            stop.run_until_cancelled(beat.tick()).await?;
            let id = seen.wrapping_add(1);
            let event = format!("id: {id}\nretry: 1000\ndata: {}\n\n", now());
            Some((Ok(Frame::data(Bytes::from(event))), (beat, id)))
        }
    });
    let mut reply = Response::new(StreamBody::new(beats).boxed_unsync());
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// The time in UTC, as RFC 3339 has it, to the millisecond.
pub(super) fn now() -> String {
    let now = Timestamp::now();
    now.round(Unit::Millisecond).unwrap_or(now).to_string()
}
