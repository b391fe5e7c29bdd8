//! Bodies that meet a plugin: held back and given whole, or piece by piece as they pass.

use std::{pin::Pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};

use super::{
    bindings::tunnel::plugin::types::{BodyAction, BodyVerdict},
    chain::{aborted, lost},
    edit,
    error::HookError,
    hand::Hand,
    visit::Visit,
};
use crate::exchange::{Body, ErrorKind, ForwardError, Response, hygiene};

/// Whose body it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Request,
    Response,
}

impl Way {
    fn hook(self) -> &'static str {
        match self {
            Self::Request => "on-request-body",
            Self::Response => "on-response-body",
        }
    }

    async fn ask(
        self,
        visit: &Visit,
        hand: &mut Option<Hand>,
        bytes: &[u8],
        last: bool,
    ) -> Result<BodyVerdict, HookError> {
        match self {
            Self::Request => visit.on_request_body(hand, bytes, last).await,
            Self::Response => visit.on_response_body(hand, bytes, last).await,
        }
    }
}

/// How a whole body left a plugin.
pub(super) enum Whole {
    On(Body),
    Answered(Response),
}

/// Whether the response in hand has no body by its nature (RFC 9110 section 6.4.1); its `Content-Length` stays.
pub(super) fn has_none(hand: &Hand) -> bool {
    let status = hand.response.as_ref().map(|response| response.status);
    hand.head.method == Method::HEAD
        || matches!(status, Some(StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED))
}

/// The response in hand with its body.
pub(super) fn joined(hand: &mut Option<Hand>, body: Body) -> Result<Response, ForwardError> {
    let head = hand.as_mut().and_then(|hand| hand.response.take()).ok_or_else(lost)?;
    Ok(Response { status: head.status, headers: head.headers, body })
}

/// The headers of the message in hand.
fn headers(hand: &mut Hand, way: Way) -> &mut HeaderMap {
    match (way, &mut hand.response) {
        (Way::Response, Some(response)) => &mut response.headers,
        _ => &mut hand.head.headers,
    }
}

/// Holds a body back and asks about all of it at once.
///
/// # Errors
/// It is over the limit or breaks off, the plugin broke the exchange off, or it failed and its policy is to deny.
pub(super) async fn whole(
    visit: &Arc<Visit>,
    hand: &mut Option<Hand>,
    body: Body,
    way: Way,
) -> Result<Whole, ForwardError> {
    let held = hand.as_mut().ok_or_else(lost)?;
    if way == Way::Request && hygiene::expects_continue(&held.head.headers) {
        // The visitor waits for a word before it sends the body, and the origin, which will get all of it at once,
        // isn't asked before that.
        if let Some(interim) = &held.context.interim {
            interim(StatusCode::CONTINUE, HeaderMap::new());
        }
        hygiene::retain(&mut held.head.headers, |name| *name != header::EXPECT);
    }
    let (bytes, trailers) = collect(body, visit.plugin.limits.body, way).await?;
    let asked = way.ask(visit, hand, &bytes, true).await;
    let held = hand.as_mut().ok_or_else(lost)?;
    let verdict = match asked {
        Ok(verdict) => take_whole(visit, held, verdict),
        Err(error) => {
            visit.failed(error)?;
            return Ok(Whole::On(restored(bytes, trailers)));
        }
    };
    let bytes = match verdict {
        Ok(BodyAction::Keep) => bytes,
        Ok(BodyAction::Replace(replaced)) => replaced.into(),
        Ok(BodyAction::Abort(reason)) => return Err(aborted(visit, &reason)),
        Ok(BodyAction::Respond(answer)) => match edit::answer(answer, visit.plugin.limits.body) {
            Ok(response) => return Ok(Whole::Answered(response)),
            Err(error) => {
                visit.rejected(way.hook(), held.context.exchange, error)?;
                bytes
            }
        },
        Err(error) => {
            visit.rejected(way.hook(), held.context.exchange, error)?;
            bytes
        }
    };
    let headers = headers(held, way);
    if trailers.is_some() {
        // A length and trailers exclude each other (RFC 9112 section 6.3).
        hygiene::retain(headers, |name| *name != header::CONTENT_LENGTH);
    } else if !bytes.is_empty() || headers.contains_key(header::CONTENT_LENGTH) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    }
    Ok(Whole::On(restored(bytes, trailers)))
}

fn take_whole(visit: &Visit, hand: &mut Hand, verdict: BodyVerdict) -> Result<BodyAction, HookError> {
    if let BodyAction::Replace(bytes) = &verdict.action {
        within(bytes.len(), visit.plugin.limits.body)?;
    }
    if let Some(state) = verdict.state {
        visit.set_state(state)?;
    }
    edit::apply(hand, verdict.edits)?;
    hand.keep_notes();
    Ok(verdict.action)
}

fn within(bytes: usize, limit: usize) -> Result<(), HookError> {
    if bytes <= limit {
        return Ok(());
    }
    Err(HookError::Verdict(format!("a body of {bytes} bytes, and the limit is {limit} (limits.body)")))
}

fn restored(bytes: Bytes, trailers: Option<HeaderMap>) -> Body {
    match trailers {
        None => Body::full(bytes),
        Some(trailers) => Body::prefixed(bytes, Body::trailers(trailers)),
    }
}

async fn collect(mut body: Body, limit: usize, way: Way) -> Result<(Bytes, Option<HeaderMap>), ForwardError> {
    let too_large = || {
        let limit = limit as u64;
        let detail =
            format!("a plugin reads the whole body, and it has more than {limit} bytes (limits.body)");
        match way {
            Way::Request => ForwardError::new(ErrorKind::RequestTooLarge { limit }, detail),
            Way::Response => ForwardError::new(ErrorKind::ResponseTooLarge { limit }, detail),
        }
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) if whole.len() + data.len() > limit => return Err(too_large()),
            Ok(data) => whole.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((whole.freeze(), trailers))
}

/// A body that asks about each of its pieces as it passes.
pub(super) fn chunks(visit: &Arc<Visit>, hand: &mut Hand, body: Body, way: Way) -> Body {
    if body.is_end_stream() {
        // Made a stream, nothing would become a body of unknown length, e.g. of a GET.
        return body;
    }
    // What the plugin makes of it has a length that nobody knows yet.
    hygiene::retain(headers(hand, way), |name| *name != header::CONTENT_LENGTH);
    let copy = Hand {
        head: hand.head.clone(),
        context: hand.context.clone(),
        response: hand.response.as_ref().map(|response| super::hand::ResponseHead {
            status: response.status,
            headers: response.headers.clone(),
        }),
        noted: Vec::new(),
    };
    let pieces = Pieces {
        visit: Arc::clone(visit),
        hand: Some(copy),
        body,
        way,
        asks: true,
        trailers: None,
        ended: false,
    };
    Body::stream(StreamBody::new(stream::try_unfold(Box::pin(pieces), |mut pieces| async move {
        Ok(pieces.next().await?.map(|frame| (frame, pieces)))
    })))
}

struct Pieces {
    visit: Arc<Visit>,
    hand: Option<Hand>,
    body: Body,
    way: Way,
    /// Not any more once the plugin has failed and is skipped.
    asks: bool,
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl Pieces {
    async fn next(self: &mut Pin<Box<Self>>) -> Result<Option<Frame<Bytes>>, ForwardError> {
        loop {
            if self.ended {
                return Ok(self.trailers.take().map(Frame::trailers));
            }
            let (bytes, last) = match self.body.frame().await.transpose()? {
                None => (Bytes::new(), true),
                Some(frame) => match frame.into_data() {
                    Ok(data) => (data, false),
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        (Bytes::new(), true)
                    }
                },
            };
            self.ended = last;
            let bytes = if self.asks { self.ask(bytes, last).await? } else { bytes };
            if !bytes.is_empty() {
                return Ok(Some(Frame::data(bytes)));
            }
        }
    }

    /// What becomes of one piece.
    async fn ask(&mut self, bytes: Bytes, last: bool) -> Result<Bytes, ForwardError> {
        let asked = self.way.ask(&self.visit, &mut self.hand, &bytes, last).await;
        let exchange = self.hand.as_ref().ok_or_else(lost)?.context.exchange;
        let verdict = match asked {
            Err(error) => {
                self.asks = false;
                self.visit.failed(error)?;
                return Ok(bytes);
            }
            Ok(verdict) => take_piece(&self.visit, verdict),
        };
        match verdict {
            Ok(BodyAction::Replace(replaced)) => Ok(replaced.into()),
            Ok(BodyAction::Abort(reason)) => Err(aborted(&self.visit, &reason)),
            Ok(_) => Ok(bytes),
            Err(error) => {
                self.asks = false;
                self.visit.rejected(self.way.hook(), exchange, error)?;
                Ok(bytes)
            }
        }
    }
}

fn take_piece(visit: &Visit, verdict: BodyVerdict) -> Result<BodyAction, HookError> {
    if !verdict.edits.is_empty() {
        return Err(HookError::Verdict(
            "edits of a head that was sent before its body (mode chunks)".to_owned(),
        ));
    }
    match &verdict.action {
        BodyAction::Respond(_) => {
            return Err(HookError::Verdict(
                "an answer when the head was sent already (mode chunks)".to_owned(),
            ));
        }
        BodyAction::Replace(bytes) => within(bytes.len(), visit.plugin.limits.body)?,
        BodyAction::Keep | BodyAction::Abort(_) => {}
    }
    if let Some(state) = verdict.state {
        visit.set_state(state)?;
    }
    Ok(verdict.action)
}
