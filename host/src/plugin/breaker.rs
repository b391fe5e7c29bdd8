//! Counts failures in a row, and lets a broken plugin rest instead of paying for each of its failures.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Closed until `limit` failures in a row; then open for `pause`, after which a single failure opens it again.
pub(super) struct Breaker {
    limit: u32,
    pause: Duration,
    failures: AtomicU32,
    open_until: Mutex<Option<Instant>>,
}

impl Breaker {
    pub(super) fn new(limit: u32, pause: Duration) -> Self {
        Self { limit, pause, failures: AtomicU32::new(0), open_until: Mutex::new(None) }
    }

    /// Whether a call may be tried now.
    pub(super) fn allows(&self) -> bool {
        if self.failures.load(Relaxed) < self.limit {
            return true;
        }
        let mut until = self.open_until.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if until.is_some_and(|until| now < until) {
            return false;
        }
        // This one tries; the others wait for what comes of it.
        *until = Some(now + self.pause);
        true
    }

    /// Whether calls are held back now. Doesn't count as a try.
    pub(super) fn is_open(&self) -> bool {
        self.failures.load(Relaxed) >= self.limit
            && self
                .open_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn succeeded(&self) {
        // A store for each call would be shared memory written by every core.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// Says whether this failure opened it.
    pub(super) fn failed(&self) -> bool {
        let opened = self.failures.fetch_add(1, Relaxed).saturating_add(1) == self.limit;
        if opened {
            let until = Instant::now() + self.pause;
            *self.open_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        }
        opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_and_tries_again_one_by_one() {
        let breaker = Breaker::new(2, Duration::from_secs(5));
        assert!(!breaker.failed());
        breaker.succeeded();
        assert!(!breaker.failed());
        assert!(breaker.allows() && !breaker.is_open());
        assert!(breaker.failed());
        assert!(breaker.is_open() && !breaker.allows());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(breaker.allows(), "one tries");
        assert!(!breaker.allows(), "the others wait for it");
        breaker.succeeded();
        assert!(breaker.allows() && breaker.allows());
    }
}
