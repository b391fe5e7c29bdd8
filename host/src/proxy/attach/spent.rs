//! Tokens that have registered, so that none does twice: at this node, and at all of them while Redis is there.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::redis::{Redis, cmd};

/// Tokens that are remembered, each for some minutes. Each costs about 60 bytes; clients are far fewer.
const MOST: usize = 100_000;

/// The digests of tokens that haven't expired.
pub(crate) struct Spent {
    here: Mutex<HashMap<[u8; 32], i64>>,
    everywhere: Option<Redis>,
}

/// Why a token can't be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotSpendable {
    #[error("the mandate token has registered before: make a new one for each registration")]
    Before,
    #[error("this proxy has taken as many registrations as it can remember; try again in a few minutes")]
    Full,
}

impl Spent {
    pub(crate) fn new(everywhere: Option<Redis>) -> Self {
        Self { here: Mutex::default(), everywhere }
    }

    /// Spends a token that isn't accepted any more after `over_at`.
    pub(super) async fn spend(&self, digest: [u8; 32], over_at: i64, now: i64) -> Result<(), NotSpendable> {
        self.spend_here(digest, over_at, now)?;
        let Some(redis) = &self.everywhere else { return Ok(()) };
        let mut command = cmd("SET");
        let key = format!("tunnel:token:{}", URL_SAFE_NO_PAD.encode(digest));
        command.arg(key).arg(1).arg("NX").arg("PX").arg((over_at - now + 1) * 1000);
        match redis.call::<Option<String>>(&command).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(NotSpendable::Before),
            Err(error) => {
                // Other nodes can't be asked. Nor can visitors of theirs come here, until Redis is back.
                tracing::debug!(%error, "whether a token has registered at another node isn't known");
                Ok(())
            }
        }
    }

    fn spend_here(&self, digest: [u8; 32], over_at: i64, now: i64) -> Result<(), NotSpendable> {
        // Each change is one call: a panic while the lock is held leaves nothing half-changed.
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        if here.len() >= MOST {
            here.retain(|_, over_at| *over_at >= now);
        }
        if here.contains_key(&digest) {
            return Err(NotSpendable::Before);
        }
        // Whatever was forgotten for a new one could be used again.
        if here.len() >= MOST {
            return Err(NotSpendable::Full);
        }
        here.insert(digest, over_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::tests::redis;

    fn digest(n: u64) -> [u8; 32] {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        digest
    }

    #[tokio::test]
    async fn a_token_is_spent_once() {
        let spent = Spent::new(None);
        assert_eq!(spent.spend(digest(1), 100, 50).await, Ok(()));
        assert_eq!(spent.spend(digest(1), 100, 51).await, Err(NotSpendable::Before));
        assert_eq!(spent.spend(digest(2), 100, 51).await, Ok(()));
    }

    #[tokio::test]
    async fn expired_tokens_make_room_and_others_never_do() {
        let spent = Spent::new(None);
        for n in 0..MOST as u64 {
            spent.spend_here(digest(n), if n < 10 { 100 } else { 200 }, 50).unwrap();
        }
        assert_eq!(spent.spend_here(digest(1 << 40), 200, 100), Err(NotSpendable::Full));
        assert_eq!(spent.spend_here(digest(1 << 40), 200, 101), Ok(()));
        assert_eq!(spent.spend_here(digest(50), 200, 101), Err(NotSpendable::Before));
    }

    #[tokio::test]
    async fn a_token_spent_at_one_node_is_spent_at_all() {
        let (one, other) = (Spent::new(Some(redis())), Spent::new(Some(redis())));
        let digest = digest(getrandom::u64().unwrap());
        assert_eq!(one.spend(digest, 51, 50).await, Ok(()));
        assert_eq!(other.spend(digest, 51, 50).await, Err(NotSpendable::Before));
    }

    #[tokio::test]
    async fn without_redis_each_node_remembers_its_own() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let away = Redis::new(format!("redis://127.0.0.1:{port}").parse().unwrap());
        let spent = Spent::new(Some(away));
        assert_eq!(spent.spend(digest(1), 100, 50).await, Ok(()));
        assert_eq!(spent.spend(digest(1), 100, 50).await, Err(NotSpendable::Before));
    }
}
