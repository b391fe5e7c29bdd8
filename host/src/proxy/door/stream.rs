//! What is read and written on a visitor's connection: bytes as they are, or what TLS makes of them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::exchange::poll_write_together;

/// A visitor's connection.
pub(crate) enum Stream {
    /// Without TLS, and with what was read of it to know what it is.
    Plain(Bytes, TcpStream),
    /// With TLS, after its handshake. In a box, for it is some hundred bytes larger.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The socket below. What is read from it is lost to TLS.
    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(_, socket) => socket,
            Self::Tls(stream) => stream.get_mut().0,
        }
    }

    /// Makes the coming drop a reset, which no visitor takes for the regular end of a body; nor is TLS brought to an end.
    pub(crate) fn reset(&self) {
        let socket = match self {
            Self::Plain(_, socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        };
        // Where it fails the connection is gone already.
        let _ = socket.set_zero_linger();
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(ahead, io) if ahead.is_empty() => Pin::new(io).poll_read(cx, buf),
            Self::Plain(ahead, _) => {
                buf.put_slice(&ahead.split_to(ahead.len().min(buf.remaining())));
                Poll::Ready(Ok(()))
            }
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(_, io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(_, io) => poll_write_together(io, cx, bufs),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(_, io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(_, io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    /// Says that nothing more is written: to TLS first (RFC 8446 section 6.1), so that nobody takes the end for one that was
    /// cut off, and then to TCP.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(_, io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
