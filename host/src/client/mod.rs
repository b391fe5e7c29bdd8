//! The private role: keeps sessions to a proxy open and answers exchanges from the origin.

mod authority;
mod backoff;
pub mod config;
mod connect;
mod dial;
mod kept;
pub mod key;
mod lines;
mod listening;
mod metrics;
mod origin;
mod origin_body;
mod origin_h2;
mod origin_websocket;
mod pool;
mod run;
mod spread;
mod subscribe;
pub mod summary;

pub use authority::ProxyCa;
pub use config::{Config, HostHeader, OriginConfig, OriginProtocol};
pub use connect::OriginError;
pub use metrics::Metrics;
pub use origin::Origin;
pub use run::{Refused, run};
pub use summary::Summarised;

use std::time::Duration;

use http::{Method, StatusCode, uri::PathAndQuery};

use crate::exchange::{ErrorKind, ExchangeId};

/// What a user, or a program that started the client, wants to see.
#[derive(Debug, Clone)]
pub enum Event {
    /// The first session is up, or the name's URL changed.
    Registered {
        /// The URL that visitors use.
        public_url: String,
        /// The service behind it.
        target: String,
    },
    /// A session was lost, or couldn't be opened.
    Disconnected {
        /// Why, in words.
        reason: String,
        /// When the next attempt follows.
        retry_in: Duration,
        /// There is no program at the proxy's address.
        nobody_listens: bool,
    },
    /// A lost session is up again.
    Reconnected {
        /// The URL that visitors use.
        public_url: String,
    },
    /// The proxy drains; a replacement is being opened.
    Moving,
    /// One exchange ended.
    Exchange(ExchangeSummary),
    /// The client has ended.
    Stopped,
}

/// One ended exchange, for a line on the terminal.
#[derive(Debug, Clone)]
pub struct ExchangeSummary {
    /// The exchange's id, the same at the proxy.
    pub exchange: ExchangeId,
    /// The method.
    pub method: Method,
    /// Path and query as sent.
    pub path: PathAndQuery,
    /// What came of it; 101 for a WebSocket.
    pub outcome: Outcome,
    /// Bytes of the request's body that passed.
    pub bytes_in: u64,
    /// Bytes of the response's body that passed; for a WebSocket, of messages to the visitor.
    pub bytes_out: u64,
    /// From the request's head to the end of the response's body.
    pub time: Duration,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    /// The origin answered with this status.
    Status(StatusCode),
    /// It began with this status and broke off.
    Broken(StatusCode),
    /// There was no answer.
    Failed(ErrorKind),
}

#[cfg(test)]
mod tests;
