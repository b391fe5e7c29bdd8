//! Who holds which tunnel, and how an exchange gets there.
//!
//! Knows names and seats; must not know WebSocket frames, sessions' insides, or who called.

#[cfg(test)]
pub(crate) mod contract;
pub mod memory;

pub use memory::MemoryBus;

use std::sync::Arc;

use crate::{exchange::Forward, wire::TunnelName};

/// One live session as the bus sees it: something that takes exchanges and knows how busy it is.
pub trait Seat: Forward {
    /// Exchanges open on it now.
    fn busy(&self) -> usize;

    /// Whether it takes new exchanges; false once it drains or has ended.
    fn open(&self) -> bool;
}

/// Carries exchanges to whoever holds the tunnel named in the request's context.
///
/// As a [`Forward`] it gives each exchange to exactly one seat, the least busy first, and tries another when the
/// request was provably never sent.
pub trait Bus: Forward {
    /// Takes a seat for a name. The guard frees it; a late drop never removes a newer one.
    ///
    /// # Errors
    /// As many seats as allowed are taken.
    fn register(&self, name: TunnelName, seat: Arc<dyn Seat>) -> Result<Registration, TooManySeats>;

    /// Whether exchanges can get to other nodes. Asked often, so that it has to be known without asking anybody.
    fn standing(&self) -> Standing {
        Standing::Connected
    }
}

/// How a node stands to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Their tunnels can be reached, or there are no others.
    Connected,
    /// Only the node's own tunnels can be reached.
    Away,
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
