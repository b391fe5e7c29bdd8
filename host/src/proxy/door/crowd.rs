//! Who is in: a bound on connections in total and for each address, and who has to leave when it is full.
//!
//! A connection has a place from the moment it is taken until it ends, or becomes a client's. When all places are taken those go
//! first that are of no use to anybody: whoever waits longest for a request, be it that the last one was answered long ago, that
//! the head never ends, or that the handshake does. So whoever opens connections to hold them takes them from himself and others
//! like him, and not from those who are served.
//!
//! Some places more are kept for clients: on those a client can attach, and a visitor is told to come back. Pure but for the clock;
//! must not know sockets.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::network::network;

/// One of so many places is added for clients.
const SPARE: usize = 16;

/// At least so many are.
const LEAST_SPARE: usize = 16;

/// One of so many places is freed when none is left: looking for them costs the more the more there are.
const AT_ONCE: usize = 64;

/// All connections of a node.
pub(in super::super) struct Crowd {
    most: usize,
    most_of_one: usize,
    state: Mutex<State>,
    refused: Family<Refused, Counter>,
    left: Counter,
}

#[derive(Default)]
struct State {
    next: u64,
    seated: HashMap<u64, Arc<Seated>>,
    /// How many each address has; none that has none.
    of: HashMap<IpAddr, usize>,
}

/// Why a connection isn't served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

/// What all parts of one connection share.
struct Seated {
    /// What goes on: requests, and WebSockets that grew out of one.
    busy: AtomicUsize,
    times: Mutex<Times>,
    leave: CancellationToken,
}

#[derive(Clone, Copy)]
struct Times {
    /// When it was last busy.
    idle: Instant,
    /// When the first byte of what may become a request came, since then.
    heard: Option<Instant>,
}

/// One connection's place; free again when this is dropped.
pub(in super::super) struct Place {
    crowd: Arc<Crowd>,
    number: u64,
    of: Option<IpAddr>,
    seated: Arc<Seated>,
    spare: bool,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("number", &self.number)
            .field("spare", &self.spare)
            .finish_non_exhaustive()
    }
}

/// Something goes on until it is dropped. Keeps the place.
pub(in super::super) struct Busy(Arc<Place>);

/// Told of bytes that come on a connection.
pub(in super::super) struct Ear(Arc<Seated>);

impl Ear {
    /// Some came.
    pub(in super::super) fn heard(&self) {
        if self.0.is_idle() {
            self.0.times().heard.get_or_insert_with(Instant::now);
        }
    }
}

/// There is no place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Crowd {
    pub(in super::super) fn new(most: usize, most_of_one: usize) -> Self {
        Self {
            most,
            most_of_one,
            state: Mutex::default(),
            refused: Family::default(),
            left: Counter::default(),
        }
    }

    pub(in super::super) fn register(&self, registry: &mut Registry) {
        let help = "Connections that were closed before a request, by the reason";
        registry.register("connections_refused", help, self.refused.clone());
        let help = "Connections that waited for a request and were closed, because another needed the place";
        registry.register("connections_displaced", help, self.left.clone());
    }

    /// Counts a connection that isn't served for this reason.
    pub(super) fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&Refused { reason }).inc();
    }

    /// A place for a new connection.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Place, Full> {
        let mut state = self.state();
        if state.seated.len() >= self.most {
            self.displace(&mut state);
        }
        let spare = state.seated.len() >= self.most;
        if state.seated.len() >= self.most.saturating_add((self.most / SPARE).max(LEAST_SPARE)) {
            drop(state);
            self.refuse("full");
            return Err(Full);
        }
        let number = state.next;
        state.next += 1;
        let now = Instant::now();
        let seated = Arc::new(Seated {
            busy: AtomicUsize::new(0),
            // What it waits for from the beginning is a request.
            times: Mutex::new(Times { idle: now, heard: Some(now) }),
            leave: CancellationToken::new(),
        });
        state.seated.insert(number, Arc::clone(&seated));
        Ok(Place { crowd: Arc::clone(self), number, of: None, seated, spare })
    }

    /// Those that are idle for longest are told to leave, and don't count any more.
    fn displace(&self, state: &mut State) {
        let idle = state.seated.iter().filter(|(_, seated)| seated.is_idle());
        let mut idle: Vec<(Instant, u64)> =
            idle.map(|(number, seated)| (seated.times().idle, *number)).collect();
        let wanted = (self.most / AT_ONCE).max(1);
        if idle.len() > wanted {
            idle.select_nth_unstable(wanted - 1);
            idle.truncate(wanted);
        }
        for (_, number) in idle {
            if let Some(seated) = state.seated.remove(&number) {
                seated.leave.cancel();
                self.left.inc();
            }
        }
    }

    // A panic while it is held can't leave the state half-changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seated {
    fn is_idle(&self) -> bool {
        self.busy.load(Relaxed) == 0
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Counts the place as one of this address.
    pub(super) fn belongs_to(&mut self, address: IpAddr) -> Result<(), Full> {
        let network = network(address);
        let mut state = self.crowd.state();
        let count = state.of.entry(network).or_default();
        if *count >= self.crowd.most_of_one {
            drop(state);
            self.crowd.refuse("address");
            return Err(Full);
        }
        *count += 1;
        drop(state);
        self.of = Some(network);
        Ok(())
    }

    /// Whether it is one of those that are kept for clients.
    pub(in super::super) fn is_spare(&self) -> bool {
        self.spare
    }

    /// Something goes on here.
    pub(in super::super) fn busy(self: &Arc<Self>) -> Busy {
        self.seated.busy.fetch_add(1, Relaxed);
        Busy(Arc::clone(self))
    }

    /// Whether it waits for a request.
    pub(in super::super) fn is_idle(&self) -> bool {
        self.seated.is_idle()
    }

    /// What has to hear of bytes that come. It doesn't keep the place: what became of the connection may outlive it.
    pub(in super::super) fn ear(&self) -> Ear {
        Ear(Arc::clone(&self.seated))
    }

    /// Cancelled when another connection needs the place.
    pub(in super::super) fn needed(&self) -> CancellationToken {
        self.seated.leave.clone()
    }

    /// Waits until a request is overdue: `idle` after the last one ended, if nothing has come, or `head` after its first byte.
    pub(in super::super) async fn is_overdue(&self, idle: Duration, head: Duration) {
        loop {
            let now = Instant::now();
            let until = if self.seated.is_idle() {
                let Times { idle: since, heard } = *self.seated.times();
                heard.map_or(since + idle, |heard| heard + head)
            } else {
                // A request that ends in the meantime has its whole time after that.
                now + idle.min(head)
            };
            if until <= now {
                return;
            }
            // What begins after this has its own, shorter time.
            tokio::time::sleep_until(until.min(now + head)).await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let seated = &self.0.seated;
        // The times first: whoever sees it idle sees since when.
        *seated.times() = Times { idle: Instant::now(), heard: None };
        seated.busy.fetch_sub(1, Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.crowd.state();
        state.seated.remove(&self.number);
        if let Some(of) = self.of
            && let Entry::Occupied(mut count) = state.of.entry(of)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(most: usize) -> Arc<Crowd> {
        Arc::new(Crowd::new(most, 2))
    }

    fn enter(crowd: &Arc<Crowd>) -> Arc<Place> {
        Arc::new(crowd.enter().unwrap())
    }

    fn displaced(place: &Place) -> bool {
        place.seated.leave.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_idle_for_longest_goes_first_and_who_is_served_stays() {
        let crowd = crowd(3);
        let (a, b, c) = (enter(&crowd), enter(&crowd), enter(&crowd));
        let busy = a.busy();
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(b.busy());
        let d = enter(&crowd);
        assert_eq!([&a, &b, &c, &d].map(|place| displaced(place)), [false, false, true, false]);
        assert!(!d.is_spare());
        // The next is the one that was served a while ago.
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(busy);
        let e = enter(&crowd);
        assert_eq!([&a, &b, &d, &e].map(|place| displaced(place)), [false, true, false, false]);
        // Who was displaced doesn't free a second place when it is gone.
        drop((b, c));
        assert_eq!(crowd.state().seated.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_served_some_places_are_left_for_clients_and_then_none() {
        let crowd = crowd(3);
        let all: Vec<_> = (0..3).map(|_| enter(&crowd).busy()).collect();
        let spare = enter(&crowd);
        assert!(spare.is_spare());
        // A visitor on one that is spare waits for a request like any other, and is displaced.
        let more = enter(&crowd);
        assert!(displaced(&spare) && more.is_spare());
        let mut served = vec![more.busy()];
        served.extend((1..LEAST_SPARE).map(|_| enter(&crowd).busy()));
        assert_eq!(crowd.enter().err(), Some(Full));
        assert_eq!(crowd.refused.get_or_create(&Refused { reason: "full" }).get(), 1);
        drop((all, served));
        assert!(!enter(&crowd).is_spare());
    }

    #[test]
    fn an_address_has_its_own_bound_and_a_network_of_ipv6_is_one() {
        let crowd = crowd(100);
        let from = |address: &str| {
            let mut place = crowd.enter().unwrap();
            place.belongs_to(address.parse().unwrap()).map(|()| place)
        };
        let first = from("203.0.113.7").unwrap();
        let _second = from("::ffff:203.0.113.7").unwrap();
        assert!(from("203.0.113.7").is_err());
        let _other = from("203.0.113.8").unwrap();
        let _six = (from("2001:db8::1").unwrap(), from("2001:db8::ffff:1").unwrap());
        assert!(from("2001:db8:0:0:1::").is_err());
        let _elsewhere = from("2001:db8:0:1::1").unwrap();
        drop(first);
        let _again = from("203.0.113.7").unwrap();
        assert_eq!(crowd.state().of.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_overdue_by_when_the_last_ended_or_this_one_began() {
        let (idle, head) = (Duration::from_secs(75), Duration::from_secs(30));
        let place = enter(&crowd(1));
        let overdue = async |place: &Place| {
            let before = Instant::now();
            place.is_overdue(idle, head).await;
            before.elapsed().as_secs()
        };
        assert_eq!(overdue(&place).await, 30, "the first one has no time to be idle");
        drop(place.busy());
        assert_eq!(overdue(&place).await, 75);
        drop(place.busy());
        tokio::time::advance(Duration::from_secs(70)).await;
        place.ear().heard();
        tokio::time::advance(Duration::from_secs(20)).await;
        place.ear().heard();
        assert_eq!(overdue(&place).await, 10, "bytes that trickle give no more time");
        let busy = place.busy();
        let waiting = overdue(&place);
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_secs(1000), &mut waiting).await.is_err());
        drop(busy);
        assert!((1000 + 75..1000 + 75 + 30).contains(&waiting.await));
    }
}
