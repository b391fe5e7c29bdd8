//! Write plugins for `tunnel` in Rust.
//!
//! A plugin is a type that implements [`Plugin`]. The attribute [`plugin`](macro@plugin) on that `impl` block makes a
//! component of it; what isn't written isn't called.
//!
//! ```
//! use guest_sdk::prelude::*;
//!
//! #[derive(serde::Deserialize)]
//! struct Config {
//!     token: String,
//! }
//!
//! struct Auth(Config);
//!
//! #[guest_sdk::plugin]
//! impl Plugin for Auth {
//!     type Config = Config;
//!
//!     fn new(config: Config) -> Result<Self> {
//!         Ok(Self(config))
//!     }
//!
//!     fn on_request(&self, request: &Request) -> Result<Verdict> {
//!         match request.bearer_token() {
//!             Some(token) if token == self.0.token => Forward::new().remove_header("authorization").into(),
//!             _ => Respond::new(401).header("www-authenticate", "Bearer").text("A token is needed.").into(),
//!         }
//!     }
//! }
//! ```
//!
//! # Where to look
//! - What a plugin can do: [`Plugin`], and what its hooks return: [`Forward`], [`Respond`], [`Body`], [`Accept`], [`Relay`].
//! - What it can ask for: [`log`], [`clock`], [`random`], [`metrics`], and when the operator grants it [`kv`], [`secrets`],
//!   [`http_client`].
//! - How it is tested, in plain `cargo test`: `testing`.

mod bindings;
mod body;
mod exchange;
#[cfg(target_arch = "wasm32")]
mod export;
mod fault;
mod glue;
mod head;
mod plugin;
mod state;
mod websocket;

pub mod clock;
pub mod http_client;
pub mod kv;
pub mod log;
pub mod metrics;
pub mod random;
pub mod secrets;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

/// What stands behind the capabilities: the host, or in tests a stand-in with the same functions.
#[cfg(target_arch = "wasm32")]
use bindings::plugin as host;
#[cfg(not(target_arch = "wasm32"))]
use testing::host;

pub use body::{Body, BodyVerdict, Piece};
pub use exchange::{ClientCertificate, Request, Response, Role, TlsInfo};
pub use fault::{Fault, Result};
pub use guest_sdk_macros::plugin;
pub use head::{Abort, Forward, Respond, Status, Verdict};
pub use http;
pub use plugin::{NoConfig, Plugin};
pub use websocket::{Accept, Message, Relay, Side};

/// What nearly every plugin uses.
pub mod prelude {
    pub use crate::{
        Abort, Accept, Body, BodyVerdict, Fault, Forward, Message, Piece, Plugin, Relay, Request, Respond,
        Response, Result, Role, Side, Verdict, clock, http_client, kv,
        log::{debug, error, info, trace, warn},
        metrics, random, secrets,
    };
}

/// For the code that `#[plugin]` writes.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_arch = "wasm32")]
    pub use crate::export::Exported;
    pub use crate::{bindings::*, glue::Hooks};
}
