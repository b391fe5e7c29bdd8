//! Whether a node lives and whether it is ready, as load balancers and supervisors ask.
//!
//! Owns what counts as ready. Must not know by which listener it is asked.

use std::sync::atomic::Ordering;

use http::StatusCode;

use super::Shared;
use crate::bus::Standing;

/// Whether a node should be given visitors and clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It doesn't serve yet.
    Starting,
    /// It does.
    Ready,
    /// It serves its own tunnels, and answers 503 for those of other nodes. It still counts as ready: the bus is away from all nodes
    /// as a rule, and without any node nobody would have an answer.
    BusAway,
    /// It is about to end.
    Draining,
}

impl Readiness {
    pub(super) fn of(node: &Shared) -> Self {
        if node.drain.is_cancelled() {
            Self::Draining
        } else if !node.serving.load(Ordering::Relaxed) {
            Self::Starting
        } else {
            match node.bus.standing() {
                Standing::Connected => Self::Ready,
                Standing::Away => Self::BusAway,
            }
        }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Ready | Self::BusAway => StatusCode::OK,
            Self::Starting | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// One line for people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Starting => "starting\n",
            Self::Ready => "ready\n",
            Self::BusAway => "ready, bus away\n",
            Self::Draining => "draining\n",
        }
    }
}
