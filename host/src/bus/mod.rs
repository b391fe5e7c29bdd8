//! Who holds which tunnel, and how an exchange gets there.
//!
//! Knows names, seats and other nodes; must not know WebSocket frames, what a seat is, or who called.

#[cfg(test)]
pub(crate) mod contract;
pub mod memory;
pub mod redis;
mod table;

pub use memory::MemoryBus;
pub use redis::RedisBus;

use std::{future::Future, pin::Pin, sync::Arc};

use prometheus_client::registry::Registry;

use crate::{
    exchange::Forward,
    wire::{KeyName, TunnelName},
};

/// One live session as the bus sees it: something that takes exchanges and knows how busy it is.
pub trait Seat: Forward {
    /// Exchanges open on it now.
    fn busy(&self) -> usize;

    /// Whether it takes new exchanges.
    fn state(&self) -> SeatState;

    /// The number of the core that works on it, where one alone does.
    fn core(&self) -> Option<usize> {
        None
    }
}

/// Whether a seat takes new exchanges; the larger the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeatState {
    /// It takes none.
    Closed,
    /// It will end soon: it takes one for want of another seat.
    Leaving,
    /// It takes them.
    Open,
}

/// Whether a bus reaches other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does, or there are none.
    Connected,
    /// Only seats of this node are reached.
    Away,
}

impl SeatState {
    /// Those in which a seat takes exchanges.
    const TAKING: std::ops::RangeInclusive<Self> = Self::Leaving..=Self::Open;
}

/// Something that a bus does in its own time.
pub type Doing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The future of [`Bus::tie`].
pub type Tying<'a> = Pin<Box<dyn Future<Output = Result<(), NotTied>> + Send + 'a>>;

/// A chosen name belongs to another key, of which a session lives at some node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name is in use by another key")]
pub struct NotTied;

/// Carries exchanges to whoever holds the tunnel named in the request's context.
///
/// As a [`Forward`] it gives each exchange to exactly one seat: one of this node before any other, and of several the
/// least busy. It tries another when the request was provably never sent.
pub trait Bus: Forward {
    /// Takes a seat for a name. The guard frees it; a late drop never removes a newer one.
    ///
    /// # Errors
    /// As many seats as allowed are taken.
    fn register(&self, name: TunnelName, seat: Arc<dyn Seat>) -> Result<Registration, TooManySeats>;

    /// Ties a chosen name to its owner at all nodes, before a seat is taken for it. At this node it is known whose names are.
    fn tie<'a>(&'a self, name: &'a TunnelName, owner: &'a KeyName) -> Tying<'a> {
        let _ = (name, owner);
        Box::pin(std::future::ready(Ok(())))
    }

    /// Waits until other nodes can find what was registered under this name, or until that would take too long.
    fn announced<'a>(&'a self, name: &'a TunnelName) -> Doing<'a> {
        let _ = name;
        Box::pin(std::future::ready(()))
    }

    /// The core that works on the seat of this node which an exchange for the name would be given to now.
    fn core_of(&self, name: &TunnelName) -> Option<usize> {
        let _ = name;
        None
    }

    /// Whether other nodes can be reached. Asked often: it is known without asking anybody.
    fn standing(&self) -> Standing {
        Standing::Connected
    }

    /// Puts what the bus counts where it is read from.
    fn register_metrics(&self, registry: &mut Registry) {
        let _ = registry;
    }

    /// This node will end: others look elsewhere first.
    fn drain(&self) {}

    /// Waits until no exchange of another node's visitor is under way here.
    fn quiet(&self) -> Doing<'_> {
        Box::pin(std::future::ready(()))
    }

    /// Cuts off what visitors of this node have under way at others, so that they hear of it while this node still is there to tell
    /// them.
    fn cut_off(&self) {}

    /// Takes leave of the other nodes. What is still under way between them and this one is cut off.
    fn leave(&self) -> Doing<'_> {
        Box::pin(std::future::ready(()))
    }
}

/// Frees a seat when dropped.
pub struct Registration(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Registration {
    /// A guard that runs `undo` once, when dropped.
    pub fn new(undo: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(undo)))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(undo) = self.0.take() {
            undo();
        }
    }
}

/// As many sessions as allowed hold this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this name is held by {} already; end one of them, or ask the operator to raise max_sessions_per_name",
    sessions(*.limit)
)]
pub struct TooManySeats {
    /// Sessions allowed.
    pub limit: usize,
}

fn sessions(count: usize) -> String {
    if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") }
}
