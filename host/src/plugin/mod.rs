//! Plugins: WebAssembly components that see every exchange on its way, and decide what passes.
//!
//! Owns the engine, the guests with their limits, what the host lends them, and the stage of the pipeline that asks
//! them ([`Chain`]). Must not know that there is a tunnel, who called, or where files lie: it is given bytes.
//!
//! A component becomes a [`Plugin`] by [`Host::load`]: told apart from what it isn't (`artefact`), compiled or found in
//! the cache (`engine`), its imports held against its grants (`capability`), and tried once (`load`). A [`Chain`] takes each exchange
//! through its plugins, first to last on the way in and last to first on the way back, and applies a verdict only when
//! the hook returned well and everything in it is allowed (`edit`). Instances are pooled (`pool`); what fails is
//! thrown away, and counted (`breaker`). Messages of a WebSocket meet plugins in `websocket`. An [`Application`] is
//! another kind of component: it answers at the end of the way.

mod application;
mod artefact;
mod bindings;
mod body;
mod breaker;
mod capability;
mod chain;
pub mod config;
mod edit;
mod engine;
pub mod error;
mod exported;
mod guest;
mod hand;
pub mod inspect;
mod load;
mod measured;
mod meter;
mod pool;
mod state;
mod tick;
mod visit;
mod websocket;

#[cfg(test)]
mod tests;

pub use application::Application;
pub use artefact::Kind;
pub use capability::{kv, metrics};
pub use chain::Chain;
pub use config::{Config, Grant, Isolation, Limits, OnFailure, Role};
pub use engine::{Host, Options};
pub use error::LoadError;
pub use exported::Exported;
pub use inspect::{Description, Import};
pub use load::{Hooks, Plugin, Standing};
