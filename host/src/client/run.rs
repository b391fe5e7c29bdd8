//! Keeps sessions to the proxy open: dials, serves, and dials again, until it is told to stop. Where they can be at different nodes,
//! they are.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{self, Notify},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Config, Event,
    backoff::{Backoff, STABLE},
    dial::{DialError, Dialer},
    spread::Spread,
    summary::Summarised,
};
use crate::{
    exchange::Forward,
    session::{self, Ended, Handle, State},
    wire::{MAX_EXCHANGES, NodeId, message::Refusal},
};

/// How long exchanges under way may take after the client was told to stop.
const LEAVE: Duration = Duration::from_secs(5);

/// How long a session that was told to go stays when no replacement can be had: a little less than the proxy waits for it.
const STAY: Duration = Duration::from_millis(2500);

/// A proxy that asks for more patience than this isn't believed: it may have meant something else.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Why a client gave up, in a sentence for its user.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The proxy's URL can't be used.
    #[error("{0}")]
    BadProxy(String),
    /// The proxy won't have this client.
    #[error("{0}")]
    Registration(String),
}

/// Publishes what answers until `stop`, then lets exchanges under way end.
///
/// # Errors
/// The configuration can't be used, or the proxy refused the registration for good.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Refused> {
    let report = Arc::clone(&config.report);
    let forward = Arc::new(Summarised { next: Arc::clone(&config.pipeline), report: Arc::clone(&report) });
    let connections = config.connections;
    let dialer = Dialer::new(config.clone()).map_err(Refused::BadProxy)?;
    let lane = Arc::new(Lane {
        config,
        dialer,
        forward,
        sessions: TaskTracker::new(),
        up: AtomicUsize::new(0),
        announced: AtomicBool::new(false),
        spread: Mutex::default(),
        seeking: sync::Mutex::default(),
        doubled: Notify::new(),
        stop: stop.child_token(),
    });
    let mut lanes = JoinSet::new();
    for number in 0..connections {
        let lane = Arc::clone(&lane);
        lanes.spawn(async move { lane.keep_open(number).await });
    }
    let mut outcome = Ok(());
    while let Some(ended) = lanes.join_next().await {
        if let Ok(Err(refused)) = ended {
            // One refusal holds for all: they register the same key at the same proxy.
            lane.stop.cancel();
            outcome = Err(refused);
        }
    }
    lane.sessions.close();
    // A session that was replaced may still have exchanges; what outlasts this ends with the process.
    let _ = timeout(LEAVE, lane.sessions.wait()).await;
    report(Event::Stopped);
    outcome
}

/// What the lanes, one for each connection, have in common.
struct Lane {
    config: Config,
    dialer: Dialer,
    forward: Arc<dyn Forward>,
    sessions: TaskTracker,
    /// Sessions that take exchanges now.
    up: AtomicUsize,
    /// The public URL has been told.
    announced: AtomicBool,
    /// Where the sessions are.
    spread: Mutex<Spread>,
    /// Held by the lane that looks for a better node: one that is found serves all, whoever finds it.
    seeking: sync::Mutex<()>,
    /// A session came to a node where another one is.
    doubled: Notify,
    stop: CancellationToken,
}

/// A session that is served. When it is dropped it takes its leave: what is under way on it ends well, and nothing new
/// begins.
struct Session {
    handle: Handle,
    node: Option<NodeId>,
    public_url: String,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.handle.disconnect();
    }
}

impl Lane {
    /// Backoff around lives of a session.
    async fn keep_open(self: Arc<Self>, number: usize) -> Result<(), Refused> {
        let mut backoff = Backoff::new();
        let mut replaced: Option<(Session, Instant)> = None;
        let mut hasty = false;
        loop {
            let opened = tokio::select! {
                opened = self.open() => opened,
                () = self.stop.cancelled() => return Ok(()),
            };
            // The old session may go when it is done: its successor is up, or it was with a proxy that is alone. Where a balancer
            // sent us to a node that won't have us, it goes on answering until another one will.
            let may_stay = opened.as_ref().is_err_and(|error| !error.nobody_listens());
            replaced = replaced.filter(|(_, since)| may_stay && since.elapsed() < STAY);
            let (mut nobody_listens, mut asked_to_wait) = (false, None);
            let reason = match opened {
                Ok(session) => {
                    let since = Instant::now();
                    match self.live(number, session).await {
                        Life::Stopped => return Ok(()),
                        Life::Moving(old) => {
                            replaced = Some((old, Instant::now()));
                            (self.config.report)(Event::Moving);
                            let in_haste = since.elapsed() < STABLE;
                            if !(in_haste && std::mem::replace(&mut hasty, in_haste)) {
                                continue;
                            }
                            // Nodes that send everybody away at once must not be dialled in a circle.
                            "the proxy sent this client away".to_owned()
                        }
                        Life::Dismissed(refusal) if !refusal.retry => {
                            return Err(Refused::Registration(refusal.text));
                        }
                        Life::Dismissed(refusal) => {
                            asked_to_wait = refusal.retry_after;
                            refusal.text
                        }
                        Life::Ended(reason) => {
                            backoff.was_up(since.elapsed());
                            reason
                        }
                    }
                }
                Err(error) if error.is_final() => return Err(Refused::Registration(error.to_string())),
                Err(error) => {
                    nobody_listens = error.nobody_listens();
                    asked_to_wait = error.retry_after();
                    error.to_string()
                }
            };
            let retry_in = backoff.wait(Instant::now().into_std(), rand::random());
            // No sooner than the proxy asks for; those that it asked at once don't all come at once.
            let asked =
                asked_to_wait.map(|wait| wait.min(LONGEST_WAIT).mul_f64(1.0 + rand::random::<f64>() / 10.0));
            let retry_in = retry_in.max(asked.unwrap_or_default());
            if self.up.load(Ordering::Relaxed) == 0 && replaced.is_none() {
                (self.config.report)(Event::Disconnected { reason, retry_in, nobody_listens });
            } else {
                tracing::info!(
                    reason,
                    ?retry_in,
                    "one of several sessions is away, or has no replacement yet"
                );
            }
            tokio::select! {
                () = sleep(retry_in) => {}
                () = self.stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Opens a session and begins to serve it.
    async fn open(&self) -> Result<Session, DialError> {
        let (socket, registered) = self.dialer.dial().await?;
        let settings = session::Settings {
            tunnel: Some(registered.name.clone()),
            max_exchanges: usize::try_from(registered.max_exchanges).unwrap_or(usize::MAX).min(MAX_EXCHANGES),
            max_websocket_message: self.config.max_websocket_message,
            ping_after: self.config.ping_after,
        };
        let (handle, driver) = session::serve(socket, settings, Arc::clone(&self.forward));
        self.sessions.spawn(driver.run());
        Ok(Session { handle, node: registered.node, public_url: registered.public_url })
    }

    /// One life of a lane: a session, and whichever take its place while it is well.
    async fn live(self: &Arc<Self>, number: usize, mut session: Session) -> Life {
        let first_up = self.up.fetch_add(1, Ordering::Relaxed) == 0;
        self.announce(session.public_url.clone(), first_up);
        if self.spread().came(number, session.node) {
            self.doubled.notify_one();
        }
        let life = loop {
            let handle = session.handle.clone();
            tokio::select! {
                biased;
                ended = handle.ended() => break Life::of(ended),
                () = self.stop.cancelled() => {
                    drop(session);
                    if timeout(LEAVE, handle.ended()).await.is_err() {
                        handle.close();
                    }
                    break Life::Stopped;
                }
                () = handle.draining() => break match handle.state() {
                    // It has ended, and is still saying why.
                    State::Ended => Life::of(handle.ended().await),
                    _ => Life::Moving(session),
                },
                // The old one takes its leave now that this one is up.
                elsewhere = self.elsewhere(number) => session = elsewhere,
            }
        };
        self.spread().left(number);
        self.up.fetch_sub(1, Ordering::Relaxed);
        life
    }

    /// A session at a node where no other lane has one, once there is such a node and this lane has need of it.
    async fn elsewhere(self: &Arc<Self>, number: usize) -> Session {
        let turn = self.seeking.lock().await;
        while self.spread().doubled(number) {
            let pause = self.spread().pause(rand::random());
            tokio::select! {
                () = sleep(pause) => {}
                // Things have changed, and the pause with them.
                () = self.doubled.notified() => continue,
            }
            self.spread().dialled();
            match self.open_aside().await {
                Ok(session) if self.spread().moves(number, session.node) => {
                    tracing::info!("one of several sessions is at another node now");
                    return session;
                }
                Ok(_) => tracing::debug!("another session came to a node that has one"),
                Err(error) => tracing::debug!(%error, "no session at another node"),
            }
        }
        // Whoever is the first at a node stays so.
        drop(turn);
        std::future::pending().await
    }

    /// Opens a session in a task of its own. If nobody waits for it any more it takes its leave, instead of breaking off: the
    /// proxy may have given it an exchange already.
    async fn open_aside(self: &Arc<Self>) -> Result<Session, DialError> {
        let lane = Arc::clone(self);
        let opening = self.sessions.spawn(async move {
            tokio::select! {
                opened = lane.open() => Some(opened),
                () = lane.stop.cancelled() => None,
            }
        });
        match opening.await {
            Ok(Some(opened)) => opened,
            // The client stops, and whoever waits here with it.
            _ => std::future::pending().await,
        }
    }

    fn announce(&self, public_url: String, first_up: bool) {
        let event = if !self.announced.swap(true, Ordering::Relaxed) {
            Event::Registered { public_url, target: self.config.target.clone() }
        } else if first_up {
            Event::Reconnected { public_url }
        } else {
            return;
        };
        (self.config.report)(event);
    }

    // A panic while the lock is held can't leave the places half-changed: nothing there panics between two changes.
    fn spread(&self) -> MutexGuard<'_, Spread> {
        self.spread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a life ended.
enum Life {
    Stopped,
    /// The proxy drains: a replacement is wanted before this one goes.
    Moving(Session),
    /// The proxy has taken the registration back.
    Dismissed(Refusal),
    Ended(String),
}

impl Life {
    fn of(ended: Ended) -> Self {
        match ended {
            Ended::Dismissed(refusal) => Self::Dismissed(refusal),
            ended => Self::Ended(format!("the session was lost: {ended}")),
        }
    }
}
