//! The machine in front of a socket, and what it and those behind it tell each other.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Bounds, Machine, Step, Violation};

/// What is read from the socket at once while it has to be looked at. Bytes of long bodies go past this.
const AT_ONCE: usize = 8 * 1024;

/// Bytes kept of what follows a request to upgrade before its answer. A WebSocket's first messages fit; whoever sends more waits.
const MOST_HELD: usize = 16 * 1024;

/// Memory that an idle connection may keep for its next request.
const KEPT: usize = 4 * 1024;

/// Nothing that the HTTP library takes for a head, wherever it stands: it answers 400 once all that came before is answered, and
/// reads no further.
const POISON: &[u8] = b"\0\r\n\r\n";

/// Called with what a visitor did wrong, once for each connection at most.
pub(crate) type Refused = Box<dyn Fn(Violation) + Send>;

/// A visitor's socket of which only HTTP is read.
pub(crate) struct StrictIo<T> {
    io: T,
    machine: Machine,
    /// What came and wasn't passed on.
    input: BytesMut,
    /// Bytes at its front that may pass.
    may_pass: usize,
    end: End,
    refused: Refused,
    door: Door,
}

/// Whether there is more to read.
enum End {
    Open,
    /// A head was refused; what is left of the poison goes out yet.
    Poisoned(&'static [u8]),
    /// A body was refused.
    Broken(Violation),
}

/// What the exchanges of a connection, and whoever writes for the HTTP library, have to do with the way in.
#[derive(Clone, Default)]
pub(crate) struct Door(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Why a head was refused.
    refusal: OnceLock<Violation>,
    upgrade: AtomicU8,
    mid_head: AtomicBool,
}

/// Values of [`Inner::upgrade`]; at first it has neither.
const GRANTED: u8 = 1;
const WRITTEN: u8 = 2;

impl Door {
    /// Why the last head of this connection was refused, if it was.
    pub(crate) fn refusal(&self) -> Option<Violation> {
        self.0.refusal.get().copied()
    }

    /// The request in hand is answered with 101. Other bytes than requests pass once that is written (CVE-2026-2833).
    pub(crate) fn grant(&self) {
        self.0.upgrade.store(GRANTED, Relaxed);
    }

    /// Whether the visitor has sent a part of a head, and not its end. To the HTTP library such a connection is idle.
    pub(crate) fn is_mid_head(&self) -> bool {
        self.0.mid_head.load(Relaxed)
    }

    fn wrote(&self, bytes: usize) {
        if bytes > 0 && self.0.upgrade.load(Relaxed) == GRANTED {
            self.0.upgrade.store(WRITTEN, Relaxed);
        }
    }
}

impl<T> StrictIo<T> {
    /// Wraps a socket, before its first byte was read.
    pub(crate) fn new(io: T, bounds: Bounds, refused: Refused) -> (Self, Door) {
        let door = Door::default();
        let machine = Machine::new(bounds);
        let (input, end) = (BytesMut::new(), End::Open);
        (Self { io, machine, input, may_pass: 0, end, refused, door: door.clone() }, door)
    }

    /// The socket.
    pub(crate) fn get_ref(&self) -> &T {
        &self.io
    }

    /// Hands on what may pass.
    fn pass(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.may_pass.min(buf.remaining());
        buf.put_slice(&self.input[..n]);
        self.input.advance(n);
        self.may_pass -= n;
        if self.input.is_empty() {
            self.forget();
        }
    }

    fn forget(&mut self) {
        // Most connections are idle most of the time, and one that was upgraded never needs it again.
        if self.input.capacity() > KEPT || self.machine.free() > 0 {
            self.input = BytesMut::new();
        }
    }

    fn refuse(&mut self, violation: Violation) {
        (self.refused)(violation);
        tracing::debug!(kind = violation.kind(), "a request was refused");
        self.input = BytesMut::new();
        self.end = if self.machine.is_mid_body() {
            End::Broken(violation)
        } else {
            // Set once: nothing is read after it.
            let _ = self.door.0.refusal.set(violation);
            End::Poisoned(POISON)
        };
    }
}

impl<T: AsyncRead + Unpin> StrictIo<T> {
    /// Reads some more to look at. `Ready(false)` at the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut scratch = [const { MaybeUninit::uninit() }; AT_ONCE];
        let mut read = ReadBuf::uninit(&mut scratch);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        self.input.extend_from_slice(read.filled());
        Poll::Ready(Ok(!read.filled().is_empty()))
    }

    /// Reads what may pass unseen, without a copy.
    fn poll_unseen(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.machine.passed(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for StrictIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        loop {
            this.pass(buf);
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let passed = buf.filled().len() > before;
            match &mut this.end {
                End::Open => {}
                End::Poisoned(rest) => {
                    let n = rest.len().min(buf.remaining());
                    buf.put_slice(&rest[..n]);
                    *rest = &rest[n..];
                    return Poll::Ready(Ok(()));
                }
                End::Broken(_) if passed => return Poll::Ready(Ok(())),
                End::Broken(violation) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, *violation)));
                }
            }
            if this.door.0.upgrade.load(Relaxed) == WRITTEN {
                this.machine.switch();
            }
            let step = match this.machine.step(&this.input) {
                Ok(Step::Pass(bytes)) => {
                    this.may_pass = bytes;
                    continue;
                }
                Ok(Step::Skip(bytes)) => {
                    this.input.advance(bytes);
                    continue;
                }
                Ok(step) => step,
                Err(violation) => {
                    this.refuse(violation);
                    continue;
                }
            };
            this.door.0.mid_head.store(this.machine.is_mid_head(), Relaxed);
            if passed {
                return Poll::Ready(Ok(()));
            }
            if step == Step::Hold && this.input.len() >= MOST_HELD {
                // Whoever grants the upgrade reads again.
                return Poll::Pending;
            }
            if this.input.is_empty() && this.machine.free() >= buf.remaining() as u64 {
                return this.poll_unseen(cx, buf);
            }
            if !ready!(this.poll_more(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for StrictIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.door.wrote(wrote);
        Poll::Ready(Ok(wrote))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.door.wrote(wrote);
        Poll::Ready(Ok(wrote))
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";

    async fn after(bytes: &[u8]) -> (StrictIo<DuplexStream>, Door, DuplexStream) {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let (io, door) = StrictIo::new(near, Bounds { head: 8192, fields: 10 }, Box::new(|_| ()));
        far.write_all(bytes).await.unwrap();
        (io, door, far)
    }

    async fn read(io: &mut StrictIo<DuplexStream>, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        io.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn what_follows_a_request_to_upgrade_passes_once_the_101_is_written() {
        let (mut io, door, _far) = after(&[UPGRADE, b"\0raw"].concat()).await;
        assert_eq!(read(&mut io, UPGRADE.len()).await, UPGRADE);
        io.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        assert!(io.read_u8().now_or_never().is_none(), "nobody has granted it");
        door.grant();
        assert!(io.read_u8().now_or_never().is_none(), "the visitor hasn't heard of it");
        io.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.unwrap();
        assert_eq!(read(&mut io, 4).await, b"\0raw");
        assert_eq!(io.input.capacity(), 0, "thousands of idle tunnels have nothing to keep");
    }

    #[tokio::test]
    async fn no_more_is_held_than_its_limit_and_the_end_is_heard() {
        let (mut io, _door, far) = after(&[UPGRADE, &[b'x'; 50_000]].concat()).await;
        read(&mut io, UPGRADE.len()).await;
        assert!(io.read_u8().now_or_never().is_none());
        assert!(io.input.len() < MOST_HELD + AT_ONCE, "{}", io.input.len());
        drop(far);
        let (mut io, _door, far) = after(UPGRADE).await;
        read(&mut io, UPGRADE.len()).await;
        assert!(io.read_u8().now_or_never().is_none());
        drop(far);
        assert_eq!(io.read(&mut [0; 9]).await.unwrap(), 0, "a visitor who hangs up is noticed");
    }

    #[tokio::test]
    async fn a_refused_head_is_poison_behind_all_that_was_good() {
        let good = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let (mut io, door, _far) = after(&[&good[..], b"GET / HTTP/1.1\nHost: a\n\n", good].concat()).await;
        let mut read = Vec::new();
        io.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, [&good[..], POISON].concat());
        assert_eq!(door.refusal(), Some(Violation::BareLf));
    }

    #[tokio::test]
    async fn a_refused_body_is_an_error_that_says_why() {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc";
        let (mut io, door, _far) = after(&[&head[..], b"\n0\r\n\r\n"].concat()).await;
        assert_eq!(read(&mut io, head.len()).await, head);
        let error = io.read_u8().await.unwrap_err();
        let why = error.get_ref().and_then(|why| why.downcast_ref::<Violation>());
        assert_eq!((why, door.refusal()), (Some(&Violation::ChunkEnd), None));
    }

    #[tokio::test]
    async fn long_bodies_pass_whole_whatever_is_read_at_once() {
        for at_once in [1, 100, 5000, 20_000] {
            let body: Vec<u8> = (0..30_000).map(|number: u32| number as u8).collect();
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
            let (mut io, _door, far) = after(&[head.as_bytes(), &body, head.as_bytes()].concat()).await;
            drop(far);
            let (mut seen, mut buf) = (Vec::new(), vec![0; at_once]);
            loop {
                let n = io.read(&mut buf).await.unwrap();
                if n == 0 {
                    break;
                }
                seen.extend_from_slice(&buf[..n]);
            }
            assert_eq!(seen, [head.as_bytes(), &body, head.as_bytes()].concat(), "{at_once}");
        }
    }
}
