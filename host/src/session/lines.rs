//! The ways to a session's driver, and what everybody may know of the session.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{
    mpsc::{
        self,
        error::{SendError, TrySendError},
    },
    watch,
};

use super::{
    Settings,
    command::{Command, Signal},
    inbox::Growth,
};

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It takes new exchanges.
    Open,
    /// At the opener: the peer was told to go elsewhere, and hasn't taken its leave. New exchanges still find an answer
    /// here, for want of another session.
    Leaving,
    /// It takes no new ones; those under way may end.
    Draining,
    /// It is over.
    Ended,
}

/// A session's state, which every exchange asks for and few wait for.
pub(super) struct Standing {
    now: AtomicU8,
    changes: watch::Sender<State>,
}

impl Standing {
    /// A session that begins.
    pub(super) fn new() -> Self {
        Self { now: AtomicU8::new(State::Open as u8), changes: watch::Sender::new(State::Open) }
    }

    /// The state now.
    pub(super) fn get(&self) -> State {
        let number = self.now.load(Ordering::Acquire);
        State::ALL.into_iter().find(|state| *state as u8 == number).unwrap_or(State::Ended)
    }

    /// Another state.
    pub(super) fn set(&self, state: State) {
        self.now.store(state as u8, Ordering::Release);
        self.changes.send_replace(state);
    }

    /// Waits until it is one of these.
    pub(super) async fn wait_for(&self, wanted: impl Fn(State) -> bool) {
        // The sender is here.
        let _ = self.changes.subscribe().wait_for(|state| wanted(*state)).await;
    }
}

impl State {
    const ALL: [Self; 4] = [Self::Open, Self::Leaving, Self::Draining, Self::Ended];
}

/// The ways to a session's driver.
pub(super) struct Lines {
    pub(super) work: mpsc::Sender<Command>,
    /// Never full: its capacity is what all exchanges together can have under way (see `driver::signal_capacity`).
    pub(super) signals: mpsc::Sender<Signal>,
    pub(super) state: Standing,
    pub(super) busy: AtomicUsize,
    /// Exchanges that began, since the session did.
    pub(super) opened: AtomicU64,
    /// Exchanges that the session's end cut off.
    pub(super) cut_off: AtomicUsize,
    /// Bytes of bodies and WebSocket messages that came from the peer, and that went to it.
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) growth: Growth,
    pub(super) settings: Settings,
}

impl Lines {
    /// Whether new exchanges may be opened.
    pub(super) fn takes_exchanges(&self) -> bool {
        matches!(self.state.get(), State::Open | State::Leaving)
    }

    /// Gives the driver something to do, as soon as it has room.
    ///
    /// # Errors
    /// The driver is gone; here is what it was to do.
    pub(super) async fn ask(&self, command: Command) -> Result<(), Command> {
        match self.work.try_send(command) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(command)) => Err(command),
            Err(TrySendError::Full(command)) => {
                // Seldom: each exchange would have room for it.
                Box::pin(self.work.send(command)).await.map_err(|SendError(command)| command)
            }
        }
    }

    /// Leaves word for the driver, from wherever it is.
    pub(super) fn signal(&self, signal: Signal) {
        if let Err(TrySendError::Full(_)) = self.signals.try_send(signal) {
            tracing::warn!("a session's signals overran: an exchange may hang until the session ends");
        }
    }
}
