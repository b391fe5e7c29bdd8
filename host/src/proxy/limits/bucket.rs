//! Token buckets, one for each tunnel: in this node's memory, or shared by all nodes.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, state::keyed::DashMapStateStore,
};

use super::{lease::each, reach::Reach, shared::Shared};
use crate::{proxy::Rate, wire::TunnelName};

/// After so many tokens the buckets that are full again are dropped: a full one is the same as none. Until then, and
/// as long as it takes a bucket to fill, names that nobody registered take room too, about 100 bytes each, and
/// three times as much where buckets are shared.
pub(super) const HOUSEKEEPING: usize = 4096;

/// All tunnels' buckets of one rate.
pub(crate) struct Buckets {
    pub(super) rate: Rate,
    kept: Kept,
}

enum Kept {
    Here(Local),
    Shared(Arc<Shared>),
}

/// What comes of asking for a token.
pub(super) enum Take {
    Taken,
    /// There will be one after so long.
    Refused(Duration),
    /// It has to be asked for elsewhere; then it is taken, or there will be one after so long.
    Asking(Pin<Box<dyn Future<Output = Result<(), Duration>> + Send>>),
}

impl From<Result<(), Duration>> for Take {
    fn from(taken: Result<(), Duration>) -> Self {
        match taken {
            Ok(()) => Self::Taken,
            Err(wait) => Self::Refused(wait),
        }
    }
}

impl Buckets {
    /// Buckets that this node has by itself, or by `reach` with all that have the same scope and rate.
    pub(crate) fn new(rate: Rate, scope: &str, reach: Option<&Arc<Reach>>) -> Self {
        let kept = match reach {
            None => Kept::Here(Local::new(rate)),
            Some(reach) => Kept::Shared(Shared::new(scope, rate, Arc::clone(reach))),
        };
        Self { rate, kept }
    }

    pub(super) fn take(&self, name: &TunnelName) -> Take {
        match &self.kept {
            Kept::Here(local) => local.take(name).into(),
            Kept::Shared(shared) => shared.take(name),
        }
    }
}

/// Buckets of this node alone.
pub(super) struct Local {
    limiter: RateLimiter<TunnelName, DashMapStateStore<TunnelName>, RuntimeClock, NoOpMiddleware<Instant>>,
    taken: AtomicUsize,
}

impl Local {
    pub(super) fn new(rate: Rate) -> Self {
        let quota = Quota::with_period(each(rate)).expect("longer than no time").allow_burst(rate.burst);
        let limiter = RateLimiter::dashmap_with_clock(quota, RuntimeClock);
        Self { limiter, taken: AtomicUsize::new(0) }
    }

    /// Takes a token, or says how long it takes until there is one.
    pub(super) fn take(&self, name: &TunnelName) -> Result<(), Duration> {
        if self.taken.fetch_add(1, Ordering::Relaxed) % HOUSEKEEPING == HOUSEKEEPING - 1 {
            self.tidy();
        }
        self.limiter.check_key(name).map_err(|refused| refused.wait_time_from(RuntimeClock.now()))
    }

    /// Drops those that are full.
    pub(super) fn tidy(&self) {
        self.limiter.retain_recent();
    }
}

/// The runtime's clock, so that tests can pause it.
struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}
