//! The bus of several nodes, over Redis.
//!
//! ```text
//!   visitor ─▶ RedisBus ── seat of this node? ──▶ Table
//!                 │ no
//!                 ▼
//!             Directory ── who holds it? ──▶ Links ══ envelopes over Redis ══▶ Links of the other node ──▶ its Table
//! ```
//!
//! - `directory` knows who holds which name: the rows in Redis, and copies that notices keep right. `claims` writes this node's.
//! - `nodes` knows who is alive, by what nodes say twice a second (`notice`).
//! - `links` carry exchanges: to another node as to a client, by a session, over numbered envelopes in place of a
//!   WebSocket (`link`). At the other end they meet that node's own seats and nothing else, so that an exchange hops once
//!   at most.
//! - `keeper` holds the subscription, and says what is to be done when it was lost and is there again.
//!
//! Seats of this node are reached without a word to Redis, whether it is there or not.

mod claims;
mod directory;
mod held;
mod keeper;
mod link;
mod links;
mod metrics;
mod nodes;
mod notice;
mod owners;
#[cfg(test)]
mod tests;

use std::{
    ops::ControlFlow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::registry::Registry;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use self::{
    claims::Claims,
    directory::{Directory, Holder, Row},
    held::Held,
    links::Links,
    metrics::Metrics,
    nodes::{Nodes, Presence},
    notice::{Names, Notice},
};
use super::{
    Bus, Doing, NotTied, Registration, Seat, SeatState, Standing, TooManySeats, Tying,
    table::{Offered, Table, nobody},
};
use crate::{
    exchange::{Answer, ErrorKind, Forward, ForwardError, ForwardFuture, Request},
    redis::{PATIENCE, Redis, cmd},
    session::State,
    wire::{KeyName, NodeId, TunnelName},
};

/// A node that hasn't heard itself for so long can't trust its copies, nor reach anybody.
const DEAF: Duration = Duration::from_secs(2);

/// For so long after an outage the others may still be writing their claims again: a name that isn't found isn't unknown.
const SETTLING: Duration = Duration::from_secs(3);

/// How often a node that ends looks whether others still wait for its answers.
const LOOK: Duration = Duration::from_millis(20);

/// How long a node that has said good-bye answers others that haven't heard it: what they ask finds no seat here, and goes
/// elsewhere. If it found nobody, they couldn't know that it was never taken.
const STRAGGLERS: Duration = Duration::from_millis(250);

/// A [`Bus`] for several nodes.
pub struct RedisBus {
    core: Arc<Core>,
    /// Ends with the bus.
    _keepers: JoinSet<()>,
}

/// What the bus and its keepers share.
struct Core {
    own: NodeId,
    redis: Redis,
    names: Names,
    table: Arc<Table>,
    directory: Directory,
    claims: Claims,
    links: Links,
    nodes: Mutex<Nodes>,
    /// The subscription is there; since when, if it was lost before.
    connected: watch::Sender<Option<Since>>,
    draining: AtomicBool,
    /// It has said good-bye.
    left: AtomicBool,
    metrics: Metrics,
}

/// When a subscription began.
#[derive(Debug, Clone, Copy)]
struct Since {
    at: Instant,
    /// It isn't the first one.
    again: bool,
}

impl RedisBus {
    /// A bus that begins to connect. Each name has at most so many seats at once on this node.
    pub fn start(
        redis: Redis,
        own: NodeId,
        max_sessions_per_name: usize,
        max_websocket_message: usize,
    ) -> Self {
        let names = Names::new(redis.address());
        let table = Arc::new(Table::new(max_sessions_per_name));
        let metrics = Metrics::default();
        let local = Arc::new(Local { table: Arc::clone(&table), metrics: metrics.clone() });
        let core = Arc::new(Core {
            own,
            directory: Directory::new(redis.clone(), own, metrics.clone()),
            claims: Claims::new(redis.clone(), own, names.clone(), Arc::clone(&table)),
            // Bodies have a connection of their own: what a visitor waits for must not stand behind them.
            links: Links::new(redis.another(), own, max_websocket_message, local, metrics.clone()),
            nodes: Mutex::new(Nodes::new(own, now())),
            connected: watch::Sender::new(None),
            draining: AtomicBool::new(false),
            left: AtomicBool::new(false),
            redis,
            names,
            table,
            metrics,
        });
        let mut keepers = JoinSet::new();
        keepers.spawn(keeper::listen(Arc::clone(&core)));
        keepers.spawn(keeper::beat(Arc::clone(&core)));
        keepers.spawn(keeper::claim(Arc::clone(&core)));
        Self { core, _keepers: keepers }
    }

    /// Waits until the other nodes can be reached, or until that takes too long.
    pub async fn connected(&self) {
        let mut connected = self.core.connected.subscribe();
        let _ = timeout(2 * PATIENCE, connected.wait_for(Option::is_some)).await;
    }
}

impl Bus for RedisBus {
    fn register(&self, name: TunnelName, seat: Arc<dyn Seat>) -> Result<Registration, TooManySeats> {
        let added = self.core.table.add(&name, seat);
        if added.is_err() && name.is_chosen() {
            // It was claimed when it was tied.
            self.core.claims.changed(&name);
        }
        let id = added?;
        self.core.claims.changed(&name);
        let core = Arc::downgrade(&self.core);
        Ok(Registration::new(move || {
            if let Some(core) = core.upgrade() {
                core.table.remove(&name, id);
                core.claims.changed(&name);
            }
        }))
    }

    fn core_of(&self, name: &TunnelName) -> Option<usize> {
        self.core.table.core_of(name)
    }

    fn tie<'a>(&'a self, name: &'a TunnelName, owner: &'a KeyName) -> Tying<'a> {
        Box::pin(async move {
            let claims = &self.core.claims;
            match claims.owners.tie(&self.core.redis, self.core.own, name, owner).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(NotTied),
                Err(error) => {
                    // No other node is reached by a visitor of this one, nor the other way round. It is written when Redis is back.
                    tracing::debug!(tunnel = %name, %error, "whose a name is isn't known to the other nodes");
                    claims.owners.note(name, owner);
                    Ok(())
                }
            }
        })
    }

    fn announced<'a>(&'a self, name: &'a TunnelName) -> Doing<'a> {
        Box::pin(async move {
            if self.standing() == Standing::Connected {
                let _ = timeout(PATIENCE, self.core.claims.is_written(name)).await;
            }
        })
    }

    fn standing(&self) -> Standing {
        self.core.standing()
    }

    fn register_metrics(&self, registry: &mut Registry) {
        self.core.metrics.register(registry);
    }

    fn drain(&self) {
        self.core.draining.store(true, Ordering::Release);
        // The next beat would say so too; visitors elsewhere needn't wait for it.
        let core = Arc::clone(&self.core);
        tokio::spawn(async move { core.say_alive().await });
    }

    fn quiet(&self) -> Doing<'_> {
        Box::pin(async move {
            while self.core.links.answering() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        })
    }

    fn cut_off(&self) {
        self.core.links.cut_off();
    }

    fn leave(&self) -> Doing<'_> {
        Box::pin(async move {
            self.core.left.store(true, Ordering::Release);
            let farewell = async {
                let _ = self.core.claims.write().await;
                self.core.say(&Notice::Gone { node: self.core.own }).await;
            };
            let _ = timeout(2 * PATIENCE, farewell).await;
            if self.standing() == Standing::Connected {
                tokio::time::sleep(STRAGGLERS).await;
            }
            let _ = timeout(PATIENCE, self.core.links.end()).await;
        })
    }
}

impl Forward for RedisBus {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        Box::pin(self.core.forward(request))
    }
}

/// A request that nobody has taken yet, with the reason of the last one that was asked.
struct Untaken(Request, Option<ForwardError>);

/// The end of a search, or the request for the next one to be asked.
type Asked = ControlFlow<Result<Answer, ForwardError>, Untaken>;

impl Core {
    async fn forward(&self, request: Request) -> Result<Answer, ForwardError> {
        let name = request.context.tunnel.clone();
        let mut untaken = Untaken(request, None);
        let mut again = false;
        loop {
            // Most have their session here, and need no look at the others.
            untaken = match self.ask_seats(untaken, SeatState::Open).await {
                ControlFlow::Break(result) => return result,
                ControlFlow::Continue(untaken) => untaken,
            };
            let found = self.find(&name).await;
            untaken = match self.ask_others(untaken, found.as_deref()).await {
                ControlFlow::Break(result) => return result,
                ControlFlow::Continue(untaken) => untaken,
            };
            if again || !self.may_have_moved(&name, untaken.1.as_ref()) {
                let Untaken(request, last) = untaken;
                return Err(self.nobody(&name, found.as_deref(), last).unsent(request));
            }
            self.directory.doubt(&name);
            again = true;
        }
    }

    /// Whether the client may have moved to another node this moment: it takes its leave once that is written, which may be
    /// before all nodes were told.
    fn may_have_moved(&self, name: &TunnelName, last: Option<&ForwardError>) -> bool {
        match last.map(ForwardError::kind) {
            Some(kind) => matches!(kind, ErrorKind::TunnelGone | ErrorKind::Draining | ErrorKind::Offline),
            None => self.table.saw_off(name),
        }
    }

    /// Asks nodes that stay, then what will end soon: seats here, and nodes.
    async fn ask_others(&self, mut untaken: Untaken, found: Option<&Row>) -> Asked {
        let holders = found.map(Row::in_order).unwrap_or_default();
        let present = |wanted| {
            let nodes = self.nodes();
            let holders = holders.iter().filter(move |holder| nodes.presence(holder.node) == wanted);
            holders.collect::<Vec<_>>()
        };
        for holder in present(Presence::Ready) {
            untaken = self.ask_node(holder, untaken).await?;
        }
        untaken = self.ask_seats(untaken, SeatState::Leaving).await?;
        for holder in present(Presence::Draining) {
            untaken = self.ask_node(holder, untaken).await?;
        }
        ControlFlow::Continue(untaken)
    }

    async fn ask_seats(&self, Untaken(request, before): Untaken, state: SeatState) -> Asked {
        match self.table.offer(request, state..=state).await {
            Offered::Taken(result) => ControlFlow::Break(result),
            Offered::Untaken(request, last) => {
                ControlFlow::Continue(Untaken(request, more_telling(last, before)))
            }
        }
    }

    /// Who else holds a tunnel; `None` if that can't be known now.
    async fn find(&self, name: &TunnelName) -> Option<Arc<Row>> {
        if self.standing() == Standing::Away {
            return None;
        }
        match self.directory.find(name).await {
            Ok(row) => Some(row),
            Err(error) => {
                tracing::debug!(tunnel = %name, %error, "a tunnel couldn't be looked up");
                None
            }
        }
    }

    /// Sends an exchange to another node; the request comes back if it provably reached no client from there.
    async fn ask_node(&self, holder: &Holder, Untaken(mut request, before): Untaken) -> Asked {
        let held = Held::new(Arc::clone(&holder.busy));
        self.metrics.forwarded.inc();
        let mut last = None;
        // A link that broke or was given up in this very moment is followed by another.
        for _ in 0..2 {
            let link = self.links.to(holder.node);
            let mut error = match link.forward(request).await {
                Ok(answer) => return ControlFlow::Break(Ok(held.with(answer))),
                Err(error) => error,
            };
            let Some(unsent) = error.take_unsent() else {
                return ControlFlow::Break(Err(error));
            };
            (request, last) = (unsent, Some(error));
            if link.state() == State::Open {
                break;
            }
        }
        ControlFlow::Continue(Untaken(request, more_telling(last, before)))
    }

    fn nobody(&self, name: &TunnelName, found: Option<&Row>, last: Option<ForwardError>) -> ForwardError {
        let settling =
            (*self.connected.borrow()).is_some_and(|since| since.again && since.at.elapsed() < SETTLING);
        let unsure = match found {
            None => true,
            Some(row) => settling && row.holders.is_empty(),
        };
        if unsure && last.is_none() && !self.table.has(name) {
            return ForwardError::new(
                ErrorKind::BusAway,
                "this node of the proxy can't reach the others at the moment, and the service isn't connected to this one",
            );
        }
        nobody(last, self.table.knows(name) || found.is_some_and(|row| row.known))
    }

    fn standing(&self) -> Standing {
        let hears = self.connected.borrow().is_some() && self.nodes().deaf_for(now()) < DEAF;
        if hears { Standing::Connected } else { Standing::Away }
    }

    async fn say_alive(&self) {
        if self.left.load(Ordering::Acquire) {
            return;
        }
        let draining = self.draining.load(Ordering::Acquire);
        self.say(&Notice::Alive { node: self.own, draining }).await;
    }

    async fn say(&self, notice: &Notice) {
        let mut command = cmd("PUBLISH");
        command.arg(self.names.notices()).arg(notice.to_string());
        if let Err(error) = self.redis.call::<u64>(&command).await {
            tracing::debug!(%error, "the other nodes couldn't be told");
        }
    }

    // A panic while the lock is held can't leave it half-changed: each change is one call.
    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of two reasons the one that says more. That a session is gone is all that remains when nothing else is known.
fn more_telling(last: Option<ForwardError>, before: Option<ForwardError>) -> Option<ForwardError> {
    let says_little =
        |error: &ForwardError| matches!(error.kind(), ErrorKind::TunnelGone | ErrorKind::Draining);
    match (last, before) {
        (Some(last), Some(before)) if says_little(&last) => Some(before),
        (last, before) => last.or(before),
    }
}

/// The runtime's clock, so that tests can pause it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// This node's own seats, for other nodes.
struct Local {
    table: Arc<Table>,
    metrics: Metrics,
}

impl Forward for Local {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        self.metrics.answered.inc();
        Box::pin(async move {
            match self.table.offer(request, SeatState::TAKING).await {
                Offered::Taken(result) => result,
                Offered::Untaken(request, last) => Err(nobody(last, true).unsent(request)),
            }
        })
    }
}
