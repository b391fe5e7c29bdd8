//! A live session: two peers and the exchanges that share the way between them. The peers are a proxy and a client, over one
//! registered WebSocket, or two nodes, over their bus.
//!
//! ```text
//!   Handle ──work──▶ ┌────────┐ ──messages──▶ ┌───────────┐
//!   bodies ─signals▶ │ Driver │               │ Transport │
//!   inboxes ◀─parts─ │  Mux   │ ◀──messages── └───────────┘
//!                    └────────┘
//! ```
//!
//! Three named things: the [`Mux`](mux::Mux) is pure (who may send what, and when; time is passed in), one
//! [`Driver`] task owns the [`Transport`], and cloneable handles talk to it. One side opens exchanges ([`Handle`], a
//! [`Forward`]): the proxy, or the node that has the visitor. The other answers them by the `Forward` that it was given: the
//! client, or the node that has the tunnel.
//! Must not know who called or who answers.

mod command;
pub mod driver;
mod ended;
mod guard;
pub mod handle;
mod inbox;
mod lines;
pub mod mux;
mod outbox;
pub mod part;
mod serve;
mod slot;
pub mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod translate;
pub mod transport;
pub mod v1;

pub use driver::Driver;
pub use ended::Ended;
pub use handle::Handle;
pub use lines::State;
pub use socket::Socket;
pub use transport::{Arrival, Transport};

use std::{sync::Arc, time::Duration};

use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::{
    exchange::Forward,
    wire::{self, TunnelName},
};

/// Bounds and times of one session.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The tunnel whose exchanges pass here. `None` between two nodes: there every request says which, and one that was
    /// provably never sent further comes back whole.
    pub tunnel: Option<TunnelName>,
    /// Exchanges open at once.
    pub max_exchanges: usize,
    /// Bytes of one WebSocket message.
    pub max_websocket_message: usize,
    /// Silence after which the peer is pinged; after twice as long it counts as gone.
    pub ping_after: Duration,
}

impl Settings {
    /// Whether the peers are two nodes.
    fn between_nodes(&self) -> bool {
        self.tunnel.is_none()
    }
}

/// Starts the side that opens exchanges. The driver has to be run; the handle may be cloned.
pub fn open<T: Transport>(transport: T, settings: Settings) -> (Handle, Driver<T>) {
    Driver::new(transport, settings, None)
}

/// Starts the side that answers exchanges by `forward`. The driver has to be run.
pub fn serve<T: Transport>(
    transport: T,
    settings: Settings,
    forward: Arc<dyn Forward>,
) -> (Handle, Driver<T>) {
    Driver::new(transport, settings, Some(forward))
}

/// Bytes of a session that may wait in the kernel without having been sent. More would only stand in front of the
/// heads and pings that come after it; a slow link could hold them up for longer than the peer's patience.
pub const UNSENT_IN_KERNEL: u32 = 256 * 1024;

/// The settings of the socket of a client of the original's dialect, which has bodies whole.
pub fn v1_socket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(wire::v1::MAX_DOCUMENT))
        .max_frame_size(Some(wire::v1::MAX_DOCUMENT))
        // Idle sessions are many: a small buffer each, which grows with traffic.
        .read_buffer_size(16 * 1024)
}
