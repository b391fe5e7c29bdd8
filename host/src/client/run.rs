//! Keeps sessions to the proxy open: dials, serves, and dials again, until it is told to stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Config, Event,
    backoff::{Backoff, STABLE},
    dial::{Dialer, Socket},
    summary::Summarised,
};
use crate::{
    exchange::Forward,
    session::{self, Handle, State},
    wire::{MAX_EXCHANGES, message::Registered},
};

/// How long exchanges under way may take after the client was told to stop.
const LEAVE: Duration = Duration::from_secs(5);

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
        stop: stop.child_token(),
    });
    let mut lanes = JoinSet::new();
    for _ in 0..connections {
        let lane = Arc::clone(&lane);
        lanes.spawn(async move { lane.keep_open().await });
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
    stop: CancellationToken,
}

impl Lane {
    /// Backoff around lives of a session.
    async fn keep_open(self: Arc<Self>) -> Result<(), Refused> {
        let mut backoff = Backoff::new();
        let mut replaced: Option<Handle> = None;
        let mut hasty = false;
        loop {
            let dialled = tokio::select! {
                dialled = self.dialer.dial() => dialled,
                () = self.stop.cancelled() => {
                    replaced.inspect(Handle::disconnect);
                    return Ok(());
                }
            };
            // A balancer may lead back to the node that sends us away, until it has noticed: the old session answers meanwhile.
            let stays = matches!(&dialled, Err(error) if !error.nobody_listens() && !error.is_final());
            // Its successor is up, or there is nowhere to go: the old session may go when it is done.
            if !stays && let Some(old) = replaced.take() {
                old.disconnect();
            }
            let mut nobody_listens = false;
            let reason = match dialled {
                Ok((socket, registered)) => {
                    let since = Instant::now();
                    match self.serve(socket, registered).await {
                        Life::Stopped => return Ok(()),
                        Life::Moving(old) => {
                            replaced = Some(old);
                            (self.config.report)(Event::Moving);
                            let in_haste = since.elapsed() < STABLE;
                            if !(in_haste && std::mem::replace(&mut hasty, in_haste)) {
                                continue;
                            }
                            // Nodes that send everybody away at once must not be dialled in a circle.
                            "the proxy sent this client away".to_owned()
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
                    error.to_string()
                }
            };
            let retry_in = backoff.wait(Instant::now().into_std(), rand::random());
            if replaced.as_ref().is_some_and(|old| old.state() != State::Ended) {
                tracing::info!(reason, ?retry_in, "no replacement yet for a session that is about to end");
            } else if self.up.load(Ordering::Relaxed) == 0 {
                (self.config.report)(Event::Disconnected { reason, retry_in, nobody_listens });
            } else {
                tracing::info!(reason, ?retry_in, "one of several sessions is away");
            }
            tokio::select! {
                () = sleep(retry_in) => {}
                () = self.stop.cancelled() => {
                    replaced.inspect(Handle::disconnect);
                    return Ok(());
                }
            }
        }
    }

    /// One life of a session.
    async fn serve(&self, socket: Socket, registered: Registered) -> Life {
        let settings = session::Settings {
            tunnel: Some(registered.name.clone()),
            max_exchanges: usize::try_from(registered.max_exchanges).unwrap_or(usize::MAX).min(MAX_EXCHANGES),
            max_websocket_message: self.config.max_websocket_message,
            ping_after: self.config.ping_after,
        };
        let (handle, driver) = session::serve(socket, settings, Arc::clone(&self.forward));
        self.sessions.spawn(driver.run());
        let first_up = self.up.fetch_add(1, Ordering::Relaxed) == 0;
        self.announce(registered.public_url, first_up);
        let life = tokio::select! {
            biased;
            ended = handle.ended() => Life::Ended(format!("the session was lost: {ended}")),
            () = self.stop.cancelled() => {
                handle.disconnect();
                if timeout(LEAVE, handle.ended()).await.is_err() {
                    handle.close();
                }
                Life::Stopped
            }
            () = handle.draining() => match handle.state() {
                // It has ended, and is still saying why.
                State::Ended => Life::Ended(format!("the session was lost: {}", handle.ended().await)),
                _ => Life::Moving(handle.clone()),
            },
        };
        self.up.fetch_sub(1, Ordering::Relaxed);
        life
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
}

/// How a life ended.
enum Life {
    Stopped,
    /// The proxy drains: a replacement is wanted before this one goes.
    Moving(Handle),
    Ended(String),
}
