//! What travels between proxy and client, and between nodes: plain values, how they become bytes, and back.
//!
//! Knows no runtime, no clock and no socket: time and randomness are passed in. `docs/protocol.md` is the same
//! in words.

mod cbor;
mod decode;
mod encode;
pub mod envelope;
mod error;
pub mod message;
pub mod name;
pub mod node;
pub mod notes;
pub mod registration;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod v1;

pub use decode::{Decoded, Limits};
pub use encode::Encoded;
pub use error::DecodeError;
pub use message::Message;
pub use name::{KeyName, TunnelName};
pub use node::NodeId;
pub use notes::Notes;
pub use tls::Tls;

/// The WebSocket subprotocol of this dialect.
pub const SUBPROTOCOL: &str = "tunnel.v2.cbor";

/// The path on the proxy's own host where clients connect.
pub const SUBSCRIBE_PATH: &str = "/proxy/subscribe";

/// The header of the proxy's 101 that carries the nonce to sign, base64url without padding.
pub const NONCE_HEADER: &str = "tunnel-nonce";

/// Bytes of body or WebSocket message that one message carries at most: small enough that parts of different
/// exchanges interleave fairly, large enough that framing costs nothing.
pub const MAX_PART: usize = 64 * 1024;

/// Bytes that either side may send on a new exchange before it gets more credit.
pub const INITIAL_WINDOW: u32 = 64 * 1024;

/// What a part costs at least, in bytes of credit. Without it a peer could fill memory with empty parts, each of
/// which takes some room of its own.
pub const MIN_PART_COST: u32 = 256;

/// Largest encoded message: a part or two in the largest head that is allowed, with room to grow.
pub const MAX_MESSAGE: usize = 512 * 1024;

/// Exchanges open at once on one session, whatever a proxy's settings say: each costs memory at both ends.
pub const MAX_EXCHANGES: usize = 65_536;

/// Headers, or trailers, of one message. The proxy allows visitors fewer; both ends of a session take this many, so
/// that no setting of one side breaks the other.
pub const MAX_HEADERS: usize = 1024;

/// Bytes of a text beside heads and bodies: authorities, reasons, sentences, URLs.
pub const MAX_TEXT: usize = 2048;

/// What a part of this many bytes costs, in bytes of credit.
pub fn cost(part: usize) -> u32 {
    u32::try_from(part).unwrap_or(u32::MAX).max(MIN_PART_COST)
}
