//! What the driver keeps with each open exchange.

use std::sync::Arc;

use tokio::{sync::oneshot, task::AbortHandle};

use super::{
    command::{Head, Refused},
    guard::Shared,
    inbox::{self, InboxSender},
};
use crate::exchange::{ForwardError, Interim};

/// The ends of an exchange that wait for the driver.
pub(super) struct Slot {
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Option<InboxSender>,
    /// At the opener, until the answer's head.
    pub(super) reply: Option<oneshot::Sender<Result<Head, Refused>>>,
    pub(super) interim: Option<Interim>,
    /// At the acceptor, while the exchange has to end with the session at once.
    pub(super) task: Option<AbortHandle>,
    pub(super) websocket: bool,
    /// At the opener between nodes, once its head was given to the transport: as which of all messages.
    pub(super) sent_as: Option<u64>,
}

impl Slot {
    /// Tells everyone who waits on the exchange that it is over.
    pub(super) fn end(self, error: impl Fn() -> ForwardError) {
        self.end_as(Refused::Failed, error);
    }

    /// The same, for an exchange that never came to be: whoever waits for its answer may try elsewhere.
    pub(super) fn not_taken(self, error: impl Fn() -> ForwardError) {
        self.end_as(Refused::NotTaken, error);
    }

    fn end_as(self, refused: fn(Box<ForwardError>) -> Refused, error: impl Fn() -> ForwardError) {
        self.shared.close();
        if let Some(reply) = self.reply {
            let _ = reply.send(Err(refused(Box::new(error()))));
        }
        if let Some(inbox) = self.inbox {
            inbox::fail(&inbox, error());
        }
        if let Some(task) = self.task {
            task.abort();
        }
    }
}
