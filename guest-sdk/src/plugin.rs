//! What an author implements.
//!
//! Owns the trait; knows nothing of how it is called.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Accept, Body, BodyVerdict, Fault, Forward, Message, Piece, Relay, Request, Response, Result, Side,
    Verdict, glue::Hooks,
};

/// A plugin. Put `#[guest_sdk::plugin]` on its `impl` block: it finds which hooks are written there, and only those are
/// called. It also supplies what is left out of `Config`, `State`, `Connection` and, where there is no `Config`, `new`.
///
/// One instance serves many exchanges, and several instances may serve the parts of one: what belongs to an exchange goes
/// into [`State`](Self::State), what belongs to all of them into [`kv`](crate::kv).
pub trait Plugin: Sized + 'static {
    /// What the operator writes under `config`.
    type Config: DeserializeOwned;

    /// What the hooks of one exchange hand on to each other; 64 KiB at most. The host keeps it. Left out: nothing.
    type State: Serialize + DeserializeOwned + Default;

    /// What the hooks of one WebSocket connection hand on to each other. Left out: nothing.
    type Connection: Serialize + DeserializeOwned + Default;

    #[doc(hidden)]
    const HOOKS: Hooks;

    /// Makes an instance. Check the configuration here: what is wrong with it is shown to the operator before any visitor
    /// comes.
    ///
    /// # Errors
    /// The configuration makes no sense.
    fn new(config: Self::Config) -> Result<Self>;

    /// Sees the head of each request, upgrades to WebSocket among them, before anything is forwarded.
    ///
    /// # Errors
    /// The plugin can't do its work.
    fn on_request(&self, request: &Request<'_>) -> Result<Verdict<Self::State>> {
        let _ = request;
        Forward::new().into()
    }

    /// Sees the body of a request for which `on_request` asked with [`Forward::whole_body`] or [`Forward::body_in_pieces`].
    ///
    /// # Errors
    /// The plugin can't do its work.
    fn on_request_body(
        &self,
        request: &Request<'_>,
        piece: Piece,
        state: &mut Self::State,
    ) -> Result<BodyVerdict> {
        let _ = (request, piece, state);
        Body::keep().into()
    }

    /// Sees the head of each response, of the origin or of a plugin further on.
    ///
    /// # Errors
    /// The plugin can't do its work.
    fn on_response(&self, response: &Response<'_>, state: Self::State) -> Result<Verdict<Self::State>> {
        let _ = response;
        Forward::new().state(state).into()
    }

    /// Sees the body of a response for which `on_response` asked with [`Forward::whole_body`] or
    /// [`Forward::body_in_pieces`].
    ///
    /// # Errors
    /// The plugin can't do its work.
    fn on_response_body(
        &self,
        response: &Response<'_>,
        piece: Piece,
        state: &mut Self::State,
    ) -> Result<BodyVerdict> {
        let _ = (response, piece, state);
        Body::keep().into()
    }

    /// A WebSocket has been accepted by the origin: says which messages the plugin wants to see. Left out, all of them.
    ///
    /// # Errors
    /// The plugin can't do its work.
    fn on_open(&self, request: &Request<'_>, state: Self::State) -> Result<Accept<Self::Connection>> {
        let _ = (request, state);
        Ok(Accept::everything())
    }

    /// Sees one message of a WebSocket. Messages of one connection come one after the other, in order.
    ///
    /// # Errors
    /// The plugin can't do its work.
    fn on_message(&self, from: Side, message: Message, connection: &mut Self::Connection) -> Result<Relay> {
        let _ = (from, message, connection);
        Ok(Relay::keep())
    }

    /// The connection has ended. `code` is 1005 when the close frame had none and 1006 when there was no close frame.
    fn on_close(&self, by: Side, code: u16, reason: &str, connection: Self::Connection) {
        let _ = (by, code, reason, connection);
    }

    /// Called every minute, or as often as the policy's `tick` says, in an instance of its own: what it learns goes to the
    /// others through [`kv`](crate::kv).
    ///
    /// # Errors
    /// The plugin can't do its work.
    fn on_tick(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// The configuration of a plugin that has none. Whoever gives it one is told.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}
