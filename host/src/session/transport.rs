//! What a session runs over: whole messages in both directions and in order, or the end.
//!
//! Owns the trait, and the WebSocket between a proxy and a client of version 2. Must not know what messages mean.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message as Frame,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::ended::Ended;
use crate::wire::{DecodeError, Decoded, Limits, MAX_HEADERS, Message, v1::DocumentError};

/// For a last frame to a peer that may be stuck; enough on any live connection.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

const LIMITS: Limits = Limits { headers: MAX_HEADERS };

/// The way to a session's peer. What arrives, arrives once and in order; a way that can't promise that any more fails.
pub trait Transport: Send + Unpin {
    /// The next thing that comes from the peer.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arrival, Ended>>;

    /// Waits for room for one more message.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>>;

    /// Takes a message; only after [`poll_ready`](Self::poll_ready) was ready.
    fn put(&mut self, message: &Message) -> Result<(), Ended>;

    /// Waits until every message that was taken is on its way.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>>;

    /// Tells the peer why it ends, without waiting long for one that doesn't answer.
    fn close(&mut self, ended: &Ended) -> impl Future<Output = ()> + Send;

    /// After a failure: of the messages that were taken, how many at the end certainly never reached the peer.
    fn never_arrived(&self) -> usize {
        0
    }
}

/// What comes from the peer.
#[derive(Debug)]
pub enum Arrival {
    /// A message.
    Message(Message),
    /// A sign of life, and nothing else.
    Life,
}

impl Arrival {
    /// What an encoded message is. One of a kind that this version doesn't know is skipped, as a sign of life.
    ///
    /// # Errors
    /// It is no message; the session ends.
    pub fn decode(encoded: Bytes) -> Result<Self, Ended> {
        match Message::decode(encoded, &LIMITS).map_err(Ended::Undecodable)? {
            Decoded::Message(message) => Ok(Self::Message(message)),
            Decoded::Unknown { kind } => {
                tracing::debug!(kind, "skipped a message of a kind this version doesn't know");
                Ok(Self::Life)
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for WebSocketStream<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arrival, Ended>> {
        Poll::Ready(match ready!(Pin::new(self).poll_next(cx)) {
            None | Some(Ok(Frame::Close(_))) => Err(Ended::ClosedByPeer),
            Some(Err(error)) => Err(Ended::broken(&error)),
            Some(Ok(Frame::Binary(bytes))) => Arrival::decode(bytes),
            Some(Ok(Frame::Text(_))) => Err(Ended::Undecodable(DecodeError::NotAMap)),
            Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => Ok(Arrival::Life),
        })
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        Sink::poll_ready(Pin::new(self), cx).map_err(|error| Ended::broken(&error))
    }

    fn put(&mut self, message: &Message) -> Result<(), Ended> {
        let frame = Frame::Binary(message.encode());
        Sink::start_send(Pin::new(self), frame).map_err(|error| Ended::broken(&error))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        Sink::poll_flush(Pin::new(self), cx).map_err(|error| Ended::broken(&error))
    }

    /// Closes with a code that says why.
    async fn close(&mut self, ended: &Ended) {
        let Some(frame) = close_frame(ended, false) else { return };
        let _ = tokio::time::timeout(FAREWELL, WebSocketStream::close(self, Some(frame))).await;
    }
}

/// What a WebSocket's peer hears at the end (RFC 6455 section 7.4.1, and the IANA registry for 1012), if it can be told. A node
/// that drains restarts, as far as anybody knows.
pub(super) fn close_frame(ended: &Ended, draining: bool) -> Option<CloseFrame> {
    let (code, reason) = match ended {
        Ended::Broken(_) | Ended::Silent(_) | Ended::Lost(_) | Ended::Dropped => return None,
        Ended::Local if draining => (CloseCode::Restart, "this node is shutting down".to_owned()),
        Ended::ClosedByPeer | Ended::Local => (CloseCode::Normal, String::new()),
        Ended::Dismissed(refusal) => (CloseCode::Policy, refusal.code.clone()),
        Ended::TooLarge { .. } => (CloseCode::Size, ended.to_string()),
        Ended::Undecodable(error) => (CloseCode::Invalid, error.to_string()),
        Ended::NotADocument(DocumentError::Binary) => (CloseCode::Unsupported, ended.to_string()),
        Ended::NotADocument(error) => (CloseCode::Invalid, error.to_string()),
        Ended::Violation(violation) => (CloseCode::Protocol, violation.to_string()),
        Ended::Refused(_) => (CloseCode::Policy, "the registration was refused".to_owned()),
    };
    Some(CloseFrame { code, reason: reason[..reason.floor_char_boundary(120)].into() })
}

/// Sends one message, and waits until it is on its way; not for long.
pub(super) async fn send_last(transport: &mut impl Transport, message: &Message) -> bool {
    let sending = async {
        poll_fn(|cx| transport.poll_ready(cx)).await?;
        transport.put(message)?;
        poll_fn(|cx| transport.poll_flush(cx)).await
    };
    matches!(tokio::time::timeout(FAREWELL, sending).await, Ok(Ok(())))
}
