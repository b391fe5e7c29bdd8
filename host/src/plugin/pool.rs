//! The instances of one plugin: idle ones are taken again, at most so many live, and only so many calls wait for one.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

use super::{error::HookError, guest::Guest};

pub(super) struct Pool {
    idle: Mutex<Vec<Guest>>,
    free: Semaphore,
    instances: usize,
    waiting: AtomicUsize,
    queue: usize,
}

impl Pool {
    pub(super) fn new(instances: usize, queue: usize) -> Self {
        Self {
            idle: Mutex::new(Vec::new()),
            free: Semaphore::new(instances),
            instances,
            waiting: AtomicUsize::new(0),
            queue,
        }
    }

    /// Takes a place, waiting for one if need be.
    ///
    /// # Errors
    /// Too many wait already.
    pub(super) async fn place(&self) -> Result<SemaphorePermit<'_>, HookError> {
        match self.free.try_acquire() {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {}
        }
        let busy = || HookError::Busy(self.instances);
        if self.waiting.fetch_add(1, Relaxed) >= self.queue {
            self.waiting.fetch_sub(1, Relaxed);
            return Err(busy());
        }
        let waits = Waits(&self.waiting);
        let permit = self.free.acquire().await;
        drop(waits);
        permit.map_err(|_| busy())
    }

    /// An idle instance; the one used last, whose memory is warm.
    pub(super) fn idle(&self) -> Option<Guest> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Takes an instance back. Before its place is given up, so that whoever waits finds it.
    pub(super) fn keep(&self, guest: Guest) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(guest);
    }

    /// Instances that a call holds, that wait for one, and calls that wait for an instance.
    pub(super) fn standing(&self) -> (usize, usize, usize) {
        let busy = self.instances.saturating_sub(self.free.available_permits());
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).len();
        (busy, idle, self.waiting.load(Relaxed))
    }

    /// Returns a place whose permit was forgotten.
    pub(super) fn vacate(&self) {
        self.free.add_permits(1);
    }
}

#[cfg(test)]
impl Pool {
    pub(super) fn places(&self) -> usize {
        self.free.available_permits()
    }
}

/// Counts a waiting call until it is dropped, as when its visitor goes away.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
