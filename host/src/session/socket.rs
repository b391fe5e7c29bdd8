//! The WebSocket between a proxy and a client of version 2: a message in each binary frame.
//!
//! Owns the way from messages to frames and back. The frames are `exchange::websocket`'s, as those of visitors are: the library
//! for WebSockets has whole messages, which would be copied once more on the way out, and clears as much memory before each read
//! as it may read.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{
    ended::Ended,
    transport::{Arrival, FAREWELL, Transport, close_of},
};
use crate::{
    exchange::websocket::{
        Close, Event, Role,
        frames::{BINARY, Frames, PONG, Stopped},
    },
    wire::{DecodeError, MAX_MESSAGE, MAX_PART, Message},
};

/// Bytes that may wait for the connection before it has to take some: several parts of bodies, so that a write is worth its price.
/// What waits here can't be overtaken by heads any more.
const MAX_WAITING: usize = 128 * 1024;

/// The largest read of a busy session: a full part with its head, and so little more that what is there of the next one is cheap to
/// move.
const MAX_READ: usize = MAX_PART + 4 * 1024;

/// A session's socket.
pub struct Socket<I> {
    frames: Frames<I>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Socket<I> {
    /// Over a connection that was upgraded; `read` is what was read of it with the handshake. Frames of more than
    /// [`MAX_MESSAGE`] bytes are refused: our parts are small, so that anything large is not ours.
    pub fn over(io: I, role: Role, read: &[u8]) -> Self {
        Self { frames: Frames::new(io, role, MAX_MESSAGE, MAX_READ).having_read(read) }
    }

    /// Waits for the next encoded message. Signs of life are passed over.
    ///
    /// # Errors
    /// The connection has ended, or the peer broke a rule.
    pub async fn receive(&mut self) -> Result<Bytes, Ended> {
        loop {
            if let Some(message) = poll_fn(|cx| self.poll_frame(cx)).await? {
                return Ok(message);
            }
        }
    }

    /// Sends a message, and waits until it is on its way.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn send(&mut self, message: &Message) -> Result<(), Ended> {
        self.frames.push(BINARY, message.encode_apart().pieces());
        poll_fn(|cx| self.frames.poll_flush(cx)).await.map_err(|error| broken(&error))
    }

    /// Closes, and waits until the peer has taken its leave too, for `patience` at most: a connection that is closed while something
    /// is unread is reset, and the reset may overtake what was said last.
    pub async fn leave(mut self, close: &Close, patience: Duration) {
        let leaving = async {
            self.say(close).await?;
            loop {
                poll_fn(|cx| self.poll_frame(cx)).await?;
            }
        };
        let _: Result<Result<(), Ended>, _> = timeout(patience, leaving).await;
    }

    /// The next frame: an encoded message, or `None` for a sign of life.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Ended>> {
        Poll::Ready(match ready!(self.frames.poll_event(cx)) {
            Ok(Event::Binary(message)) => Ok(Some(message)),
            Ok(Event::Text(_)) => Err(Ended::Undecodable(DecodeError::NotAMap)),
            Ok(Event::Ping(payload)) => self.answer(payload, cx).map(|()| None),
            Ok(Event::Pong(_)) => Ok(None),
            Ok(Event::Close(close)) => Err(closed(&close)),
            Err(Stopped::Ended) => Err(Ended::ClosedByPeer),
            Err(Stopped::Violation(violation)) if violation.code == 1009 => {
                Err(Ended::TooLarge { most: MAX_MESSAGE })
            }
            Err(Stopped::Violation(violation)) => Err(Ended::Framing(violation)),
            Err(Stopped::Broken(error)) => Err(broken(&error)),
        })
    }

    /// Answers a ping, unless the way is so full that the peer will hear from us in any case: whoever sends pings and reads nothing
    /// must not fill our memory.
    fn answer(&mut self, payload: Bytes, cx: &mut Context<'_>) -> Result<(), Ended> {
        if self.frames.waiting() <= MAX_WAITING {
            self.frames.push(PONG, [payload]);
        }
        match self.frames.poll_write(cx) {
            Poll::Ready(Err(error)) => Err(broken(&error)),
            _ => Ok(()),
        }
    }

    async fn say(&mut self, close: &Close) -> Result<(), Ended> {
        self.frames.push_close(close);
        poll_fn(|cx| self.frames.poll_flush(cx)).await.map_err(|error| broken(&error))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send> Transport for Socket<I> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arrival, Ended>> {
        Poll::Ready(match ready!(self.poll_frame(cx))? {
            Some(message) => Arrival::decode(message),
            None => Ok(Arrival::Life),
        })
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        self.frames.poll_room(MAX_WAITING, cx).map_err(|error| broken(&error))
    }

    fn put(&mut self, message: &Message) -> Result<(), Ended> {
        self.frames.push(BINARY, message.encode_apart().pieces());
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        self.frames.poll_flush(cx).map_err(|error| broken(&error))
    }

    /// Closes with a code that says why.
    async fn close(&mut self, ended: &Ended) {
        if let Some(close) = close_of(ended, false) {
            let _ = timeout(FAREWELL, self.say(&close)).await;
        }
    }
}

/// What a peer says goes into logs and to terminals, which obey what isn't text.
fn closed(close: &Close) -> Ended {
    let reason: String = close.reason.chars().filter(|it| !it.is_control()).collect();
    if reason.is_empty() { Ended::ClosedByPeer } else { Ended::ClosedBecause(reason) }
}

fn broken(error: &io::Error) -> Ended {
    Ended::Broken(error.to_string())
}
