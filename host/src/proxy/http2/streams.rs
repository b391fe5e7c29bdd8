//! The streams of one connection: each is a task of its own, which ends when its visitor stops reading.
//!
//! Owns how many are open, and how long an answer may wait for its visitor. Must not know what an answer says.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::rt::Executor;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::proxy::outgoing::{BrokenOff, Outgoing};

/// How long an answer may wait for a visitor who doesn't open the stream's window (CVE-2019-9517), or doesn't read.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked after; a part of a minute, so that few answers live to see it.
const LOOKS: u32 = 4;

tokio::task_local! {
    /// The progress of the stream whose task this is.
    static PROGRESS: Arc<Progress>;
}

/// Runs the streams of one connection.
#[derive(Clone)]
pub(super) struct Streams {
    tracker: TaskTracker,
    open: Arc<watch::Sender<usize>>,
    stalled: Counter,
}

impl Streams {
    pub(super) fn new(tracker: TaskTracker, stalled: Counter) -> Self {
        Self { tracker, open: Arc::new(watch::Sender::new(0)), stalled }
    }

    /// How many are open, as it changes.
    pub(super) fn open(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let open = Open::new(Arc::clone(&self.open));
        let (progress, stalled) = (Arc::<Progress>::default(), self.stalled.clone());
        self.tracker.spawn(async move {
            let _open = open;
            tokio::select! {
                biased;
                () = PROGRESS.scope(Arc::clone(&progress), stream) => {}
                // The stream is dropped, and its visitor hears CANCEL.
                () = progress.stalled() => {
                    stalled.inc();
                }
            }
        });
    }
}

struct Open(Arc<watch::Sender<usize>>);

impl Open {
    fn new(open: Arc<watch::Sender<usize>>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// Whose turn it is: even while the answer is to go on, odd while the visitor is to take what is there of it.
#[derive(Default)]
struct Progress(AtomicU64);

impl Progress {
    fn turn(&self, visitors: bool) {
        // Only the stream's own task writes it.
        let now = self.0.load(Relaxed);
        if (now % 2 == 1) != visitors {
            self.0.store(now + 1, Relaxed);
        } else if visitors {
            self.0.store(now + 2, Relaxed);
        }
    }

    /// Ends when it was the visitor's turn, and the same one, for too long.
    async fn stalled(&self) {
        let (mut before, mut looks) = (0, 0);
        while looks < LOOKS {
            tokio::time::sleep(PATIENCE / LOOKS).await;
            let now = self.0.load(Relaxed);
            looks = if now % 2 == 1 && now == before { looks + 1 } else { 0 };
            before = now;
        }
    }
}

/// An answer's body that tells its stream whose turn it is.
pub(super) struct Watched {
    body: Outgoing,
    progress: Option<Arc<Progress>>,
}

impl Watched {
    /// To be called in the task of the stream.
    pub(super) fn new(body: Outgoing) -> Self {
        Self { body, progress: PROGRESS.try_with(Arc::clone).ok() }
    }

    fn turn(&self, visitors: bool) {
        if let Some(progress) = &self.progress {
            progress.turn(visitors);
        }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BrokenOff;

    /// Hyper asks for the next piece once it could get rid of the last one.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.turn(polled.is_ready());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_visitor_who_takes_nothing_is_waited_for_no_longer_than_a_minute_or_so() {
        let progress = Progress::default();
        progress.turn(true);
        let start = tokio::time::Instant::now();
        progress.stalled().await;
        assert!(start.elapsed() >= PATIENCE && start.elapsed() <= PATIENCE * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_visitor_who_waits_for_us_may_wait_for_ever_and_one_who_reads_slowly_may_read() {
        let progress = Progress::default();
        progress.turn(false);
        assert!(tokio::time::timeout(PATIENCE * 100, progress.stalled()).await.is_err());
        let mut stalled = std::pin::pin!(progress.stalled());
        for _ in 0..100 {
            progress.turn(true);
            assert!(stalled.as_mut().now_or_never().is_none());
            tokio::time::sleep(PATIENCE / 2).await;
            assert!(stalled.as_mut().now_or_never().is_none());
        }
    }
}
