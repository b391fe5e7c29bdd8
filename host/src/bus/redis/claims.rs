//! What this node tells Redis of its own seats: claims with a lease, renewed, and written again when Redis has forgotten
//! them.
//!
//! Owns which names have still to be written. What is written is what the table says at that moment, so that it doesn't
//! matter how often a name came and went meanwhile.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, watch};

use super::{
    notice::{Names, Notice},
    owners::Owners,
};
use crate::{
    bus::table::{PAST_FOR, Table},
    redis::{Redis, RedisError, Script, ScriptInvocation},
    wire::{NodeId, TunnelName},
};

/// How long a claim holds without being renewed.
pub(super) const LEASE: Duration = Duration::from_secs(60);

/// How often claims are renewed: two may fail before one runs out.
pub(super) const RENEWAL: Duration = Duration::from_secs(20);

/// Claims in one round trip.
const BATCH: usize = 256;

/// All of a batch in one round trip: a client waits for it.
static WRITE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("claims.lua")));

/// Names that have to be written.
pub(super) struct Claims {
    redis: Redis,
    own: NodeId,
    names: Names,
    table: Arc<Table>,
    pub(super) owners: Owners,
    due: Mutex<HashMap<TunnelName, Due>>,
    wake: Notify,
    /// Counts batches that were written.
    written: watch::Sender<u64>,
}

/// What is to be done about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    /// Others have to be told; a mere renewal changes nothing for them.
    tell: bool,
    /// It is being written at this moment.
    under_way: bool,
}

impl Claims {
    pub(super) fn new(redis: Redis, own: NodeId, names: Names, table: Arc<Table>) -> Self {
        Self {
            redis,
            own,
            names,
            table,
            owners: Owners::default(),
            due: Mutex::default(),
            wake: Notify::new(),
            written: watch::Sender::new(0),
        }
    }

    /// A seat of this name was taken or freed.
    pub(super) fn changed(&self, name: &TunnelName) {
        self.due().insert(name.clone(), Due { tell: true, under_way: false });
        self.wake.notify_one();
    }

    /// All claims have to be written, because Redis may have forgotten them.
    pub(super) fn all_again(&self) {
        let mut due = self.due();
        due.extend(self.table.names().into_iter().map(|name| (name, Due { tell: true, under_way: false })));
        drop(due);
        self.wake.notify_one();
    }

    /// Extends all leases.
    pub(super) fn renew(&self) {
        self.owners.tidy(|name| self.table.has(name));
        let mut due = self.due();
        for name in self.table.names() {
            due.entry(name).or_insert(Due { tell: false, under_way: false });
        }
        drop(due);
        self.wake.notify_one();
    }

    /// Waits until what was changed about this name is written.
    pub(super) async fn is_written(&self, name: &TunnelName) {
        let mut written = self.written.subscribe();
        while self.due().get(name).is_some_and(|due| due.tell) {
            if written.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until something has to be written that isn't being written already.
    pub(super) async fn wait(&self) {
        while self.due().values().all(|due| due.under_way) {
            self.wake.notified().await;
        }
    }

    /// Writes all that is due.
    ///
    /// # Errors
    /// Redis doesn't answer; what wasn't written is still due.
    pub(super) async fn write(&self) -> Result<(), RedisError> {
        loop {
            let batch = self.take();
            if batch.is_empty() {
                return Ok(());
            }
            let result = self.write_batch(&batch).await;
            let mut due = self.due();
            for (name, _) in &batch {
                match &result {
                    // One that changed again meanwhile isn't under way any more.
                    Ok(()) if due.get(name).is_some_and(|due| due.under_way) => drop(due.remove(name)),
                    Ok(()) => {}
                    Err(_) => {
                        due.entry(name.clone()).and_modify(|due| due.under_way = false);
                    }
                }
            }
            drop(due);
            self.written.send_modify(|count| *count += 1);
            result?;
        }
    }

    /// The next names, from now on under way.
    fn take(&self) -> Vec<(TunnelName, bool)> {
        let mut due = self.due();
        let next = due.iter_mut().filter(|(_, due)| !due.under_way).take(BATCH);
        next.map(|(name, due)| {
            due.under_way = true;
            (name.clone(), due.tell)
        })
        .collect()
    }

    async fn write_batch(&self, batch: &[(TunnelName, bool)]) -> Result<(), RedisError> {
        let mut call = WRITE.prepare_invoke();
        call.arg(self.own.to_string()).arg(LEASE.as_millis().to_string()).arg(PAST_FOR.as_secs());
        call.arg(self.names.notices());
        for (name, tell) in batch {
            self.put(&mut call, name, *tell);
        }
        self.redis.script::<()>(&call).await
    }

    fn put(&self, call: &mut ScriptInvocation<'_>, name: &TunnelName, tell: bool) {
        let held = self.table.has(name);
        let owner = self.owners.of(name);
        let notice = tell.then(|| {
            let (node, name) = (self.own, name.clone());
            if held { Notice::Holds { node, name } } else { Notice::Lacks { node, name } }.to_string()
        });
        call.key(Names::row(name)).key(Names::owner(name)).arg(u8::from(held));
        call.arg(owner.as_ref().map_or("", |owner| owner.as_str())).arg(notice.unwrap_or_default());
    }

    // A panic while the lock is held can't leave the map half-changed: each change is one call.
    fn due(&self) -> MutexGuard<'_, HashMap<TunnelName, Due>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
