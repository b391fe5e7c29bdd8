//! Which key a chosen name belongs to, for all nodes: two that were given different lists must not both give it away.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{claims::LEASE, notice::Names};
use crate::{
    bus::table::PAST_FOR,
    redis::{Redis, RedisError, Script},
    wire::{KeyName, NodeId, TunnelName},
};

/// A name that was tied is sat on within this time, or not at all.
const SOON: Duration = Duration::from_secs(60);

static TIE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("tie.lua")));

/// The chosen names of this node's seats, with their owners. There are as many as seats, and those of the last minute.
#[derive(Default)]
pub(super) struct Owners(Mutex<HashMap<TunnelName, (KeyName, Instant)>>);

impl Owners {
    /// Ties a name to a key, with a claim of this node's. Says whether it has it now.
    ///
    /// # Errors
    /// Redis doesn't answer.
    pub(super) async fn tie(
        &self,
        redis: &Redis,
        node: NodeId,
        name: &TunnelName,
        owner: &KeyName,
    ) -> Result<bool, RedisError> {
        let mut call = TIE.prepare_invoke();
        call.key(Names::row(name)).key(Names::owner(name));
        call.arg(node.to_string())
            .arg(LEASE.as_millis().to_string())
            .arg(PAST_FOR.as_secs())
            .arg(owner.as_str());
        let tied: u8 = redis.script(&call).await?;
        if tied == 1 {
            self.note(name, owner);
        }
        Ok(tied == 1)
    }

    /// Remembers an owner that couldn't be written.
    pub(super) fn note(&self, name: &TunnelName, owner: &KeyName) {
        self.owners().insert(name.clone(), (owner.clone(), Instant::now()));
    }

    /// The owner of a name, if it is a chosen one.
    pub(super) fn of(&self, name: &TunnelName) -> Option<KeyName> {
        if !name.is_chosen() {
            return None;
        }
        self.owners().get(name).map(|(owner, _)| owner.clone())
    }

    /// Forgets those whose names nobody sits on.
    pub(super) fn tidy(&self, taken: impl Fn(&TunnelName) -> bool) {
        self.owners().retain(|name, (_, since)| since.elapsed() < SOON || taken(name));
    }

    // A panic while the lock is held can't leave the map half-changed: each change is one call.
    fn owners(&self) -> MutexGuard<'_, HashMap<TunnelName, (KeyName, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
