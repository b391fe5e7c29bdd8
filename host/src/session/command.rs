//! What the ends of exchanges ask of the driver, and what they get back.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use super::{guard::Shared, inbox::Inbound, part::Part};
use crate::{
    exchange::{ForwardError, Interim},
    wire::message::{CancelCode, Refusal, RequestStart, ResponseStart},
};

/// What the handle, bodies and sockets ask of the driver.
pub(super) enum Command {
    Open {
        start: Box<RequestStart>,
        websocket: bool,
        shared: Arc<Shared>,
        reply: oneshot::Sender<Result<Head, Refused>>,
        interim: Option<Interim>,
    },
    Respond {
        response: Box<ResponseStart>,
        websocket: bool,
    },
    Part {
        shared: Arc<Shared>,
        part: Part,
    },
    Cancel {
        id: u64,
        code: CancelCode,
        detail: String,
    },
}

/// What can be said without waiting, from a `poll` or a `drop`.
pub(super) enum Signal {
    /// The exchange has collected credit to grant.
    Credit(Arc<Shared>),
    /// Nobody is interested in the exchange any more.
    Cancel(u64),
    /// The origin wants the body of a request with `Expect: 100-continue`.
    Continue(u64),
    GoAway(Duration),
    Disconnect,
    Retire,
    Close,
    /// The registration holds no more: the session ends, and the client is told why.
    Dismiss(Box<Refusal>),
}

/// The head of an answer, and the way to the rest of it.
pub(super) struct Head {
    pub(super) start: Box<ResponseStart>,
    pub(super) parts: Option<mpsc::Receiver<Inbound>>,
    pub(super) websocket: bool,
}

/// Why an exchange has no answer.
pub(super) enum Refused {
    /// It was never sent: the session is ending.
    Unsent(Box<RequestStart>),
    /// It was never sent: as many exchanges as allowed are open.
    Full(Box<RequestStart>),
    /// It reached no session, or none that would take it; between nodes only.
    NotTaken(Box<ForwardError>),
    Failed(Box<ForwardError>),
}
