//! A visitor's socket that watches the frames on it, and ends the connection when there are too many of those that do no
//! good.
//!
//! Owns the words with which it ends: GOAWAY with ENHANCE_YOUR_CALM (RFC 9113 section 10.5), put between two frames of
//! hyper's, which has no way to say it. Must not know what is asked for.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    frames::{Frames, Kind},
    ledger::{Flood, Ledger},
};
use crate::proxy::linger::Lingering;

/// A socket whose frames are counted.
pub(super) struct Guarded {
    io: Lingering,
    theirs: Frames,
    ours: Frames,
    /// None for a peer that speaks for many visitors.
    ledger: Option<Ledger>,
    last_stream: u32,
    ending: Option<Ending>,
    notice: Notice,
}

/// Told of a flood when it is noticed.
pub(super) type Notice = Box<dyn Fn(Flood) + Send>;

/// What is left to do once a flood was noticed.
struct Ending {
    flood: Flood,
    /// What is left of the last words.
    words: Vec<u8>,
}

impl Guarded {
    /// Wraps a socket. The peer is taken at its word, however often it changes it, if it is trusted: a server in front
    /// passes on what many visitors do.
    pub(super) fn new(io: Lingering, trusted: bool, notice: Notice) -> Self {
        Self {
            io,
            theirs: Frames::of_visitor(),
            ours: Frames::of_proxy(),
            ledger: (!trusted).then(|| Ledger::new(Instant::now())),
            last_stream: 0,
            ending: None,
            notice,
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        let Some(ledger) = &mut self.ledger else { return };
        let mut last = self.last_stream;
        self.theirs.pass(bytes, |frame| {
            if frame.kind == Kind::Headers {
                last = last.max(frame.stream);
            }
            ledger.read(frame);
        });
        self.last_stream = last;
        if let Err(flood) = ledger.settle(Instant::now()) {
            // Between two frames only: in the midst of one, the words would be taken for a part of it.
            let words = if self.ours.is_between() { goaway(self.last_stream) } else { Vec::new() };
            self.ending = Some(Ending { flood, words });
            (self.notice)(flood);
        }
    }

    fn wrote(&mut self, written: &[IoSlice<'_>], mut length: usize) {
        let Some(ledger) = &mut self.ledger else { return };
        for piece in written {
            let passed = piece.len().min(length);
            self.ours.pass(&piece[..passed], |frame| ledger.wrote(frame));
            length -= passed;
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(ending) = &mut self.ending else { return Poll::Pending };
        while !ending.words.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &ending.words)) {
                Ok(n @ 1..) => _ = ending.words.drain(..n),
                // The visitor is gone already.
                _ => ending.words.clear(),
            }
        }
        let _ = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
        Poll::Ready(io::Error::other(ending.flood))
    }
}

fn goaway(last_stream: u32) -> Vec<u8> {
    let head = [0, 0, 8, 7, 0, 0, 0, 0, 0];
    [&head[..], &last_stream.to_be_bytes(), &u32::from(Reason::ENHANCE_YOUR_CALM).to_be_bytes()].concat()
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ending.is_none() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            self.read(&buf.filled()[before..]);
            if self.ending.is_none() {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(before);
        }
        self.poll_end(cx).map(Err)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.ending.is_some() {
            return self.poll_end(cx).map(Err);
        }
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.wrote(&[IoSlice::new(buf)], written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.ending.is_some() {
            return self.poll_end(cx).map(Err);
        }
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.wrote(bufs, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ending.is_some() {
            return self.poll_end(cx).map(Err);
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
