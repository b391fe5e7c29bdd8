//! Which nodes hold a tunnel: the row in Redis, and this node's copy of it.
//!
//! A copy is made when a visitor first asks, and kept right by what nodes tell all others; so a request costs one round trip
//! at most. Must not know which of the nodes are alive.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::OnceCell, time::Instant};

use super::{claims::LEASE, metrics::Metrics, notice::Names};
use crate::{
    redis::{Redis, RedisError, pipe},
    wire::{NodeId, TunnelName},
};

/// A copy is looked up again after this, whatever was told: nodes that died without a word lose their lease.
const KEPT: Duration = Duration::from_secs(30);

/// The same for the knowledge that nobody holds a name.
const NOBODY_KEPT: Duration = Duration::from_secs(5);

/// Copies at once; about 250 bytes each. Names beyond cost a round trip for each request.
const MOST_COPIES: usize = 50_000;

/// Pause between searches for copies that are out of date, when there is no room.
const SWEEP: Duration = Duration::from_secs(1);

/// The directory as this node sees it.
pub(super) struct Directory {
    redis: Redis,
    own: NodeId,
    metrics: Metrics,
    state: Mutex<State>,
}

struct State {
    copies: HashMap<TunnelName, Copy>,
    asked: HashMap<TunnelName, Arc<Question>>,
    swept: Instant,
}

struct Copy {
    row: Arc<Row>,
    until: Instant,
}

/// A look-up under way, shared by all who want to know.
#[derive(Default)]
struct Question {
    answer: OnceCell<Result<Arc<Row>, RedisError>>,
    /// What was told meanwhile: whether a node holds the name.
    told: Mutex<HashMap<NodeId, bool>>,
}

/// Who holds a tunnel.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Nodes with a session; this one isn't among them.
    pub(super) holders: Vec<Holder>,
    /// Whether anybody ever held it, within a day.
    pub(super) known: bool,
    turn: AtomicUsize,
}

/// A node with a session, and what we have under way there.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) node: NodeId,
    pub(super) busy: Arc<AtomicUsize>,
}

impl Row {
    /// The holders, least busy first; equally busy ones take turns.
    pub(super) fn in_order(&self) -> Vec<Holder> {
        let mut holders = self.holders.clone();
        if holders.len() > 1 {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % holders.len();
            holders.rotate_left(turn);
            holders.sort_by_key(|holder| holder.busy.load(Ordering::Relaxed));
        }
        holders
    }

    fn with(&self, node: NodeId) -> Self {
        let mut row = self.without(node);
        row.holders.push(self.holder(node));
        row.known = true;
        row
    }

    fn without(&self, node: NodeId) -> Self {
        let holders = self.holders.iter().filter(|holder| holder.node != node).cloned().collect();
        Self { holders, known: self.known, turn: AtomicUsize::new(self.turn.load(Ordering::Relaxed)) }
    }

    /// The holder as it is known, or a new one.
    fn holder(&self, node: NodeId) -> Holder {
        let known = self.holders.iter().find(|holder| holder.node == node);
        known.cloned().unwrap_or_else(|| Holder { node, busy: Arc::default() })
    }
}

impl Directory {
    pub(super) fn new(redis: Redis, own: NodeId, metrics: Metrics) -> Self {
        let state = State { copies: HashMap::new(), asked: HashMap::new(), swept: Instant::now() };
        Self { redis, own, metrics, state: Mutex::new(state) }
    }

    /// Who holds a tunnel, beside this node.
    ///
    /// # Errors
    /// It has to be looked up, and Redis doesn't answer.
    pub(super) async fn find(&self, name: &TunnelName) -> Result<Arc<Row>, RedisError> {
        let asked = {
            let mut state = self.state();
            if let Some(copy) = state.copies.get(name)
                && Instant::now() < copy.until
            {
                return Ok(Arc::clone(&copy.row));
            }
            let question = Arc::clone(state.asked.entry(name.clone()).or_default());
            Asked { directory: self, name, question }
        };
        let answer = asked.question.answer.get_or_init(|| self.look_up(name)).await.clone();
        match answer {
            Ok(row) => Ok(self.keep(&asked, &row)),
            Err(error) => Err(error),
        }
    }

    /// A node has a session of a tunnel, or none any more.
    pub(super) fn told(&self, name: &TunnelName, node: NodeId, holds: bool) {
        if node == self.own {
            return;
        }
        let mut state = self.state();
        if let Some(copy) = state.copies.get_mut(name) {
            copy.row = Arc::new(if holds { copy.row.with(node) } else { copy.row.without(node) });
        }
        if let Some(question) = state.asked.get(name) {
            question.told.lock().unwrap_or_else(PoisonError::into_inner).insert(node, holds);
        }
    }

    /// This copy doesn't lead to anybody: something may be written of which we haven't been told yet.
    pub(super) fn doubt(&self, name: &TunnelName) {
        let mut state = self.state();
        state.copies.remove(name);
        // An answer that is under way may be from before.
        state.asked.remove(name);
    }

    /// Something may have been told that wasn't heard: all copies are worthless.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.copies.clear();
        state.asked.clear();
    }

    async fn look_up(&self, name: &TunnelName) -> Result<Arc<Row>, RedisError> {
        self.metrics.lookups.inc();
        let mut commands = pipe();
        commands.cmd("TIME").cmd("ZRANGE").arg(Names::row(name)).arg(0).arg(-1).arg("WITHSCORES");
        let ((seconds, micros), leases): ((u64, u64), Vec<(String, f64)>) = self.redis.run(&commands).await?;
        // As scores are: milliseconds fit into 53 bits for a long time to come.
        let now = (seconds * 1000 + micros / 1000) as f64;
        let mut row = Row { known: !leases.is_empty(), ..Row::default() };
        for (node, end) in leases {
            match node.parse() {
                Ok(node) if end > now && node != self.own => row.holders.push(row.holder(node)),
                _ => {}
            }
        }
        Ok(Arc::new(row))
    }

    /// Makes a copy of what was looked up, unless somebody else has, and gives what holds now.
    fn keep(&self, asked: &Asked<'_>, found: &Arc<Row>) -> Arc<Row> {
        let now = Instant::now();
        let mut state = self.state();
        let current = state.asked.get(asked.name).is_some_and(|it| Arc::ptr_eq(it, &asked.question));
        if !current {
            return state
                .copies
                .get(asked.name)
                .map_or_else(|| Arc::clone(found), |copy| Arc::clone(&copy.row));
        }
        state.asked.remove(asked.name);
        let told = asked.question.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut row = Arc::clone(found);
        for (node, holds) in &*told {
            row = Arc::new(if *holds { row.with(*node) } else { row.without(*node) });
        }
        if let Some(before) = state.copies.get(asked.name) {
            // What is under way at a node doesn't change by looking it up.
            let holders = row.holders.iter().map(|holder| before.row.holder(holder.node)).collect();
            row = Arc::new(Row { holders, known: row.known, turn: AtomicUsize::default() });
        }
        if state.has_room(now) {
            let kept = if row.holders.is_empty() { NOBODY_KEPT } else { KEPT.min(LEASE) };
            state.copies.insert(asked.name.clone(), Copy { row: Arc::clone(&row), until: now + kept });
        }
        row
    }

    // A panic while the lock is held can't leave the copies half-changed: each change is one call.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&mut self, now: Instant) -> bool {
        if self.copies.len() >= MOST_COPIES && now.duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.copies.retain(|_, copy| now < copy.until);
        }
        self.copies.len() < MOST_COPIES
    }
}

/// Somebody who waits for an answer. The last one to leave takes the question along.
struct Asked<'a> {
    directory: &'a Directory,
    name: &'a TunnelName,
    question: Arc<Question>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut state = self.directory.state();
        let ours = state.asked.get(self.name).is_some_and(|it| Arc::ptr_eq(it, &self.question));
        // The table's and this one; an answer that is an error isn't kept for those who come later.
        if ours && (Arc::strong_count(&self.question) <= 2 || self.question.answer.initialized()) {
            state.asked.remove(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bus::contract,
        redis::{cmd, tests::redis},
    };

    const OWN: NodeId = NodeId(1);

    fn directory() -> (Directory, TunnelName) {
        let name = contract::name(getrandom::u64().unwrap());
        (Directory::new(redis(), OWN, Metrics::default()), name)
    }

    async fn lease(directory: &Directory, name: &TunnelName, node: u64, end: &str) {
        let mut add = cmd("ZADD");
        add.arg(Names::row(name)).arg(end).arg(NodeId(node).to_string());
        directory.redis.call::<()>(&add).await.unwrap();
    }

    fn nodes(row: &Row) -> Vec<u64> {
        let mut nodes: Vec<_> = row.holders.iter().map(|holder| holder.node.0).collect();
        nodes.sort();
        nodes
    }

    #[tokio::test]
    async fn leases_that_have_ended_and_our_own_are_left_out_but_known() {
        let (directory, name) = directory();
        for (node, end) in [(OWN.0, "+inf"), (2, "+inf"), (3, "1000")] {
            lease(&directory, &name, node, end).await;
        }
        let row = directory.find(&name).await.unwrap();
        assert_eq!((nodes(&row), row.known), (vec![2], true));
        let nobody = directory.find(&contract::name(getrandom::u64().unwrap())).await.unwrap();
        assert_eq!((nodes(&nobody), nobody.known), (vec![], false));
    }

    #[tokio::test]
    async fn a_copy_costs_nothing_and_follows_what_is_told() {
        let (directory, name) = directory();
        lease(&directory, &name, 2, "+inf").await;
        // All at once, and again.
        futures_util::future::join_all((0..20).map(|_| directory.find(&name))).await;
        directory.find(&name).await.unwrap();
        assert_eq!(directory.metrics.lookups.get(), 1);
        directory.told(&name, NodeId(3), true);
        directory.told(&name, OWN, true);
        assert_eq!(nodes(&directory.find(&name).await.unwrap()), [2, 3]);
        directory.told(&name, NodeId(2), false);
        assert_eq!(nodes(&directory.find(&name).await.unwrap()), [3]);
        assert_eq!(directory.metrics.lookups.get(), 1);
        directory.forget();
        assert_eq!(nodes(&directory.find(&name).await.unwrap()), [2], "Redis is asked again");
    }

    #[tokio::test]
    async fn what_is_told_while_the_answer_is_under_way_counts() {
        let (directory, name) = directory();
        lease(&directory, &name, 2, "+inf").await;
        let mut finding = Box::pin(directory.find(&name));
        assert!(futures_util::poll!(&mut finding).is_pending());
        directory.told(&name, NodeId(2), false);
        directory.told(&name, NodeId(4), true);
        assert_eq!(nodes(&finding.await.unwrap()), [4]);
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_is_dropped() {
        let (directory, name) = directory();
        let mut finding = Box::pin(directory.find(&name));
        assert!(futures_util::poll!(&mut finding).is_pending());
        assert_eq!(directory.state().asked.len(), 1);
        drop(finding);
        assert_eq!(directory.state().asked.len(), 0);
    }

    #[test]
    fn the_least_busy_comes_first_and_equals_take_turns() {
        let row = Row::default().with(NodeId(1)).with(NodeId(2)).with(NodeId(3));
        let first = |row: &Row| row.in_order()[0].node.0;
        assert_eq!([first(&row), first(&row), first(&row), first(&row)], [1, 2, 3, 1]);
        row.holders[0].busy.store(1, Ordering::Relaxed);
        row.holders[2].busy.store(1, Ordering::Relaxed);
        assert_eq!([first(&row), first(&row), first(&row)], [2, 2, 2]);
    }
}
