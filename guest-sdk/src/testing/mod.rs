//! Runs a plugin in plain `cargo test`: no WebAssembly, no network, no waiting.
//!
//! ```
//! # use guest_sdk::prelude::*;
//! # #[derive(serde::Deserialize)] struct Config { token: String }
//! # struct Auth(Config);
//! # #[guest_sdk::plugin] impl Plugin for Auth {
//! #     type Config = Config;
//! #     fn new(config: Config) -> Result<Self> { Ok(Self(config)) }
//! #     fn on_request(&self, request: &Request) -> Result<Verdict> {
//! #         match request.bearer_token() {
//! #             Some(token) if token == self.0.token => Forward::new().set_header("x-user", "anna").into(),
//! #             _ => Respond::new(401).into(),
//! #         }
//! #     }
//! # }
//! use guest_sdk::testing::{Host, get};
//!
//! let auth = Host::new().load::<Auth>("token = 'abc'");
//!
//! let refused = auth.request(get("/")).answered();
//! assert_eq!(refused.status, 401);
//!
//! let passed = auth.request(get("/").header("authorization", "Bearer abc")).forwarded();
//! assert_eq!(passed.header("x-user"), Some("anna"));
//! ```
//!
//! The calls go through the same code as in a component: what differs is who stands at the other end. Each [`Host`] is
//! separate, so tests run side by side. Edits are checked by the rules of the real host and only then applied.

mod edit;
pub(crate) mod exchange;
pub(crate) mod host;
mod loaded;
mod message;
mod socket;
mod world;

pub use loaded::{Exchange, Loaded, Outcome};
pub use message::AnswerBuilder;
pub use message::{RequestBuilder, Sent, answer, delete, get, post, put, request};
pub use socket::{Delivered, Socket};
pub use world::{Call, Host, Line, Metric};
