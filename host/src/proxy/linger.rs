//! A socket that is closed so that the last answer arrives.
//!
//! Owns the end of a visitor's connection. A kernel answers data that nobody read with a reset, and a reset makes the
//! visitor's kernel throw away what it hasn't handed over yet: a 413 in the middle of an upload would be lost.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::door::{Ear, Stream};

/// How long a visitor may go on sending after the answer; most notice within a round trip.
const LINGER_FOR: Duration = Duration::from_secs(2);

/// A visitor's socket.
pub(crate) struct Lingering {
    io: Stream,
    ear: Option<Ear>,
    unread: Unread,
    until: Option<Pin<Box<Sleep>>>,
}

/// Remembers whether a request's body was left unread.
#[derive(Clone, Default)]
pub(crate) struct Unread(Arc<AtomicBool>);

impl Unread {
    /// Someone stopped reading before the end.
    pub(crate) fn mark(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Lingering {
    /// Wraps a socket.
    pub(crate) fn new(io: Stream, ear: Option<Ear>) -> (Self, Unread) {
        let unread = Unread::default();
        (Self { io, ear, unread: unread.clone(), until: None }, unread)
    }

    /// Makes the coming drop a reset, which no visitor takes for the regular end of a body.
    pub(crate) fn reset(&self) {
        self.io.reset();
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER_FOR)));
        let mut scratch = [0; 4096];
        loop {
            if until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut scratch);
            // What it says isn't looked at, and needn't be made out of TLS.
            ready!(Pin::new(self.io.socket()).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.until.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            if !self.unread.0.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_linger(cx)
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before
            && let Some(ear) = &self.ear
        {
            ear.heard();
        }
        Poll::Ready(Ok(()))
    }
}
