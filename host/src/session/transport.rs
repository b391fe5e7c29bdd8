//! What a session runs over: whole messages in both directions and in order, or the end.
//!
//! Owns the trait; [`socket`](super::socket), `v1` and the nodes' bus have what it is. Must not know what messages mean.

use std::{
    future::{Future, poll_fn},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;

use super::ended::Ended;
use crate::{
    exchange::websocket::Close,
    wire::{Decoded, Limits, MAX_HEADERS, Message, v1::DocumentError},
};

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

/// What a WebSocket's peer hears at the end (RFC 6455 section 7.4.1, and the IANA registry for 1012), if it can be told. A node
/// that drains restarts, as far as anybody knows.
pub(super) fn close_of(ended: &Ended, draining: bool) -> Option<Close> {
    let (code, reason) = match ended {
        Ended::Broken(_) | Ended::Silent(_) | Ended::Lost(_) | Ended::Dropped => return None,
        Ended::Local if draining => (1012, "this node is shutting down".to_owned()),
        Ended::ClosedByPeer | Ended::ClosedBecause(_) | Ended::Local => (1000, String::new()),
        Ended::Dismissed(refusal) => (1008, refusal.code.clone()),
        Ended::TooLarge { .. } => (1009, ended.to_string()),
        Ended::Framing(violation) => (violation.code, violation.reason.to_owned()),
        Ended::Undecodable(error) => (1007, error.to_string()),
        Ended::NotADocument(DocumentError::Binary) => (1003, ended.to_string()),
        Ended::NotADocument(error) => (1007, error.to_string()),
        Ended::Violation(violation) => (1002, violation.to_string()),
        Ended::Refused(_) => (1008, "the registration was refused".to_owned()),
    };
    Some(Close::new(code, reason))
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
