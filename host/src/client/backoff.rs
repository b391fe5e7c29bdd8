//! How long to wait before the next attempt to reach the proxy. Pure: time and chance are passed in.

use std::time::{Duration, Instant};

/// The first wait, at most.
const FIRST: Duration = Duration::from_millis(100);

/// The longest wait while the proxy has not been away for long: it is probably restarting, and visitors wait.
const SOON: Duration = Duration::from_millis(400);

/// The longest wait after [`PATIENCE`].
const LATER: Duration = Duration::from_secs(15);

/// For so long a proxy counts as restarting.
const PATIENCE: Duration = Duration::from_secs(30);

/// A session that ends sooner than this is not a success: the next wait goes on growing.
pub(super) const STABLE: Duration = Duration::from_secs(2);

/// Waits that double from attempt to attempt, each cut short by chance so that many clients don't come at once.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    away_since: Option<Instant>,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST, away_since: None }
    }

    /// The wait before the next attempt. `chance` is between 0 and 1.
    pub(super) fn wait(&mut self, now: Instant, chance: f64) -> Duration {
        let away = now.saturating_duration_since(*self.away_since.get_or_insert(now));
        let wait = self.next.mul_f64(0.5 + chance / 2.0);
        let longest = if away < PATIENCE { SOON } else { LATER };
        self.next = (self.next * 2).min(longest);
        wait
    }

    /// A session has ended that had been up for so long.
    pub(super) fn was_up(&mut self, time: Duration) {
        if time >= STABLE {
            *self = Self::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_under_half_a_second_and_grow_only_when_the_proxy_stays_away() {
        let start = Instant::now();
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..6).map(|_| backoff.wait(start, 1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 400, 400, 400]);
        assert_eq!(backoff.wait(start, 0.0).as_millis(), 200);
        let late = start + PATIENCE;
        let waits: Vec<_> = (0..7).map(|_| backoff.wait(late, 1.0).as_millis()).collect();
        assert_eq!(waits, [400, 800, 1600, 3200, 6400, 12800, 15000]);
    }

    #[test]
    fn only_a_stable_session_resets_the_wait() {
        let now = Instant::now();
        let mut backoff = Backoff::new();
        backoff.wait(now, 1.0);
        backoff.was_up(Duration::from_millis(10));
        assert_eq!(backoff.wait(now, 1.0).as_millis(), 200);
        backoff.was_up(STABLE);
        assert_eq!(backoff.wait(now, 1.0), FIRST);
    }
}
