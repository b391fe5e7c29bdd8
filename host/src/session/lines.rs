//! The ways to a session's driver, and what everybody may know of the session.

use std::sync::atomic::{AtomicU64, AtomicUsize};

use tokio::sync::{mpsc, watch};

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

/// The ways to a session's driver.
pub(super) struct Lines {
    pub(super) work: mpsc::Sender<Command>,
    /// Never full: its capacity is what all exchanges together can have under way (see `driver::signal_capacity`).
    pub(super) signals: mpsc::Sender<Signal>,
    pub(super) state: watch::Sender<State>,
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
        matches!(*self.state.borrow(), State::Open | State::Leaving)
    }

    /// Leaves word for the driver, from wherever it is.
    pub(super) fn signal(&self, signal: Signal) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.signals.try_send(signal) {
            tracing::warn!("a session's signals overran: an exchange may hang until the session ends");
        }
    }
}
