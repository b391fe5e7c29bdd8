//! A connection to the origin that knows its past.
//!
//! A server may close a connection that was kept in the very moment in which the next request is on its way. Whether
//! that is what happened can be told from the order of reads and writes alone; the HTTP library doesn't say.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use hyper_util::client::legacy::{
    self,
    connect::{Connected, Connection},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that may be used again.
pub(super) struct Kept<T> {
    io: T,
    past: Past,
}

/// What has passed over a connection. Only the one task that drives the connection writes it.
#[derive(Clone, Default)]
struct Past(Arc<[AtomicBool; 2]>);

impl Past {
    /// Something was read before something was written: this isn't the connection's first request.
    fn reused(&self) -> &AtomicBool {
        &self.0[0]
    }

    /// Something was read after the last thing was written.
    fn answered(&self) -> &AtomicBool {
        &self.0[1]
    }

    /// To be told before bytes go out: an answer may come before the caller hears that they went.
    fn writes(&self) {
        if self.answered().swap(false, Relaxed) {
            self.reused().store(true, Relaxed);
        }
    }
}

impl<T> Kept<T> {
    pub(super) fn new(io: T) -> Self {
        Self { io, past: Past::default() }
    }

    #[cfg(test)]
    pub(super) fn get_ref(&self) -> &T {
        &self.io
    }
}

/// Whether a request without a body failed because its connection, kept from an earlier one, ended before a single byte
/// of the answer came.
pub(super) fn closed_in_between(error: &legacy::Error) -> bool {
    let mut extras = http::Extensions::new();
    if let Some(connected) = error.connect_info() {
        connected.get_extras(&mut extras);
    }
    extras.get::<Past>().is_some_and(|past| past.reused().load(Relaxed) && !past.answered().load(Relaxed))
        && ended(error)
}

fn ended(error: &legacy::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return true;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let kind = error.kind();
            return matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected);
        }
        cause = error.source();
    }
    false
}

impl<T> Connection for Kept<T> {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.past.clone())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Kept<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.past.answered().store(true, Relaxed);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Kept<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.past.writes();
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.past.writes();
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
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
