//! The links of one node: those that it opened to reach sessions of others, and those by which others reach its own.
//!
//! Owns which envelope belongs to which link. Must not know which node holds what.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{
    link::{ARRIVALS, Link},
    metrics::Metrics,
    notice::Names,
};
use crate::{
    exchange::Forward,
    redis::{Redis, cmd},
    session::{self, Driver, Ended, Handle, Settings, State},
    wire::{
        MAX_EXCHANGES, NodeId,
        envelope::{Content, End, Envelope, Sender},
    },
};

/// Silence after which the other end of a link is pinged; after twice as long, the link has broken. The ping finds out too
/// when the last envelope got lost and no other follows. Nodes are avoided much sooner (see `nodes`), but what is under
/// way at one that is merely slow isn't cut off.
const PING_AFTER: Duration = Duration::from_millis(2500);

/// A link on which nothing was opened for so long is given up; the next exchange opens another, which costs nothing.
const IDLE: Duration = Duration::from_secs(10);

/// Links of others at once: a fault elsewhere must not fill this node's memory.
const MOST_ACCEPTED: usize = 4096;

/// Links end when this is dropped.
pub(super) struct Links(Arc<Inner>);

struct Inner {
    redis: Redis,
    own: NodeId,
    names: Names,
    max_websocket_message: usize,
    /// Answers other nodes, from this node's seats alone: so an exchange hops once at most.
    local: Arc<dyn Forward>,
    routes: Mutex<Routes>,
    next: AtomicU64,
    tasks: TaskTracker,
    metrics: Metrics,
}

#[derive(Default)]
struct Routes {
    /// By node; the newest link to it.
    opened: HashMap<NodeId, (u64, Handle)>,
    /// By the end that speaks, which is the other one.
    arrivals: HashMap<Sender, Route>,
    closed: bool,
}

struct Route {
    to: mpsc::Sender<Content>,
    handle: Handle,
}

impl Links {
    pub(super) fn new(
        redis: Redis,
        own: NodeId,
        max_websocket_message: usize,
        local: Arc<dyn Forward>,
        metrics: Metrics,
    ) -> Self {
        let names = Names::new(redis.address());
        Self(Arc::new(Inner {
            redis,
            own,
            names,
            max_websocket_message,
            local,
            routes: Mutex::default(),
            next: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            metrics,
        }))
    }

    /// The link to a node; opened if there is none.
    pub(super) fn to(&self, node: NodeId) -> Handle {
        let mut routes = self.0.routes();
        if let Some((_, handle)) = routes.opened.get(&node)
            && handle.state() == State::Open
        {
            return handle.clone();
        }
        let link = self.0.next.fetch_add(1, Ordering::Relaxed);
        let theirs = Sender { node, link, end: End::Acceptor };
        let (way, to) = self.0.way(theirs, Sender { node: self.0.own, link, end: End::Opener });
        let (handle, driver) = session::open(way, self.0.settings());
        if !routes.closed {
            routes.arrivals.insert(theirs, Route { to, handle: handle.clone() });
            routes.opened.insert(node, (link, handle.clone()));
            self.0.run(theirs, driver, handle.clone());
        }
        handle
    }

    /// Takes in what was published for this node. Never waits.
    pub(super) fn deliver(&self, payload: Bytes) {
        let Envelope { sender, content } = match Envelope::decode(payload) {
            Ok(envelope) => envelope,
            Err(error) => return tracing::debug!(%error, "skipped what another node said"),
        };
        let mut routes = self.0.routes();
        if let Some(route) = routes.arrivals.get(&sender) {
            if route.to.try_send(content).is_err() {
                // It can't keep up, or is ending; a gap would end it too.
                routes.arrivals.remove(&sender);
            }
            return;
        }
        match content {
            Content::Messages(0, _) if sender.end == End::Opener && routes.has_room() => {
                self.accept(&mut routes, sender, content);
            }
            Content::Messages(..) => {
                drop(routes);
                self.refuse(sender);
            }
            Content::Reset => {}
        }
    }

    /// Exchanges of other nodes' visitors that are under way here.
    pub(super) fn answering(&self) -> usize {
        let routes = self.0.routes();
        let accepted = routes.arrivals.iter().filter(|(sender, _)| sender.end == End::Opener);
        accepted.map(|(_, route)| route.handle.busy()).sum()
    }

    /// Ends the links that were opened here, with whatever is under way on them.
    pub(super) fn cut_off(&self) {
        let routes = self.0.routes();
        let opened = routes.arrivals.iter().filter(|(sender, _)| sender.end == End::Acceptor);
        opened.for_each(|(_, route)| route.handle.close());
    }

    /// Ends all links, now and for ever, and waits until the other ends were told.
    pub(super) async fn end(&self) {
        {
            let mut routes = self.0.routes();
            routes.closed = true;
            routes.arrivals.values().for_each(|route| route.handle.close());
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn accept(&self, routes: &mut Routes, theirs: Sender, first: Content) {
        let (way, to) =
            self.0.way(theirs, Sender { node: self.0.own, link: theirs.link, end: End::Acceptor });
        let (handle, driver) = session::serve(way, self.0.settings(), Arc::clone(&self.0.local));
        // It is empty, and has room.
        let _ = to.try_send(first);
        routes.arrivals.insert(theirs, Route { to, handle: handle.clone() });
        self.0.run(theirs, driver, handle);
    }

    /// Tells a node that its link isn't known here: it broke, and the node hasn't noticed.
    fn refuse(&self, theirs: Sender) {
        let end = if theirs.end == End::Opener { End::Acceptor } else { End::Opener };
        let reset = Envelope::reset(Sender { node: self.0.own, link: theirs.link, end });
        let mut command = cmd("PUBLISH");
        command.arg(self.0.names.inbox(theirs.node)).arg(reset);
        let redis = self.0.redis.clone();
        if !self.0.tasks.is_closed() {
            self.0.tasks.spawn(async move {
                let _ = redis.call::<u64>(&command).await;
            });
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        let mut routes = self.0.routes();
        routes.closed = true;
        routes.arrivals.drain().for_each(|(_, route)| route.handle.close());
    }
}

impl Inner {
    fn settings(&self) -> Settings {
        Settings {
            tunnel: None,
            max_exchanges: MAX_EXCHANGES,
            max_websocket_message: self.max_websocket_message,
            ping_after: PING_AFTER,
        }
    }

    /// The way to the other end of a link, and where what comes from there is put.
    fn way(&self, theirs: Sender, own: Sender) -> (Link, mpsc::Sender<Content>) {
        let (to, arrivals) = mpsc::channel(ARRIVALS);
        let inbox = self.names.inbox(theirs.node);
        (Link::new(self.redis.clone(), inbox, own, arrivals, self.metrics.clone()), to)
    }

    /// Runs a link to its end, in a task of its own.
    fn run(self: &Arc<Self>, theirs: Sender, driver: Driver<Link>, handle: Handle) {
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            let running = driver.run();
            let ended = tokio::select! {
                ended = running => ended,
                never = inner.close_when_idle(theirs.end, &handle) => match never {},
            };
            inner.over(theirs, &handle, &ended);
        });
    }

    /// The end that opens exchanges gives up a link that nobody needs.
    async fn close_when_idle(&self, theirs: End, handle: &Handle) -> std::convert::Infallible {
        let mut before = None;
        loop {
            tokio::time::sleep(IDLE).await;
            let opened = handle.opened();
            if theirs == End::Acceptor && handle.busy() == 0 && before == Some(opened) {
                handle.retire();
            }
            before = Some(opened);
        }
    }

    fn over(&self, theirs: Sender, handle: &Handle, ended: &Ended) {
        let mut routes = self.routes();
        routes.arrivals.remove(&theirs);
        let ours = theirs.end == End::Acceptor;
        if ours && routes.opened.get(&theirs.node).is_some_and(|(link, _)| *link == theirs.link) {
            routes.opened.remove(&theirs.node);
        }
        drop(routes);
        if !matches!(ended, Ended::Local | Ended::ClosedByPeer) {
            let exchanges = handle.cut_off();
            self.metrics.broken_links.inc();
            self.metrics.broken_exchanges.inc_by(exchanges as u64);
            tracing::warn!(node = %theirs.node, reason = %ended, exchanges, "a link to another node broke");
        }
    }

    // A panic while the lock is held can't leave the maps half-changed: each change is one call.
    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Routes {
    fn has_room(&self) -> bool {
        !self.closed && self.arrivals.len() < MOST_ACCEPTED
    }
}
