//! The way to the buckets that all nodes share, and whether it is open.
//!
//! Owns the keys under `tunnel:rate:`, what happens to a bucket in Redis, and that a node counts by itself while Redis is away.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::lease::{Ask, Grant, Terms};
use crate::redis::{Redis, RedisError, Script};

/// What all keys begin with.
const PREFIX: &str = "tunnel:rate";

/// How often a Redis that was away is looked for.
const RETRY: Duration = Duration::from_millis(500);

/// Questions under way at once. Visitors choose the names that are asked for, and while Redis is slow each waits.
const QUESTIONS: usize = 1024;

/// One node's way to the shared buckets.
pub(crate) struct Reach {
    redis: Redis,
    script: Script,
    away: AtomicBool,
    /// Looks for Redis while it is away.
    search: Mutex<Option<AbortOnDropHandle<()>>>,
    questions: Arc<Semaphore>,
}

impl Reach {
    pub(crate) fn new(redis: Redis) -> Arc<Self> {
        Arc::new(Self {
            redis,
            script: Script::new(include_str!("shared.lua")),
            away: AtomicBool::new(false),
            search: Mutex::default(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
        })
    }

    /// Whether Redis was away a moment ago; it isn't asked then.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Room for a question that nobody waits for.
    pub(super) fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.questions).try_acquire_owned().ok()
    }

    /// Asks a bucket; `None` if there is no answer, and from then on the node is by itself.
    pub(super) async fn ask(self: &Arc<Self>, bucket: &str, terms: &Terms, ask: Ask) -> Option<Grant> {
        let answer = self.try_ask(bucket, terms, ask).await;
        answer.inspect_err(|error| self.gone(error)).ok()
    }

    pub(super) async fn try_ask(&self, bucket: &str, terms: &Terms, ask: Ask) -> Result<Grant, RedisError> {
        let mut script = self.script.key(format!("{PREFIX}:{bucket}"));
        let each = terms.each.as_secs_f64() * 1e6;
        script.arg(each).arg(terms.burst).arg(ask.take).arg(ask.give_back);
        let (taken, next) = self.redis.script(&script).await?;
        Ok(Grant { taken, next: Duration::from_micros(next) })
    }

    fn gone(self: &Arc<Self>, error: &RedisError) {
        if self.away.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(%error, "rates can't be counted together with other nodes: this one counts by itself");
        let reach = Arc::downgrade(self);
        let search = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RETRY).await;
                let Some(reach) = reach.upgrade() else { return };
                if reach.is_back().await {
                    reach.away.store(false, Ordering::Relaxed);
                    tracing::info!("rates are counted together with other nodes again");
                    return;
                }
            }
        });
        *self.search.lock().unwrap_or_else(PoisonError::into_inner) = Some(AbortOnDropHandle::new(search));
    }

    /// Waits until a Redis that is away is found.
    #[cfg(test)]
    pub(super) async fn found(&self) {
        let search = self.search.lock().unwrap().take();
        search.expect("it is away").await.unwrap();
    }

    /// Whether a bucket can be written: a Redis that only answers isn't enough. This one is full again at once.
    async fn is_back(&self) -> bool {
        let terms = Terms { burst: 1, each: Duration::from_millis(1), batch: 1 };
        self.try_ask("probe", &terms, Ask { take: 1, give_back: 0 }).await.is_ok()
    }
}
