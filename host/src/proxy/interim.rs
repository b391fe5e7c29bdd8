//! Interim responses (RFC 9110 section 15.2) beside hyper, whose server can't send any but 100; and better words for
//! hyper's own answers to heads that it can't read.
//!
//! Owns the one place where bytes reach a visitor's socket without hyper's knowledge, and the proof that they fall
//! between messages: hyper calls `poll_flush` of its socket only when its own buffer is empty. So after a flush, and
//! until hyper writes again, the stream stands at a boundary, as long as the exchange's final head hasn't been
//! made; the [`Gate`] closes at that moment, in the same task. By the same token what hyper writes after a flush, while
//! no [`Turn`] lasts, is no answer of ours but one of its own. Must not know routing or sessions.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::exchange::{Interim, hygiene};

/// Interim responses waiting at once; real ones come singly, and whoever sends more loses the surplus.
const MAX_WAITING: usize = 8;

/// Bytes of one interim response; as much as browsers take of `Link` headers.
const MAX_HEAD: usize = 16 * 1024;

/// A visitor's socket that can slip interim responses in between.
pub(crate) struct InterimIo<T> {
    io: T,
    slot: Arc<Slot>,
    /// What is left of ours that is being written; goes out before anything else.
    writing: Bytes,
    replace: Replace,
}

/// Given what hyper wrote of its own accord, says what goes out in its place, if anything.
pub(crate) type Replace = Box<dyn FnMut(&[u8]) -> Option<Bytes> + Send>;

/// The way to the same socket for the exchanges of the connection, one after another.
#[derive(Clone)]
pub(crate) struct Interims(Arc<Slot>);

/// From a request's arrival until its answer is in hyper's hands, to the last byte.
pub(crate) struct Turn(Option<Arc<Slot>>);

/// Lets interim responses of one exchange through until it is dropped.
pub(crate) struct Gate(Arc<Slot>);

#[derive(Default)]
struct Slot(Mutex<State>);

#[derive(Default)]
struct State {
    /// Numbers the exchanges, so that a late caller never speaks into the next one.
    turn: u64,
    /// The exchange of this turn has no final head yet.
    open: bool,
    /// Hyper has flushed since this turn began, and written nothing since.
    clean: bool,
    waiting: VecDeque<Bytes>,
    waker: Option<Waker>,
    /// Whose bytes hyper writes.
    speaker: Speaker,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Speaker {
    /// Nobody's but hyper's.
    #[default]
    Hyper,
    /// Ours: an answer is being made, or was and goes on.
    Turn,
    /// Ours still: the answer's last bytes may wait in hyper's buffer.
    Unflushed,
}

impl Slot {
    // Never held across a call into foreign code, so a poisoned state is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> InterimIo<T> {
    /// Wraps a socket. `replace` is asked whenever hyper answers by itself.
    pub(crate) fn new(io: T, replace: Replace) -> (Self, Interims) {
        let slot = Arc::new(Slot::default());
        (Self { io, slot: slot.clone(), writing: Bytes::new(), replace }, Interims(slot))
    }

    /// Whether no answer of ours is under way, so that hyper, and nobody else, may begin one.
    pub(crate) fn is_hypers(&self) -> bool {
        self.slot.lock().speaker == Speaker::Hyper
    }

    /// The socket.
    pub(crate) fn get_ref(&self) -> &T {
        &self.io
    }
}

impl Interims {
    /// Whether no answer of ours is under way.
    pub(crate) fn is_hypers(&self) -> bool {
        self.0.lock().speaker == Speaker::Hyper
    }

    /// A request has come.
    pub(crate) fn turn(&self) -> Turn {
        self.0.lock().speaker = Speaker::Turn;
        Turn(Some(self.0.clone()))
    }

    /// Begins an exchange. Its interim responses go out until the gate is dropped, which has to happen in the task
    /// that drives the connection, at the latest when the final response is given to hyper.
    pub(crate) fn begin(&self) -> (Interim, Gate) {
        let turn = {
            let mut state = self.0.lock();
            state.turn += 1;
            state.open = true;
            state.clean = false;
            state.waiting.clear();
            state.turn
        };
        let slot = self.0.clone();
        let send = move |status, headers| {
            if let Some(head) = encode(status, headers) {
                slot.push(turn, head);
            }
        };
        (Arc::new(send), Gate(self.0.clone()))
    }
}

impl Slot {
    fn push(&self, turn: u64, head: Bytes) {
        let waker = {
            let mut state = self.lock();
            if !state.open || state.turn != turn || state.waiting.len() >= MAX_WAITING {
                return;
            }
            state.waiting.push_back(head);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Turn {
    /// After an upgrade, whatever is written is ours.
    pub(crate) fn for_ever(mut self) {
        self.0 = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(slot) = &self.0 {
            slot.lock().speaker = Speaker::Unflushed;
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.lock().open = false;
    }
}

/// The bytes of an interim response; `None` for those that aren't to be sent: 100 is hyper's, which sends it when
/// the body is first asked for, and 101 is a final answer.
fn encode(status: StatusCode, mut headers: HeaderMap) -> Option<Bytes> {
    if !status.is_informational() || status.as_u16() <= 101 {
        return None;
    }
    hygiene::response(&mut headers);
    let mut head = Vec::with_capacity(256);
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(status.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(status.canonical_reason().unwrap_or("Interim").as_bytes());
    head.extend_from_slice(b"\r\n");
    for (name, value) in &headers {
        // RFC 9110 section 8.6: no framing here, a reader might take it for a body.
        if *name == header::CONTENT_LENGTH || *name == header::TRAILER {
            continue;
        }
        put_field(&mut head, name, value);
    }
    head.extend_from_slice(b"\r\n");
    (head.len() <= MAX_HEAD).then(|| head.into())
}

/// Writes one line of a head.
pub(super) fn put_field(head: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    head.extend_from_slice(name.as_str().as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value.as_bytes());
    head.extend_from_slice(b"\r\n");
}

impl<T: AsyncWrite + Unpin> InterimIo<T> {
    fn poll_write_interims(
        &mut self,
        cx: &mut Context<'_>,
        next: impl Fn(&mut State, &Waker) -> Option<Bytes>,
    ) -> Poll<io::Result<()>> {
        loop {
            while self.writing.has_remaining() {
                let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.writing))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.writing.advance(n);
            }
            match next(&mut self.slot.lock(), cx.waker()) {
                Some(head) => self.writing = head,
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// What has to go out before bytes of hyper's.
    fn poll_before_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_interims(cx, |state, _| if state.clean {
            state.waiting.pop_front()
        } else {
            None
        }))?;
        let mut state = self.slot.lock();
        state.clean = false;
        if !state.open {
            // The final head was made before these could go out.
            state.waiting.clear();
        }
        Poll::Ready(Ok(()))
    }

    /// Takes all that hyper says if it is to be replaced, and how many bytes that were. Hyper gives such an answer
    /// in one piece, and none of it is written here before the flush that follows.
    fn replaced(&mut self, bufs: &[IoSlice<'_>]) -> Option<usize> {
        if self.slot.lock().speaker != Speaker::Hyper {
            return None;
        }
        let hypers: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        self.writing = (self.replace)(&hypers)?;
        Some(hypers.len())
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for InterimIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_before_write(cx))?;
        if let Some(taken) = self.replaced(&[IoSlice::new(buf)]) {
            return Poll::Ready(Ok(taken));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_before_write(cx))?;
        if let Some(taken) = self.replaced(bufs) {
            return Poll::Ready(Ok(taken));
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let next = |state: &mut State, waker: &Waker| {
            if state.speaker == Speaker::Unflushed {
                state.speaker = Speaker::Hyper;
            }
            if !state.open {
                state.waiting.clear();
                return None;
            }
            state.clean = true;
            let head = state.waiting.pop_front();
            if head.is_none() {
                state.waker = Some(waker.clone());
            }
            head
        };
        ready!(self.poll_write_interims(cx, next))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_interims(cx, |_, _| None))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for InterimIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";

    fn hint(send: &Interim) {
        let mut headers = HeaderMap::new();
        headers.insert("link", "</a.css>".parse().unwrap());
        headers.insert("content-length", "5".parse().unwrap());
        send(StatusCode::EARLY_HINTS, headers);
    }

    fn written(io: &InterimIo<Vec<u8>>) -> &str {
        std::str::from_utf8(io.get_ref()).unwrap()
    }

    #[tokio::test]
    async fn goes_out_after_a_flush_and_before_the_final_head() {
        let (mut io, interims) = InterimIo::new(Vec::new(), Box::new(|_| None));
        let (send, gate) = interims.begin();
        io.flush().await.unwrap();
        hint(&send);
        io.flush().await.unwrap();
        assert_eq!(written(&io), HINT);
        hint(&send);
        drop(gate);
        io.write_all(b"final").await.unwrap();
        assert_eq!(written(&io), [HINT, HINT, "final"].concat());
    }

    #[tokio::test]
    async fn never_splits_what_hyper_writes() {
        let (mut io, interims) = InterimIo::new(Vec::new(), Box::new(|_| None));
        let (_, gate) = interims.begin();
        io.flush().await.unwrap();
        drop(gate);
        // The last response is still in hyper's buffer when the next exchange begins.
        let (send, gate) = interims.begin();
        hint(&send);
        io.write_all(b"last").await.unwrap();
        io.write_all(b"response").await.unwrap();
        assert_eq!(written(&io), "lastresponse");
        io.flush().await.unwrap();
        assert_eq!(written(&io), ["lastresponse", HINT].concat());
        io.write_all(b"half").await.unwrap();
        hint(&send);
        drop(gate);
        io.write_all(b"final").await.unwrap();
        io.flush().await.unwrap();
        io.write_all(b"body").await.unwrap();
        assert_eq!(written(&io), ["lastresponse", HINT, "halffinalbody"].concat());
    }

    #[tokio::test]
    async fn a_late_one_never_reaches_the_next_exchange() {
        let (mut io, interims) = InterimIo::new(Vec::new(), Box::new(|_| None));
        let (old, gate) = interims.begin();
        drop(gate);
        hint(&old);
        let (_new, _gate) = interims.begin();
        hint(&old);
        io.flush().await.unwrap();
        assert_eq!(written(&io), "");
    }

    /// Takes a few bytes at a time, as a socket with a full buffer does.
    struct Narrow(Vec<u8>);

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let taken = buf.len().min(3);
            self.0.extend_from_slice(&buf[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn replacing() -> (InterimIo<Narrow>, Interims) {
        let replace = |hypers: &[u8]| (hypers == b"bare answer").then(|| Bytes::from_static(b"words"));
        InterimIo::new(Narrow(Vec::new()), Box::new(replace))
    }

    #[tokio::test]
    async fn hypers_own_answer_is_replaced_however_little_the_socket_takes() {
        let (mut io, _) = replacing();
        assert_eq!(io.write(b"bare answer").await.unwrap(), 11);
        io.flush().await.unwrap();
        assert_eq!(io.get_ref().0, b"words");
        let (mut io, _) = replacing();
        let two = [IoSlice::new(b"bare "), IoSlice::new(b"answer")];
        assert_eq!(io.write_vectored(&two).await.unwrap(), 11);
        // Whoever ends without a flush still says it.
        io.shutdown().await.unwrap();
        assert_eq!(io.get_ref().0, b"words");
    }

    /// An origin may answer with the very bytes that hyper would.
    #[tokio::test]
    async fn an_answer_of_ours_that_looks_like_hypers_stays() {
        let (mut io, interims) = replacing();
        let turn = interims.turn();
        io.flush().await.unwrap();
        assert!(io.write(b"bare answer").await.unwrap() < 11, "it goes to the socket as it is");
        drop(turn);
        // Hyper still has it, or a part of it, in its buffer.
        assert!(io.write(b"bare answer").await.unwrap() < 11);
        io.flush().await.unwrap();
        assert_eq!(io.write(b"bare answer").await.unwrap(), 11);
        let (mut io, interims) = replacing();
        interims.turn().for_ever();
        io.flush().await.unwrap();
        assert!(io.write(b"bare answer").await.unwrap() < 11, "a WebSocket is ours to its end");
    }

    #[tokio::test]
    async fn surplus_oversized_and_other_statuses_are_dropped() {
        let (mut io, interims) = InterimIo::new(Vec::new(), Box::new(|_| None));
        let (send, _gate) = interims.begin();
        for status in [StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS, StatusCode::OK] {
            send(status, HeaderMap::new());
        }
        let long = [(header::LINK, "x".repeat(MAX_HEAD).parse().unwrap())];
        send(StatusCode::EARLY_HINTS, long.into_iter().collect());
        for _ in 0..MAX_WAITING + 5 {
            hint(&send);
        }
        io.flush().await.unwrap();
        assert_eq!(written(&io), HINT.repeat(MAX_WAITING));
    }
}
