//! Which keys an invitation has let in: remembered for good, so that one that was meant for one key lets in no second.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use super::InvitationId;
use crate::{
    redis::{Redis, Script},
    wire::KeyName,
};

/// What came of tying a key to an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tied {
    /// It was tied to it already.
    Before,
    /// It is now.
    Now,
    /// As many others are as it has uses.
    Spent,
}

/// Whom invitations have let in can't be read or written at the moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LedgerAway(pub String);

/// The future of [`Ledger::tie`].
pub type LedgerFuture<'a> = Pin<Box<dyn Future<Output = Result<Tied, LedgerAway>> + Send + 'a>>;

/// Remembers which keys an invitation has let in, over the end of the program.
pub trait Ledger: Send + Sync {
    /// Ties a key to an invitation that has so many uses; with none left, or none at all, only those that are tied already pass.
    fn tie<'a>(&'a self, invitation: &'a InvitationId, key: &'a KeyName, uses: u32) -> LedgerFuture<'a>;
}

/// One that forgets with the program; those that remember keep their copy in it. It is as large as what operators have handed out.
#[derive(Debug, Default)]
pub struct MemoryLedger(Mutex<HashMap<InvitationId, HashSet<KeyName>>>);

impl MemoryLedger {
    /// What would come of [`Ledger::tie`]; nothing is changed.
    pub fn would(&self, invitation: &InvitationId, key: &KeyName, uses: u32) -> Tied {
        would(self.known().get(invitation), key, uses)
    }

    /// Remembers that a key is tied.
    pub fn add(&self, invitation: InvitationId, key: KeyName) {
        self.known().entry(invitation).or_default().insert(key);
    }

    // A panic while the lock is held can't leave the map half-changed: each change is one call.
    fn known(&self) -> MutexGuard<'_, HashMap<InvitationId, HashSet<KeyName>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn would(tied: Option<&HashSet<KeyName>>, key: &KeyName, uses: u32) -> Tied {
    if tied.is_some_and(|keys| keys.contains(key)) {
        Tied::Before
    } else if tied.map_or(0, HashSet::len) < uses as usize {
        Tied::Now
    } else {
        Tied::Spent
    }
}

impl Ledger for MemoryLedger {
    fn tie<'a>(&'a self, invitation: &'a InvitationId, key: &'a KeyName, uses: u32) -> LedgerFuture<'a> {
        Box::pin(async move {
            let mut known = self.known();
            let tied = would(known.get(invitation), key, uses);
            if tied == Tied::Now {
                known.entry(*invitation).or_default().insert(key.clone());
            }
            Ok(tied)
        })
    }
}

/// One that all nodes have in common: a set of keys for each invitation. It holds as long as Redis keeps it.
pub(super) struct RedisLedger {
    redis: Redis,
    /// What is known to be tied: so that a client comes back while Redis is away.
    here: MemoryLedger,
}

/// In one step, so that two nodes can't both give away the last use.
static TIE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 'before' end \
         if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 'spent' end \
         redis.call('SADD', KEYS[1], ARGV[1]) \
         return 'now'",
    )
});

impl RedisLedger {
    pub(super) fn new(redis: Redis) -> Self {
        Self { redis, here: MemoryLedger::default() }
    }
}

impl Ledger for RedisLedger {
    fn tie<'a>(&'a self, invitation: &'a InvitationId, key: &'a KeyName, uses: u32) -> LedgerFuture<'a> {
        Box::pin(async move {
            if self.here.would(invitation, key, u32::MAX) == Tied::Before {
                return Ok(Tied::Before);
            }
            let mut call = TIE.prepare_invoke();
            call.key(format!("tunnel:invitation:{invitation}")).arg(key.as_str()).arg(uses);
            let said: String =
                self.redis.script(&call).await.map_err(|error| LedgerAway(error.to_string()))?;
            let tied = match said.as_str() {
                "before" => Tied::Before,
                "now" => Tied::Now,
                _ => return Ok(Tied::Spent),
            };
            self.here.add(*invitation, key.clone());
            Ok(tied)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::tests::redis;

    fn key(n: u64) -> KeyName {
        crate::bus::contract::name(n).as_str().parse().unwrap()
    }

    async fn holds(one: &dyn Ledger, other: &dyn Ledger) {
        let id = InvitationId::of(&getrandom::u64().unwrap().to_string());
        assert_eq!(one.tie(&id, &key(1), 0).await, Ok(Tied::Spent), "expired before it was used");
        assert_eq!(one.tie(&id, &key(1), 2).await, Ok(Tied::Now));
        assert_eq!(other.tie(&id, &key(1), 2).await, Ok(Tied::Before));
        assert_eq!(other.tie(&id, &key(2), 2).await, Ok(Tied::Now));
        assert_eq!(one.tie(&id, &key(3), 2).await, Ok(Tied::Spent));
        assert_eq!(one.tie(&id, &key(2), 0).await, Ok(Tied::Before), "who is in stays");
    }

    #[tokio::test]
    async fn one_in_memory_counts() {
        let ledger = MemoryLedger::default();
        holds(&ledger, &ledger).await;
    }

    #[tokio::test]
    async fn nodes_count_together() {
        holds(&RedisLedger::new(redis()), &RedisLedger::new(redis())).await;
    }

    #[tokio::test]
    async fn nobody_comes_in_anew_while_redis_is_away() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let away = RedisLedger::new(Redis::new(format!("redis://127.0.0.1:{port}").parse().unwrap()));
        let id = InvitationId::of("away");
        assert!(away.tie(&id, &key(1), 1).await.is_err());
        away.here.add(id, key(1));
        assert_eq!(away.tie(&id, &key(1), 1).await, Ok(Tied::Before));
    }
}
