//! How often one address, and one key, may try to register.

use std::{
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, state::keyed::DashMapStateStore,
};

use super::address::Source;
use crate::{proxy::Rate, wire::KeyName};

/// Buckets that are kept of each kind, about 100 bytes each. Whoever has more addresses than this at once is an attack of many, and
/// has to wait with all the others until buckets are full again and go.
const MOST: usize = 100_000;

/// Looking through all of them takes some milliseconds: a flood must not make us do it each time.
const SWEEP: Duration = Duration::from_secs(1);

/// Buckets by address, and by key. They are made anew when the rate is another one.
#[derive(Default)]
pub(super) struct Throttle {
    addresses: Buckets<Source>,
    keys: Buckets<KeyName>,
}

impl Throttle {
    /// # Errors
    /// How long until there is a token.
    pub(super) fn address(&self, rate: Option<Rate>, source: Source) -> Result<(), Duration> {
        self.addresses.take(rate, &source)
    }

    /// # Errors
    /// How long until there is a token.
    pub(super) fn key(&self, rate: Option<Rate>, key: &KeyName) -> Result<(), Duration> {
        self.keys.take(rate, key)
    }
}

type Limiter<K> = RateLimiter<K, DashMapStateStore<K>, RuntimeClock, NoOpMiddleware<Instant>>;

struct Buckets<K: Hash + Eq + Clone>(Mutex<Option<Kept<K>>>);

struct Kept<K: Hash + Eq + Clone> {
    rate: Rate,
    limiter: Limiter<K>,
    swept: Instant,
}

impl<K: Hash + Eq + Clone> Default for Buckets<K> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn take(&self, rate: Option<Rate>, key: &K) -> Result<(), Duration> {
        let Some(rate) = rate else { return Ok(()) };
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = RuntimeClock.now();
        let kept = match &mut *buckets {
            Some(kept) if kept.rate == rate => kept,
            other => other.insert(Kept { rate, limiter: limiter(rate), swept: now }),
        };
        if kept.limiter.len() >= MOST {
            if now.duration_since(kept.swept) >= SWEEP {
                kept.swept = now;
                kept.limiter.retain_recent();
            }
            if kept.limiter.len() >= MOST {
                return Err(each(rate).max(SWEEP));
            }
        }
        kept.limiter.check_key(key).map_err(|refused| refused.wait_time_from(now))
    }
}

fn limiter<K: Hash + Eq + Clone>(rate: Rate) -> Limiter<K> {
    let quota = Quota::with_period(each(rate)).expect("longer than no time").allow_burst(rate.burst);
    RateLimiter::dashmap_with_clock(quota, RuntimeClock)
}

/// The time of one token; at least a nanosecond.
fn each(rate: Rate) -> Duration {
    (rate.per / rate.tokens.get()).max(Duration::from_nanos(1))
}

/// The runtime's clock, so that tests can pause it.
struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn rate(tokens: u32, burst: u32) -> Option<Rate> {
        let number = |n| NonZeroU32::new(n).unwrap();
        Some(Rate { tokens: number(tokens), per: Duration::from_secs(60), burst: number(burst) })
    }

    fn from(text: &str) -> Source {
        Source::of(text.parse().unwrap()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn each_address_has_its_own_tokens_and_they_come_back() {
        let throttle = Throttle::default();
        let one = from("192.0.2.1");
        for _ in 0..2 {
            throttle.address(rate(6, 2), one).unwrap();
        }
        let wait = throttle.address(rate(6, 2), one).unwrap_err();
        assert_eq!(wait, Duration::from_secs(10));
        throttle.address(rate(6, 2), from("192.0.2.2")).unwrap();
        tokio::time::advance(wait).await;
        throttle.address(rate(6, 2), one).unwrap();
        throttle.address(rate(6, 2), one).unwrap_err();
        throttle.address(None, one).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_beyond_number_are_refused_until_others_are_forgotten() {
        let buckets = Buckets::<u32>::default();
        for n in 0..u32::try_from(MOST).unwrap() {
            buckets.take(rate(60, 1), &n).unwrap();
        }
        buckets.take(rate(60, 1), &u32::MAX).unwrap_err();
        tokio::time::advance(Duration::from_secs(2)).await;
        buckets.take(rate(60, 1), &u32::MAX).unwrap();
    }
}
