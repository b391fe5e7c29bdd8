//! A bound on what a client may send before it has registered: by then nobody knows it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection of which only the first bytes are read until it is opened.
pub(super) struct Gate<S> {
    inner: S,
    /// Bytes left; `None` once it is open.
    left: Option<usize>,
}

impl<S> Gate<S> {
    pub(super) fn new(inner: S, most: usize) -> Self {
        Self { inner, left: Some(most) }
    }

    pub(super) fn open(&mut self) {
        self.left = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        if let Some(left) = &mut self.left {
            let read = buffer.filled().len() - before;
            *left = left.checked_sub(read).ok_or_else(|| io::Error::other("more than a registration"))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn more_than_a_registration_is_an_error_until_the_gate_is_open() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut gate = Gate::new(near, 4);
        far.write_all(b"four").await.unwrap();
        let mut read = [0; 4];
        gate.read_exact(&mut read).await.unwrap();
        far.write_all(b"5").await.unwrap();
        assert!(gate.read_u8().await.is_err());
        gate.open();
        far.write_all(b"6").await.unwrap();
        assert_eq!(gate.read_u8().await.unwrap(), b'6');
    }
}
