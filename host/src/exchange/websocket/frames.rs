//! Frames over an upgraded connection: what a visitor's WebSocket, an origin's and a session's socket are made of.
//!
//! Owns the connection and what is read of it and waits to be written. Knows no closing handshake: a close is an event like
//! others, and whoever uses it answers.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

pub use super::encode::{BINARY, OpCode, PING, PONG, TEXT};
use super::{
    Close, Event, Role,
    decode::{Decoder, Violation},
    encode::{CLOSE, Outbox, close_payload},
};

/// The smallest read. An idle connection holds as much.
const MIN_READ: usize = 4 * 1024;

/// How many times its own size of memory a payload may keep from being freed. One that is held for long, by whoever is slow,
/// would else hold what came with it.
const MOST_PINNED: usize = 32;

/// An upgraded connection.
pub struct Frames<I> {
    io: I,
    role: Role,
    decoder: Decoder,
    inbox: BytesMut,
    next_read: usize,
    max_read: usize,
    outbox: Outbox,
}

/// Why nothing more is received.
#[derive(Debug)]
pub enum Stopped {
    /// The peer broke a rule of RFC 6455. What else it sends means nothing.
    Violation(Violation),
    /// The connection ended without a close frame.
    Ended,
    /// The connection broke.
    Broken(io::Error),
}

impl<I: AsyncRead + AsyncWrite + Unpin> Frames<I> {
    /// Over a connection on which this process has the given role. A message has at most `max_message` bytes; a busy connection
    /// is read up to `max_read` bytes at once.
    pub fn new(io: I, role: Role, max_message: usize, max_read: usize) -> Self {
        Self {
            io,
            role,
            decoder: Decoder::new(role, max_message),
            inbox: BytesMut::new(),
            next_read: MIN_READ,
            max_read,
            outbox: Outbox::default(),
        }
    }

    /// The same, of which `read` was read with the handshake.
    #[must_use]
    pub fn having_read(mut self, read: &[u8]) -> Self {
        self.inbox.extend_from_slice(read);
        self
    }

    /// The next thing that comes.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Stopped>> {
        loop {
            match self.decoder.next(&mut self.inbox) {
                Ok(Some(event)) => return Poll::Ready(Ok(self.unpinned(event))),
                Ok(None) => {}
                Err(violation) => return Poll::Ready(Err(Stopped::Violation(violation))),
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Err(Stopped::Ended)),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(Stopped::Broken(error))),
            }
        }
    }

    /// Reads what comes and looks at none of it, to the end of the connection.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.inbox.clear();
            if !matches!(ready!(self.poll_read(cx)), Ok(1..)) {
                self.inbox = BytesMut::new();
                return Poll::Ready(());
            }
        }
    }

    /// Adds a message, or a ping or pong, as one frame. Its payload may come in several pieces; long ones aren't copied unless
    /// they have to be masked and others hold them too.
    pub fn push<const N: usize>(&mut self, code: OpCode, payload: [Bytes; N]) {
        // Section 5.3: a fresh key for each frame, unpredictable to whoever chose the payload.
        let key = (self.role == Role::Client).then(rand::random);
        self.outbox.push(code, payload, key);
    }

    /// Adds a close frame; false if this close is one that no frame can tell.
    pub fn push_close(&mut self, close: &Close) -> bool {
        let payload = close_payload(close);
        let tells = payload.is_some();
        if let Some(payload) = payload {
            self.push(CLOSE, [payload]);
        }
        tells
    }

    /// Waits until at most so many bytes wait for the connection.
    pub fn poll_room(&mut self, most: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting() <= most {
            return Poll::Ready(Ok(()));
        }
        match self.poll_write(cx) {
            Poll::Pending if self.waiting() <= most => Poll::Ready(Ok(())),
            polled => polled,
        }
    }

    /// Bytes that the connection hasn't taken yet.
    pub fn waiting(&self) -> usize {
        self.outbox.waiting()
    }

    /// Gives the connection all that waits.
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbox.poll_write(&mut self.io, cx)
    }

    /// The same, and waits until the connection has passed it on.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Ends the connection's way out, when nothing waits any more.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.make_room();
        let room = self.inbox.capacity() - self.inbox.len();
        let read = ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.inbox))?;
        if read == room {
            self.next_read = (self.next_read * 2).min(self.max_read);
        } else if read < self.next_read / 4 {
            self.next_read = (self.next_read / 2).max(MIN_READ);
        }
        Poll::Ready(Ok(read))
    }

    /// Room is made for what has come so far and as much again, never for what a header merely promises.
    fn make_room(&mut self) {
        let here = self.inbox.len();
        let room = self.inbox.capacity() - here;
        let lacking = self.decoder.lacking(&self.inbox);
        let suffices = match here {
            // Nothing has to be moved: another read for what didn't fit costs more than memory.
            0 if self.next_read > MIN_READ => room >= self.next_read,
            _ => room >= lacking.clamp(MIN_READ / 4, self.next_read),
        };
        // What a busy hour has left behind is given back.
        let exceeds = here == 0 && room > 4 * self.next_read;
        if suffices && !exceeds {
            return;
        }
        let wanted = match lacking {
            // No more than the rest of a long frame: the next one then begins in memory of its own, and needn't be moved.
            MIN_READ.. => lacking.min(self.next_read.max(here)),
            _ => self.next_read,
        };
        if exceeds || !self.inbox.try_reclaim(wanted) {
            let mut inbox = BytesMut::with_capacity(here + wanted);
            inbox.extend_from_slice(&self.inbox);
            self.inbox = inbox;
        }
    }

    /// An event whose payload doesn't hold much more memory than it has bytes.
    fn unpinned(&self, event: Event) -> Event {
        // About what was read at once, and one such buffer is nothing that anybody could run out of.
        let pinned = self.next_read;
        let unpin = |bytes: Bytes| {
            if pinned > 4 * MIN_READ && bytes.len() < pinned / MOST_PINNED {
                Bytes::copy_from_slice(&bytes)
            } else {
                bytes
            }
        };
        match event {
            Event::Text(bytes) => Event::Text(unpin(bytes)),
            Event::Binary(bytes) => Event::Binary(unpin(bytes)),
            event => event,
        }
    }
}
