//! A WebSocket over an upgraded connection, transparent: nothing is answered, added or left out here.
//!
//! Owns the socket and the state of the closing handshake (RFC 6455 section 7). Knows no far side: pings, pongs
//! and closes pass as events, and whoever is at the other end of the duplex answers them.
//!
//! Both halves of the duplex share one lock. It is held for the length of one poll, never across a wait.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Close, Duplex, Event,
    decode::{MAX_CONTROL, Violation},
    encode,
    frames::{Frames, Stopped},
};
use crate::exchange::{ErrorKind, ForwardError};

/// The sink isn't ready while more than this waits for the socket: enough for one write to be worth its price, and
/// little beside the largest message.
const MAX_WAITING: usize = 64 * 1024;

/// The largest read of a busy WebSocket.
const MAX_READ: usize = 64 * 1024;

/// Which end of the connection this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It accepted the upgrade: frames come masked and leave plain.
    Server,
    /// It asked for the upgrade: frames come plain and leave masked.
    Client,
}

/// Makes a duplex of an upgraded connection, which may hold messages of at most `max_message` bytes.
///
/// The first frame that breaks RFC 6455 ends it: the peer gets a close frame with 1002, 1007 or 1009, and
/// `incoming` gives the same close to the far side.
pub fn over<I>(io: I, role: Role, max_message: usize) -> Duplex
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let socket = Arc::new(Mutex::new(Socket {
        frames: Frames::new(io, role, max_message, MAX_READ),
        role,
        receiving: Receiving::Open,
        sending: Sending::Open,
        parked: None,
    }));
    Duplex { incoming: Box::pin(Incoming(Arc::clone(&socket))), outgoing: Box::pin(Outgoing(socket)) }
}

struct Socket<I> {
    frames: Frames<I>,
    role: Role,
    receiving: Receiving,
    sending: Sending,
    /// Who waits in the outgoing half. The incoming half may take the socket's only write waker when it sends a
    /// close, so it has to pass the wake on.
    parked: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Open,
    /// The peer's close frame came.
    Closed,
    /// The peer broke a rule; what else it sends is not looked at.
    Violated,
    /// The connection ended without a close frame.
    Lost,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    /// Our close frame is in the outbox or was sent.
    Closed,
    /// No close frame follows; the socket is shut once the outbox is empty.
    Aborted,
    /// The socket was shut.
    Shut,
    /// A write failed.
    Broken,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Socket<I> {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.receiving != Receiving::Open {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.frames.poll_event(cx)) {
            Ok(Event::Close(close)) => {
                self.receiving = Receiving::Closed;
                self.hurry(cx);
                Some(Event::Close(close))
            }
            Ok(event) => Some(event),
            Err(Stopped::Violation(violation)) => Some(self.refuse(violation, cx)),
            Err(Stopped::Ended | Stopped::Broken(_)) => {
                self.receiving = Receiving::Lost;
                None
            }
        })
    }

    /// Ends the connection over a broken rule: the peer is told why, and so is the far side.
    fn refuse(&mut self, violation: Violation, cx: &mut Context<'_>) -> Event {
        self.receiving = Receiving::Violated;
        let close = Close::new(violation.code, violation.reason);
        self.queue_close(&close);
        self.hurry(cx);
        Event::Close(close)
    }

    /// Moves the closing handshake on from the incoming half, as far as it goes at once.
    fn hurry(&mut self, cx: &mut Context<'_>) {
        if self.sending != Sending::Open {
            // An error shows in the outgoing half.
            let _ = self.poll_flush(cx);
            if let Some(waker) = self.parked.take() {
                waker.wake();
            }
        }
    }

    fn push(&mut self, event: Event) -> Result<(), ForwardError> {
        if self.sending != Sending::Open {
            // The close is on its way, or the connection is lost: what crosses it on the way is dropped, as
            // section 1.4 has it.
            return Ok(());
        }
        let (code, payload) = match event {
            Event::Text(text) => (encode::TEXT, text),
            Event::Binary(bytes) => (encode::BINARY, bytes),
            Event::Ping(bytes) => (encode::PING, bytes),
            Event::Pong(bytes) => (encode::PONG, bytes),
            Event::Close(close) => {
                self.queue_close(&close);
                return Ok(());
            }
        };
        if matches!(code, encode::PING | encode::PONG) && payload.len() > MAX_CONTROL {
            let detail = "a WebSocket ping or pong holds more than 125 bytes";
            return Err(ForwardError::new(ErrorKind::PeerBrokeProtocol, detail));
        }
        self.frames.push(code, [payload]);
        Ok(())
    }

    fn queue_close(&mut self, close: &Close) {
        if self.sending != Sending::Open {
            return;
        }
        self.sending = if self.frames.push_close(close) { Sending::Closed } else { Sending::Aborted };
    }

    /// Writes what waits, and shuts the socket when that is next.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        let done = ready!(self.poll_write_and_shut(cx));
        Poll::Ready(done.map_err(|cause| self.broken(Some(cause))))
    }

    fn poll_write_and_shut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.sending, Sending::Shut | Sending::Broken) {
            return Poll::Ready(Ok(()));
        }
        ready!(self.frames.poll_write(cx))?;
        // Section 7.1.1: the server closes the TCP connection first, once both close frames have passed or none is
        // waited for.
        let shut = match self.sending {
            Sending::Closed => self.role == Role::Server && self.receiving != Receiving::Open,
            Sending::Aborted => true,
            _ => false,
        };
        if !shut {
            return self.frames.poll_flush(cx);
        }
        ready!(self.frames.poll_shutdown(cx))?;
        self.sending = Sending::Shut;
        Poll::Ready(Ok(()))
    }

    /// After a violation: reads to the end of what the peer sends. Closing a TCP connection with bytes unread resets
    /// it, and the reset may overtake the close frame that says why.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.receiving != Receiving::Violated {
            return Poll::Ready(());
        }
        ready!(self.frames.poll_discard(cx));
        self.receiving = Receiving::Lost;
        Poll::Ready(())
    }

    fn broken(&mut self, cause: Option<io::Error>) -> ForwardError {
        self.sending = Sending::Broken;
        let error = match self.role {
            Role::Server => ForwardError::new(ErrorKind::Cancelled, "the visitor's WebSocket broke off"),
            Role::Client => ForwardError::new(ErrorKind::OriginFailed, "the origin's WebSocket broke off"),
        };
        match cause {
            Some(cause) => error.because(cause),
            None => error,
        }
    }
}

fn lock<I>(socket: &Mutex<Socket<I>>) -> MutexGuard<'_, Socket<I>> {
    // A panic inside a poll leaves at worst half a frame, which the peer refuses.
    socket.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Incoming<I>(Arc<Mutex<Socket<I>>>);

impl<I: AsyncRead + AsyncWrite + Unpin> Stream for Incoming<I> {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        lock(&self.0).poll_event(cx)
    }
}

struct Outgoing<I>(Arc<Mutex<Socket<I>>>);

impl<I: AsyncRead + AsyncWrite + Unpin> Outgoing<I> {
    /// Polls the socket, leaving a waker for the incoming half to wake.
    fn poll(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Socket<I>, &mut Context<'_>) -> Poll<Result<(), ForwardError>>,
    ) -> Poll<Result<(), ForwardError>> {
        let mut socket = lock(&self.0);
        let polled = poll(&mut socket, cx);
        socket.parked = polled.is_pending().then(|| cx.waker().clone());
        polled
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Sink<Event> for Outgoing<I> {
    type Error = ForwardError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        self.poll(cx, |socket, cx| {
            if socket.sending == Sending::Broken {
                return Poll::Ready(Err(socket.broken(None)));
            }
            let room = ready!(socket.frames.poll_room(MAX_WAITING, cx));
            Poll::Ready(room.map_err(|cause| socket.broken(Some(cause))))
        })
    }

    fn start_send(self: Pin<&mut Self>, event: Event) -> Result<(), ForwardError> {
        lock(&self.0).push(event)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        self.poll(cx, |socket, cx| {
            let flushed = socket.poll_flush(cx);
            // Nobody polls the incoming half after its close, and the far side may be slow to answer it.
            let _ = socket.poll_drain(cx);
            flushed
        })
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        self.poll(cx, |socket, cx| {
            socket.queue_close(&Close::abnormal());
            ready!(socket.poll_flush(cx))?;
            socket.poll_drain(cx).map(Ok)
        })
    }
}
