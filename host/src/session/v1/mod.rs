//! The original's dialect as a [`Transport`](super::Transport): what is above it takes the client for one of version 2.
//!
//! ```text
//!   Driver ──messages──▶ ┌────────┐ ──documents──▶
//!          ◀──messages── │ Socket │                client
//!   Registrar ──answers▶ │        │ ◀──documents──
//!             ◀─requests └────────┘
//! ```
//!
//! The `Translator` is pure, and has all that is to be decided; the [`Socket`] has a WebSocket and a
//! clock. Clients may register further names on a connection: these wishes go past the session, to the [`Registrar`].

mod down;
mod headers;
mod losses;
mod socket;
mod translator;
mod websocket;

pub use losses::Losses;
pub use socket::{Registrar, Socket, over};
