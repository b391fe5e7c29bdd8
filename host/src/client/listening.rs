//! A connection to the origin that tells when it is read, which the HTTP library doesn't.
//!
//! Must not know what is read, or why somebody wants to know.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::Stream;
use crate::exchange::poll_write_together;

/// Hears of a connection.
pub(super) trait Listener: Unpin {
    /// More is to be read: what came before has been understood.
    fn asked(&mut self) {}

    /// Something was read.
    fn heard(&mut self);
}

/// A connection, and who hears of it.
pub(super) struct Listening<L> {
    io: Stream,
    listener: L,
}

impl<L> Listening<L> {
    /// Nothing was read yet.
    pub(super) fn new(io: Stream, listener: L) -> Self {
        Self { io, listener }
    }
}

impl<L: Listener> AsyncRead for Listening<L> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.listener.asked();
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.listener.heard();
        }
        polled
    }
}

impl<L: Listener> AsyncWrite for Listening<L> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_together(&mut self.io, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
