//! What travels between proxy and client: plain values, how they become bytes, and back.
//!
//! Knows no runtime, no clock and no socket.

pub mod name;

pub use name::TunnelName;
