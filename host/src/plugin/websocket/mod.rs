//! Plugins and the messages of a WebSocket.
//!
//! Owns what happens between `on-open` and `on-close`: a duplex is wrapped once for each plugin that looks at messages,
//! the last plugin's innermost, so that a visitor's message meets them first to last and an origin's last to first.
//! Must not know frames, sockets or sessions.
//!
//! - `connection`: both halves of a wrapped duplex, and the state that they share.
//! - `calls`: the calls of one connection, one after the other, whichever half is polled.
//! - `verdict`: what a plugin gave back, held against what it may.
//! - `farewell`: `on-close`, once, when the connection is gone.

mod calls;
mod connection;
mod farewell;
mod queue;
mod verdict;

#[cfg(test)]
mod pressure_tests;
#[cfg(test)]
pub(super) mod tests;

pub(super) use farewell::Farewells;

use std::{future::Future, sync::Arc};

use futures_util::{FutureExt, SinkExt};

use super::{
    bindings::tunnel::plugin::types::{Side, WsMessage, WsVerdict},
    chain::lost,
    config::OnFailure,
    error::HookError,
    hand::Hand,
    visit::Visit,
};
use crate::exchange::{
    Accepted, ForwardError,
    websocket::{Close, Event},
};

/// Asks a plugin about a WebSocket that the origin has accepted, and lets it see the messages that it wants.
///
/// # Errors
/// The plugin failed, and its policy is to deny. The origin is told.
pub(super) async fn on_open(
    visit: &Arc<Visit>,
    hand: &mut Option<Hand>,
    mut accepted: Accepted,
) -> Result<Accepted, ForwardError> {
    let opened = visit.on_open(hand).await;
    let held = hand.as_mut().ok_or_else(lost)?;
    let outcome = match opened {
        Err(error) => Err(visit.failed(error)),
        Ok(accept) => match visit.set_state(accept.state) {
            Err(error) => Err(visit.rejected("on-open", visit.exchange, error)),
            Ok(()) => Ok(accept.interest),
        },
    };
    match outcome {
        Ok(interest) => {
            held.keep_notes();
            accepted.duplex = connection::wrap(accepted.duplex, interest, Arc::clone(visit));
            Ok(accepted)
        }
        Err(Ok(())) => {
            held.noted.clear();
            Ok(accepted)
        }
        Err(Err(error)) => {
            // An origin that said yes hears why nothing follows, if it can be told at once: the visitor waits.
            let _ = accepted.duplex.outgoing.send(Event::Close(failed())).now_or_never();
            Err(error)
        }
    }
}

/// What both ends hear when a plugin has failed. Never in the guest's words.
fn failed() -> Close {
    Close::new(1011, "a plugin failed")
}

/// Whom a connection asks: a visit at a plugin, or whoever stands in for one.
trait Listener: Send + Sync + 'static {
    /// Asks about a message.
    fn message(
        &self,
        sender: Side,
        message: &WsMessage,
    ) -> impl Future<Output = Result<WsVerdict, HookError>> + Send;

    /// Keeps the connection's state.
    ///
    /// # Errors
    /// It is over the limit.
    fn keep(&self, state: Vec<u8>) -> Result<(), HookError>;

    /// Notes that a verdict wasn't allowed.
    fn rejected(&self, error: &HookError);

    /// Whether its failure ends the connection; if not, it isn't asked any more.
    fn denies(&self) -> bool;

    /// Bytes of the largest message that it may make.
    fn largest(&self) -> usize;

    /// The connection has ended. Called once, from a `drop`.
    fn closed(self: Arc<Self>, by: Side, close: Close);
}

impl Listener for Visit {
    fn message(
        &self,
        sender: Side,
        message: &WsMessage,
    ) -> impl Future<Output = Result<WsVerdict, HookError>> + Send {
        self.on_message(sender, message)
    }

    fn keep(&self, state: Vec<u8>) -> Result<(), HookError> {
        self.set_state(state)
    }

    fn rejected(&self, error: &HookError) {
        self.plugin.measured.refused(&self.plugin.name_shared(), "on-message");
        self.plugin.note("on-message", Some(self.exchange), &Err::<(), _>(error.clone()));
    }

    fn denies(&self) -> bool {
        self.plugin.on_failure == OnFailure::Deny
    }

    fn largest(&self) -> usize {
        self.plugin.limits.message
    }

    fn closed(self: Arc<Self>, by: Side, close: Close) {
        let plugin = Arc::clone(&self.plugin);
        plugin.farewells.say(async move {
            // Noted where it failed; there is nobody left to tell.
            let _ = self.on_close(by, close.code, &close.reason).await;
        });
    }
}
