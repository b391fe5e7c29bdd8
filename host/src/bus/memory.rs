//! The bus of a single node: a table of names in memory.
//!
//! Owns who sits where and who sat here lately; must not know what a seat does with an exchange.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Bus, Registration, Seat, TooManySeats};
use crate::{
    exchange::{ErrorKind, Forward, ForwardError, ForwardFuture, Request},
    wire::TunnelName,
};

/// Ended names that are remembered, newest first. Each costs about 200 bytes, so 2 MB in all; past it the oldest
/// merely turn from "offline" into "no such tunnel".
const MAX_PAST: usize = 10_000;

/// How long an ended name is remembered: a developer's laptop is closed over night, seldom longer.
const PAST_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// A [`Bus`] for one node.
pub struct MemoryBus {
    table: Arc<Table>,
}

impl MemoryBus {
    /// An empty bus where each name has at most so many seats at once.
    pub fn new(max_sessions_per_name: usize) -> Self {
        let table = Table {
            limit: max_sessions_per_name,
            next_seat: AtomicU64::new(0),
            names: RwLock::default(),
            past: Mutex::default(),
        };
        Self { table: Arc::new(table) }
    }
}

impl Bus for MemoryBus {
    fn register(&self, name: TunnelName, seat: Arc<dyn Seat>) -> Result<Registration, TooManySeats> {
        let id = self.table.add(&name, seat)?;
        let table = Arc::downgrade(&self.table);
        Ok(Registration::new(move || {
            if let Some(table) = Weak::upgrade(&table) {
                table.remove(&name, id);
            }
        }))
    }
}

impl Forward for MemoryBus {
    fn forward(&self, mut request: Request) -> ForwardFuture<'_> {
        Box::pin(async move {
            let mut tried = Vec::new();
            let mut last = None;
            while let Some(seat) = self.table.pick(&request.context.tunnel, &tried) {
                let mut error = match seat.to.forward(request).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                let Some(unsent) = error.take_unsent() else { return Err(error) };
                request = unsent;
                tried.push(seat.id);
                last = Some(error);
            }
            Err(self.table.nobody(&request.context.tunnel, last).unsent(request))
        })
    }
}

/// Names and their seats.
struct Table {
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

impl Table {
    fn add(&self, name: &TunnelName, to: Arc<dyn Seat>) -> Result<u64, TooManySeats> {
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

    fn remove(&self, name: &TunnelName, id: u64) {
        let mut names = self.write();
        let Some(row) = names.get_mut(name) else { return };
        row.seats.retain(|seat| seat.id != id);
        if row.seats.is_empty() {
            names.remove(name);
            // Still under the lock, so that no request finds the name in neither place.
            self.past().add(name);
        }
    }

    fn pick(&self, name: &TunnelName, tried: &[u64]) -> Option<Taken> {
        let names = self.read();
        let row = names.get(name)?;
        let seats = &row.seats;
        let start = if seats.len() > 1 { row.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        (0..seats.len())
            .map(|i| &seats[(start.wrapping_add(i)) % seats.len()])
            .filter(|seat| !tried.contains(&seat.id) && seat.to.open())
            .min_by_key(|seat| seat.to.busy())
            .cloned()
    }

    /// The error when no seat took the exchange; `last` is the one of the last seat that was tried.
    fn nobody(&self, name: &TunnelName, last: Option<ForwardError>) -> ForwardError {
        match last {
            // A seat that ended or drains under our hands is the same to a visitor as none at all.
            Some(error) if !matches!(error.kind(), ErrorKind::TunnelGone | ErrorKind::Draining) => error,
            Some(_) => offline(),
            None if self.read().contains_key(name) || self.past().has(name) => offline(),
            None => ForwardError::new(
                ErrorKind::NoSuchTunnel,
                "no client has registered this name here since the proxy started or within the last day",
            ),
        }
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

#[cfg(test)]
mod tests {
    use super::{super::contract, *};

    crate::bus::contract::suite!(std::future::ready(Arc::new(MemoryBus::new(contract::MAX_SEATS))));

    #[tokio::test(start_paused = true)]
    async fn an_ended_name_is_forgotten_after_a_day() {
        let bus = MemoryBus::new(1);
        drop(bus.register(contract::name(1), contract::seat("a")).unwrap());
        assert_eq!(contract::fails(&bus, contract::name(1)).await, ErrorKind::Offline);
        tokio::time::advance(PAST_FOR).await;
        assert_eq!(contract::fails(&bus, contract::name(1)).await, ErrorKind::NoSuchTunnel);
    }

    #[tokio::test]
    async fn the_oldest_of_too_many_ended_names_is_forgotten() {
        let bus = MemoryBus::new(1);
        for n in 0..=MAX_PAST as u64 {
            drop(bus.register(contract::name(n), contract::seat("a")).unwrap());
        }
        assert_eq!(contract::fails(&bus, contract::name(0)).await, ErrorKind::NoSuchTunnel);
        assert_eq!(contract::fails(&bus, contract::name(1)).await, ErrorKind::Offline);
    }
}
