//! The seats of one node, by name.
//!
//! Owns who sits where and who sat here lately; must not know what a seat does with an exchange, or that there are other
//! nodes.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Seat, SeatState, TooManySeats};
use crate::{
    exchange::{Answer, ErrorKind, ForwardError, Request},
    wire::TunnelName,
};

/// Ended names that are remembered, newest first. Each costs about 200 bytes, so 2 MB in all; past it the oldest
/// merely turn from "offline" into "no such tunnel".
pub(super) const MAX_PAST: usize = 10_000;

/// How long an ended name is remembered: a developer's laptop is closed over night, seldom longer.
pub(super) const PAST_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// For so long after a session's end its client may be found at a place that we haven't been told of.
const JUST_NOW: Duration = Duration::from_secs(2);

/// Names and their seats.
pub(super) struct Table {
    limit: usize,
    next_seat: AtomicU64,
    names: RwLock<HashMap<TunnelName, Row>>,
    past: Mutex<Past>,
}

/// The seats of one name; never empty.
struct Row {
    seats: Vec<Taken>,
    /// Where the next search begins, so that equally busy seats take turns.
    turn: AtomicUsize,
}

/// A seat with the number that tells it from any other that ever was.
#[derive(Clone)]
struct Taken {
    id: u64,
    to: Arc<dyn Seat>,
}

/// What came of offering a request to the seats.
// It is taken apart where it arrives: a box would cost an allocation for each exchange with another node.
#[expect(clippy::large_enum_variant)]
pub(super) enum Offered {
    /// A seat took it.
    Taken(Result<Answer, ForwardError>),
    /// None did, and nothing of it was sent; here it is, with the reason of the last seat that was asked.
    Untaken(Request, Option<ForwardError>),
}

impl Table {
    /// An empty table where each name has at most so many seats at once.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, next_seat: AtomicU64::new(0), names: RwLock::default(), past: Mutex::default() }
    }

    pub(super) fn add(&self, name: &TunnelName, to: Arc<dyn Seat>) -> Result<u64, TooManySeats> {
        let mut names = self.write();
        let row = names
            .entry(name.clone())
            .or_insert_with(|| Row { seats: Vec::with_capacity(1), turn: AtomicUsize::new(0) });
        if row.seats.len() >= self.limit {
            let limit = self.limit;
            if row.seats.is_empty() {
                names.remove(name);
            }
            return Err(TooManySeats { limit });
        }
        let id = self.next_seat.fetch_add(1, Ordering::Relaxed);
        row.seats.push(Taken { id, to });
        Ok(id)
    }

    pub(super) fn remove(&self, name: &TunnelName, id: u64) {
        let mut names = self.write();
        let Some(row) = names.get_mut(name) else { return };
        row.seats.retain(|seat| seat.id != id);
        if row.seats.is_empty() {
            names.remove(name);
            // Still under the lock, so that no request finds the name in neither place.
            self.past().add(name);
        }
    }

    /// Gives the request to the best seat in one of these states: those that stay before those that leave, and of these the
    /// least busy one. Tries others as long as it was provably never sent.
    // An async function has room for its arguments twice.
    #[expect(clippy::manual_async_fn)]
    pub(super) fn offer(
        &self,
        mut request: Request,
        states: RangeInclusive<SeatState>,
    ) -> impl Future<Output = Offered> + Send {
        async move {
            let mut tried = Vec::new();
            let mut last = None;
            while let Some(seat) = self.pick(&request.context.tunnel, &tried, &states) {
                let mut error = match seat.to.forward(request).await {
                    Ok(answer) => return Offered::Taken(Ok(answer)),
                    Err(error) => error,
                };
                let Some(unsent) = error.take_unsent() else { return Offered::Taken(Err(error)) };
                request = unsent;
                tried.push(seat.id);
                last = Some(error);
            }
            Offered::Untaken(request, last)
        }
    }

    /// The core that works on the best seat.
    pub(super) fn core_of(&self, name: &TunnelName) -> Option<usize> {
        self.pick(name, &[], &SeatState::TAKING)?.to.core()
    }

    /// Whether somebody sits here.
    pub(super) fn has(&self, name: &TunnelName) -> bool {
        self.read().contains_key(name)
    }

    /// Whether somebody sits or sat here.
    pub(super) fn knows(&self, name: &TunnelName) -> bool {
        self.has(name) || self.past().has(name)
    }

    /// Whether somebody has just got up, or is about to.
    pub(super) fn saw_off(&self, name: &TunnelName) -> bool {
        self.has(name) || self.past().since(name).is_some_and(|left| left.elapsed() < JUST_NOW)
    }

    /// All names with a seat.
    pub(super) fn names(&self) -> Vec<TunnelName> {
        self.read().keys().cloned().collect()
    }

    fn pick(&self, name: &TunnelName, tried: &[u64], states: &RangeInclusive<SeatState>) -> Option<Taken> {
        let names = self.read();
        let row = names.get(name)?;
        let seats = &row.seats;
        let start = if seats.len() > 1 { row.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        (0..seats.len())
            .map(|i| &seats[(start.wrapping_add(i)) % seats.len()])
            .filter(|seat| !tried.contains(&seat.id))
            .map(|seat| (seat.to.state(), seat))
            .filter(|(state, _)| states.contains(state))
            .min_by_key(|(state, seat)| (std::cmp::Reverse(*state), seat.to.busy()))
            .map(|(_, seat)| seat.clone())
    }

    // A panic while the lock is held can't leave the table half-changed: each change is one call.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<TunnelName, Row>> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<TunnelName, Row>> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error when nobody took the exchange; `last` is the reason of the last one that was asked, `known` whether the name
/// was ever registered.
pub(super) fn nobody(last: Option<ForwardError>, known: bool) -> ForwardError {
    match last {
        // A seat that ended or drains under our hands is the same to a visitor as none at all.
        Some(error) if !matches!(error.kind(), ErrorKind::TunnelGone | ErrorKind::Draining) => error,
        Some(_) => offline(),
        None if known => offline(),
        None => ForwardError::new(
            ErrorKind::NoSuchTunnel,
            "no client has registered this name here since the proxy started or within the last day",
        ),
    }
}

fn offline() -> ForwardError {
    ForwardError::new(
        ErrorKind::Offline,
        "the client that publishes this service isn't connected at the moment",
    )
}

/// Names whose last session ended, oldest first.
#[derive(Default)]
struct Past {
    next: u64,
    since: HashMap<TunnelName, u64>,
    order: BTreeMap<u64, (Instant, TunnelName)>,
}

impl Past {
    fn add(&mut self, name: &TunnelName) {
        // A name that comes and goes keeps one place, so that it can't push the others out.
        if let Some(old) = self.since.insert(name.clone(), self.next) {
            self.order.remove(&old);
        }
        self.order.insert(self.next, (Instant::now(), name.clone()));
        self.next += 1;
        self.forget();
    }

    fn has(&mut self, name: &TunnelName) -> bool {
        self.forget();
        self.since.contains_key(name)
    }

    fn since(&self, name: &TunnelName) -> Option<Instant> {
        self.order.get(self.since.get(name)?).map(|(since, _)| *since)
    }

    fn forget(&mut self) {
        while let Some(oldest) = self.order.first_entry() {
            if self.since.len() <= MAX_PAST && oldest.get().0.elapsed() < PAST_FOR {
                break;
            }
            let (_, name) = oldest.remove();
            self.since.remove(&name);
        }
    }
}
