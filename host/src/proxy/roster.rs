//! The sessions of this node, one by one: for operators, who want to see them and to end one.
//!
//! Owns who is listed. Must not know who may register, or how a session works inside.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use super::metrics::Sessions;
use crate::{
    session::{Ended, Handle},
    wire::TunnelName,
};

/// The sessions that are registered here, by number. Bounded by what may register.
pub(crate) struct Roster {
    next: AtomicU64,
    live: Mutex<BTreeMap<u64, Arc<Entry>>>,
    metrics: Sessions,
}

/// What a client said of itself, and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// `v1` or `v2`.
    pub(crate) dialect: &'static str,
    /// The program and its version, if the client says.
    pub(crate) agent: Option<String>,
}

/// One session.
pub(crate) struct Entry {
    /// Its number at this node; never given again.
    pub(crate) number: u64,
    pub(crate) peer: Peer,
    pub(crate) since: SystemTime,
    began: Instant,
    pub(crate) handle: Handle,
    names: Mutex<Vec<TunnelName>>,
}

impl Entry {
    /// The names that it holds.
    pub(crate) fn names(&self) -> Vec<TunnelName> {
        lock(&self.names).clone()
    }

    /// It holds one more.
    pub(crate) fn named(&self, name: &TunnelName) {
        lock(&self.names).push(name.clone());
    }
}

impl Roster {
    pub(super) fn new(metrics: Sessions) -> Self {
        Self { next: AtomicU64::new(1), live: Mutex::default(), metrics }
    }

    /// Lists a session until what is returned is dropped.
    pub(crate) fn enter(self: &Arc<Self>, peer: Peer, handle: &Handle) -> Listed {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            number,
            peer,
            since: SystemTime::now(),
            began: Instant::now(),
            handle: handle.clone(),
            names: Mutex::default(),
        });
        lock(&self.live).insert(number, Arc::clone(&entry));
        Listed { roster: Arc::clone(self), entry }
    }

    /// So many sessions whose numbers are above `after`, and that are wanted.
    pub(crate) fn page(&self, after: u64, most: usize, wanted: impl Fn(&Entry) -> bool) -> Vec<Arc<Entry>> {
        let live = lock(&self.live);
        let page = live.range(after.saturating_add(1)..).map(|(_, entry)| entry);
        page.filter(|entry| wanted(entry)).take(most).cloned().collect()
    }

    /// The session of this number.
    pub(crate) fn get(&self, number: u64) -> Option<Arc<Entry>> {
        lock(&self.live).get(&number).cloned()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        lock(&self.live).len()
    }
}

/// A session on the list.
pub(crate) struct Listed {
    roster: Arc<Roster>,
    pub(crate) entry: Arc<Entry>,
}

impl Listed {
    /// It has ended, and was one that had registered.
    pub(crate) fn ended(&self, ended: &Ended) {
        self.roster.metrics.ended(ended.word(), self.entry.began.elapsed());
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.roster.live).remove(&self.entry.number);
    }
}

// What a panic leaves is whole: each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
