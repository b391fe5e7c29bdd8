//! Visitors that keep us waiting in the middle of a body: a sender that trickles, a reader that doesn't read.
//!
//! Owns the one measure for both, [`Patience`]. It runs out only while the visitor is what we wait for: a service that is slow to
//! answer, an event stream without events and a WebSocket without messages cost their visitor nothing. Waiting for a request's head
//! has a limit of its own (`header_timeout`).

use std::{
    io::{self, IoSlice},
    num::NonZeroU64,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// How slow a visitor may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long it may keep us waiting, at once and on the whole.
    pub stall: Duration,
    /// Bytes a second that earn waiting time back. With `None` a single byte earns all of it.
    pub least: Option<NonZeroU64>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            // A phone in a tunnel is back before that.
            stall: Duration::from_secs(30),
            // What IIS asks of its visitors (minBytesPerSecond); Apache asks for 500.
            least: NonZeroU64::new(240),
        }
    }
}

/// What is left of the time that a visitor may keep us waiting. It begins with [`Pace::stall`], and never is more. Waiting uses
/// it up; each byte earns as much of it as it may take at [`Pace::least`].
///
/// So a visitor that is never slower than that is never dropped, one that is may be so for a while, and what was earned by
/// a gigabyte doesn't last for days.
pub(crate) struct Patience {
    pace: Pace,
    left: Duration,
    since: Option<Instant>,
    end: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, left: pace.stall, since: None, end: None }
    }

    /// To be polled while the visitor is what we wait for; ready when patience has run out.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.since.is_none() {
            let now = Instant::now();
            self.since = Some(now);
            let end = now + self.left;
            match &mut self.end {
                Some(sleep) => sleep.as_mut().reset(end),
                None => self.end = Some(Box::pin(sleep_until(end))),
            }
        }
        self.end.as_mut().map_or(Poll::Pending, |end| end.as_mut().poll(cx))
    }

    /// So many bytes came or went.
    pub(crate) fn moved(&mut self, bytes: usize) {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        if bytes == 0 || self.left == self.pace.stall {
            return;
        }
        self.left = match self.pace.least {
            Some(least) => {
                let earned = Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000 / least));
                self.left.saturating_add(earned).min(self.pace.stall)
            }
            None => self.pace.stall,
        };
    }
}

/// A visitor's connection that is dropped if the visitor doesn't read what is written to it.
pub(crate) struct PacedIo<T> {
    io: T,
    patience: Patience,
    slow: SlowVisitors,
}

impl<T> PacedIo<T> {
    pub(crate) fn new(io: T, pace: Pace, slow: SlowVisitors) -> Self {
        Self { io, patience: Patience::new(pace), slow }
    }

    /// The connection below.
    pub(crate) fn get_ref(&self) -> &T {
        &self.io
    }

    /// What became of an attempt to write, unless the visitor's time is over.
    fn in_time<R>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<R>>,
        bytes: impl Fn(&R) -> usize,
    ) -> Poll<io::Result<R>> {
        match polled {
            Poll::Ready(Ok(wrote)) => {
                self.patience.moved(bytes(&wrote));
                Poll::Ready(Ok(wrote))
            }
            Poll::Pending if self.patience.poll_end(cx).is_ready() => {
                self.slow.count(Slow::Answer);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, TooSlow)))
            }
            other => other,
        }
    }
}

/// A visitor doesn't read its answer.
#[derive(Debug, thiserror::Error)]
#[error("the visitor reads its answer too slowly")]
struct TooSlow;

impl<T: AsyncWrite + Unpin> AsyncWrite for PacedIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.in_time(cx, polled, |&bytes| bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.in_time(cx, polled, |&bytes| bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // With TLS this writes too.
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.in_time(cx, polled, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.in_time(cx, polled, |()| 0)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for PacedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

/// Visitors that were too slow, by what they were slow at.
#[derive(Debug, Clone, Default)]
pub(crate) struct SlowVisitors(Family<Label, Counter>);

/// What a visitor was slow at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slow {
    /// Sending a request's head.
    Head,
    /// Sending its body.
    Body,
    /// Reading an answer, or a WebSocket's messages.
    Answer,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    at: &'static str,
}

impl SlowVisitors {
    /// Counts one.
    pub(crate) fn count(&self, slow: Slow) {
        let at = match slow {
            Slow::Head => "head",
            Slow::Body => "body",
            Slow::Answer => "answer",
        };
        self.0.get_or_create(&Label { at }).inc();
    }

    /// Adds the number to the others.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help =
            "Visitors that were dropped because they kept this node waiting, by what they were slow at";
        registry.register("slow_visitors", help, self.0.clone());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, future::poll_fn};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::advance,
    };

    use super::*;

    const PACE: Pace = Pace { stall: Duration::from_secs(30), least: NonZeroU64::new(240) };

    /// Waits so long; whether patience ran out.
    async fn runs_out(patience: &mut Patience, seconds: u64) -> bool {
        assert!(poll_fn(|cx| patience.poll_end(cx)).now_or_never().is_none());
        advance(Duration::from_secs(seconds)).await;
        poll_fn(|cx| patience.poll_end(cx)).now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_has_its_time_and_no_more() {
        let mut patience = Patience::new(PACE);
        assert!(!runs_out(&mut patience, 29).await);
        advance(Duration::from_secs(1)).await;
        assert!(poll_fn(|cx| patience.poll_end(cx)).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_runs_out_and_a_steady_stream_never() {
        let mut patience = Patience::new(PACE);
        let mut waited = 0;
        while !runs_out(&mut patience, 5).await {
            patience.moved(1);
            waited += 5;
            assert!(waited < 60, "a byte each 5 seconds is no stream");
        }
        let mut patience = Patience::new(PACE);
        for _ in 0..1000 {
            assert!(!runs_out(&mut patience, 5).await);
            patience.moved(5 * 240);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_for_the_visitor_is_free_and_bytes_save_nothing_up() {
        let mut patience = Patience::new(PACE);
        assert!(!runs_out(&mut patience, 20).await);
        patience.moved(1_000_000_000);
        advance(Duration::from_secs(3600)).await;
        assert!(!runs_out(&mut patience, 29).await);
        advance(Duration::from_secs(1)).await;
        assert!(poll_fn(|cx| patience.poll_end(cx)).now_or_never().is_some(), "a gigabyte ago");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_least_rate_any_byte_will_do() {
        let mut patience = Patience::new(Pace { least: None, ..PACE });
        for _ in 0..100 {
            assert!(!runs_out(&mut patience, 29).await);
            patience.moved(1);
        }
        assert!(runs_out(&mut patience, 30).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_does_not_read_is_dropped_and_one_without_anything_to_read_is_not() {
        let (near, mut far) = tokio::io::duplex(1000);
        let mut io = PacedIo::new(near, PACE, SlowVisitors::default());
        io.write_all(&[0; 1000]).await.unwrap();
        // Nothing to write: an event stream between events.
        advance(Duration::from_secs(3600)).await;
        far.read_exact(&mut [0; 1000]).await.unwrap();
        io.write_all(&[0; 1000]).await.unwrap();
        let begun = Instant::now();
        let error = io.write_all(&[0]).await.unwrap_err();
        assert_eq!((error.kind(), begun.elapsed().as_secs()), (io::ErrorKind::TimedOut, 30));
        let mut text = String::new();
        let mut registry = Registry::default();
        io.slow.register(&mut registry);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("slow_visitors_total{at=\"answer\"} 1"), "{text}");
    }
}
