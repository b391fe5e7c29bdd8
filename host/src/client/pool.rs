//! Connections by HTTP/1.1 that are kept for the next exchange.
//!
//! Owns how many are kept and for how long. Nobody watches one that is unused: whether it has ended shows when it is used
//! again, before anything of the request is written. Must not know what a request says.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::{
    connect::{ConnectError, Connector},
    kept::Line,
};

/// How long an unused connection is kept. Common servers (Node.js, Apache) close theirs after 5 s; one that closes
/// while a request is on its way to it costs that request.
const IDLE: Duration = Duration::from_secs(4);

/// Unused connections kept at once: as many as a burst of visitors opened, each for a few seconds only. Fewer would
/// close and open connections all the time under load, which costs more than the requests.
const MAX_IDLE: usize = 1024;

/// The connections to one origin.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    connector: Connector,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The one that was used last is at the end.
    lines: VecDeque<Unused>,
    /// Closes those that nobody uses, while there are any.
    sweeper: Option<AbortOnDropHandle<()>>,
}

struct Unused {
    since: Instant,
    line: Box<Line>,
}

impl Unused {
    fn expires(&self) -> Instant {
        self.since + IDLE
    }
}

impl Pool {
    /// No connections yet.
    pub(super) fn new(connector: Connector) -> Self {
        Self(Arc::new(Shared { connector, idle: Mutex::default() }))
    }

    /// The connection that was used last, so that a burst's others expire.
    pub(super) fn unused(&self) -> Option<Box<Line>> {
        let newest = self.0.lock().lines.pop_back()?;
        // A busy machine's timers may be late.
        (newest.expires() > Instant::now()).then_some(newest.line)
    }

    /// A new connection.
    ///
    /// # Errors
    /// None can be opened.
    pub(super) async fn connect(&self) -> Result<Box<Line>, ConnectError> {
        let connector = &self.0.connector;
        let line = Line::new(connector.http1().await?).await;
        Ok(Box::new(line.map_err(|error| connector.unusable(error))?))
    }

    /// Keeps a connection that is ready for another exchange.
    pub(super) fn keep(&self, line: Box<Line>) {
        let mut idle = self.0.lock();
        let surplus = if idle.lines.len() < MAX_IDLE { None } else { idle.lines.pop_front() };
        idle.lines.push_back(Unused { since: Instant::now(), line });
        if idle.sweeper.is_none() {
            let sweeping = sweep(Arc::downgrade(&self.0));
            idle.sweeper = Some(AbortOnDropHandle::new(tokio::spawn(sweeping)));
        }
        drop(idle);
        // Closing takes a call into the kernel, so it waits until others may go on.
        drop(surplus);
    }

    /// Takes a connection whose answer has come, and keeps it, unless it was the last one there.
    pub(super) fn take_back(&self, line: Box<Line>) {
        if line.is_ready() {
            self.keep(line);
        } else {
            self.finish(line);
        }
    }

    /// Sees what is left of an exchange through in a task of its own, and keeps its connection afterwards: the end of the request
    /// may still be on its way to an origin that didn't need it for its answer.
    pub(super) fn finish(&self, mut line: Box<Line>) {
        if line.is_over() {
            return;
        }
        let pool = self.clone();
        tokio::spawn(async move {
            if line.settled().await {
                pool.keep(line);
            }
        });
    }
}

impl Shared {
    // Never held across a call into foreign code, so a poisoned state is still whole.
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what has expired; when the next one does, or nothing if none is left.
    fn close_expired(&self) -> Option<Instant> {
        let mut idle = self.lock();
        let now = Instant::now();
        let expired = idle.lines.partition_point(|unused| unused.expires() <= now);
        let expired: Vec<_> = idle.lines.drain(..expired).collect();
        let next = idle.lines.front().map(Unused::expires);
        // It is this very task, which ends now.
        let sweeper = if next.is_none() { idle.sweeper.take() } else { None };
        drop(idle);
        drop((expired, sweeper));
        next
    }
}

/// One timer for all, which goes off about once in [`IDLE`]: one for each would be set anew with each exchange.
async fn sweep(shared: Weak<Shared>) {
    while let Some(next) = shared.upgrade().and_then(|shared| shared.close_expired()) {
        sleep_until(next).await;
    }
}

#[cfg(test)]
#[path = "tests/pool.rs"]
mod tests;
