//! How long the call of a guest has run: the time that its future was polled, not the time that it waited.
//!
//! The engine's ticks alone would count each wait for the host as one of running, and a guest that asks a store a few
//! hundred times would pass its limit without having run. Time alone would count the moments in which the machine runs
//! something else. A guest is interrupted when both are over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::engine::{Clock, Running};

/// Measures one guest. Written by whoever polls the guest, and read by the guest's own interruptions meanwhile: one
/// thread at a time.
pub(super) struct Meter {
    clock: Arc<Clock>,
    made: Instant,
    /// Nanoseconds from `made` to when the present poll began.
    began: AtomicU64,
    /// Nanoseconds of the polls before.
    spent: AtomicU64,
}

impl Meter {
    pub(super) fn new(clock: &Arc<Clock>) -> Arc<Self> {
        let (began, spent) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { clock: Arc::clone(clock), made: Instant::now(), began, spent })
    }

    /// A call begins.
    pub(super) fn reset(&self) {
        self.spent.store(0, Relaxed);
    }

    /// The guest runs until what is returned is dropped. In between no tick of the clock is needed for it.
    pub(super) fn polled(&self) -> Polled<'_> {
        self.began.store(self.now(), Relaxed);
        Polled { meter: self, _running: self.clock.running() }
    }

    /// How long the call has run. Only while it is polled.
    pub(super) fn run_time(&self) -> Duration {
        let present = self.now().saturating_sub(self.began.load(Relaxed));
        Duration::from_nanos(self.spent.load(Relaxed).saturating_add(present))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A guest that is polled.
pub(super) struct Polled<'a> {
    meter: &'a Meter,
    _running: Running,
}

impl Drop for Polled<'_> {
    fn drop(&mut self) {
        let run = self.meter.run_time();
        self.meter.spent.store(u64::try_from(run.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}
