//! The public role: visitors come in, clients attach, and each exchange finds its tunnel.

pub mod config;

pub use config::{Config, Limits, Rate};

use std::net::SocketAddr;

use crate::wire::TunnelName;

/// What an operator, or a program that started the proxy, wants to see.
#[derive(Debug, Clone)]
pub enum Event {
    /// The proxy takes connections.
    Listening {
        /// The address, with the real port.
        address: SocketAddr,
        /// How the proxy is reached from outside, e.g. `http://localhost:6519`.
        public_url: String,
    },
    /// A client registered a session.
    Registered {
        /// Its name.
        tunnel: TunnelName,
        /// The URL that visitors use.
        public_url: String,
        /// The client's address.
        client: SocketAddr,
    },
    /// A session ended.
    Unregistered {
        /// Its name.
        tunnel: TunnelName,
        /// Why, in words.
        reason: String,
    },
    /// The proxy no longer takes visitors and waits for exchanges under way.
    Draining {
        /// Exchanges still open.
        exchanges: usize,
    },
    /// The proxy has ended.
    Stopped,
}
