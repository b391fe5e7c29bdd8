//! Buckets that all nodes share: one for each tunnel, in Redis.
//!
//! A small bucket is asked for each token, and so is exact. Of a large one each node takes tokens in batches, ahead of need
//! ([`Lease`]): a request for a tunnel whose session is on this node shall neither wait for Redis nor fail without it.
//! While Redis is away, or has more to answer than it can, the node's own buckets count.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, mapref::one::RefMut};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    bucket::{HOUSEKEEPING, Local, Take},
    lease::{Ask, Grant, Lease, Step, Terms},
    reach::Reach,
};
use crate::{proxy::Rate, wire::TunnelName};

/// All tunnels' buckets of one rate in one scope.
pub(super) struct Shared {
    reach: Arc<Reach>,
    id: String,
    terms: Terms,
    leases: DashMap<TunnelName, Held>,
    local: Local,
    taken: AtomicUsize,
}

/// What this node has of a tunnel's bucket, and knows of it.
struct Held {
    lease: Lease,
    /// Waits for the bucket's answer.
    asking: Option<AbortOnDropHandle<()>>,
}

impl Shared {
    /// Buckets are the same for all who say the same scope and rate.
    pub(super) fn new(scope: &str, rate: Rate, reach: Arc<Reach>) -> Arc<Self> {
        let (terms, local) = (Terms::of(rate), Local::new(rate));
        let (id, leases) = (id(scope, rate), DashMap::new());
        Arc::new(Self { reach, id, terms, leases, local, taken: AtomicUsize::new(0) })
    }

    pub(super) fn take(self: &Arc<Self>, name: &TunnelName) -> Take {
        if self.taken.fetch_add(1, Ordering::Relaxed) % HOUSEKEEPING == HOUSEKEEPING - 1 {
            self.tidy();
        }
        if self.reach.is_away() {
            return self.local.take(name).into();
        }
        if self.terms.batch == 1 {
            return match self.leases.get(name).and_then(|held| held.lease.empty_for(Instant::now())) {
                // Nobody gives back tokens of such a bucket: a flood needn't ask, and Redis needn't hear of it.
                Some(wait) => Take::Refused(wait),
                None => Take::Asking(Box::pin(Arc::clone(self).ask_for_one(name.clone()))),
            };
        }
        match self.step(name) {
            Ok(taken) => taken.into(),
            Err(answer) => Take::Asking(Box::pin(Arc::clone(self).wait(name.clone(), answer))),
        }
    }

    async fn ask_for_one(self: Arc<Self>, name: TunnelName) -> Result<(), Duration> {
        let ask = Ask { take: 1, give_back: 0 };
        match self.reach.ask(&self.bucket(&name), &self.terms, ask).await {
            None => self.local.take(&name),
            Some(Grant { taken: 0, next }) => {
                let now = Instant::now();
                self.held(&name, now).lease.answer(now, ask, Grant { taken: 0, next }, &self.terms);
                Err(next)
            }
            Some(_) => Ok(()),
        }
    }

    /// Takes a token that is in hand, or ahead of the bucket's answer; `Err` if it needs the answer.
    fn step(self: &Arc<Self>, name: &TunnelName) -> Result<Result<(), Duration>, CancellationToken> {
        let now = Instant::now();
        let mut held = self.held(name, now);
        let (step, ask) = held.lease.take(now, &self.terms);
        if let Some(ask) = ask {
            self.ask(name, &mut held, ask);
        }
        match step {
            Step::Taken => Ok(Ok(())),
            Step::Refused(wait) => Ok(Err(wait)),
            Step::Open => match held.lease.question() {
                Some(question) if !question.is_cancelled() => Err(question.clone()),
                _ => Ok(self.local.take(name)),
            },
        }
    }

    async fn wait(self: Arc<Self>, name: TunnelName, mut answer: CancellationToken) -> Result<(), Duration> {
        loop {
            answer.cancelled().await;
            if self.reach.is_away() {
                return self.local.take(&name);
            }
            match self.step(&name) {
                Ok(taken) => return taken,
                // Others took what came.
                Err(next) => answer = next,
            }
        }
    }

    /// Asks in the background, if there is room for that.
    fn ask(self: &Arc<Self>, name: &TunnelName, held: &mut Held, ask: Ask) {
        let over = held.lease.question().expect("what is asked").clone().drop_guard();
        let Some(room) = self.reach.room() else { return };
        // The task belongs to these buckets, not the other way round.
        let (reach, shared) = (Arc::clone(&self.reach), Arc::downgrade(self));
        let (bucket, terms, name) = (self.bucket(name), self.terms, name.clone());
        held.asking = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let (_over, _room) = (over, room);
            let grant = reach.ask(&bucket, &terms, ask).await;
            let Some(shared) = shared.upgrade() else { return };
            if let Some(mut held) = shared.leases.get_mut(&name) {
                if let Some(grant) = grant {
                    held.lease.answer(Instant::now(), ask, grant, &terms);
                }
                // What holds a task's end holds all of its memory.
                held.asking.take().map(AbortOnDropHandle::detach);
            }
        })));
    }

    fn held(&self, name: &TunnelName, now: Instant) -> RefMut<'_, TunnelName, Held> {
        match self.leases.get_mut(name) {
            Some(held) => held,
            None => self.leases.entry(name.clone()).or_insert_with(|| Held::new(now)),
        }
    }

    fn bucket(&self, name: &TunnelName) -> String {
        format!("{}:{name}", self.id)
    }

    fn tidy(&self) {
        let now = Instant::now();
        self.leases.retain(|_, held| !held.lease.is_idle(now, &self.terms));
        self.local.tidy();
    }
}

impl Held {
    fn new(now: Instant) -> Self {
        Self { lease: Lease::new(now), asking: None }
    }
}

/// The same on all nodes and after each start, and another as soon as anything else holds.
pub(super) fn id(scope: &str, rate: Rate) -> String {
    let Rate { tokens, per, burst } = rate;
    let digest = Sha256::digest(format!("{scope}\n{tokens} {} {burst}", per.as_nanos()));
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
