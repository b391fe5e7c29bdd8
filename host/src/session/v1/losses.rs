//! What the original's dialect can't carry: counted each time, and told once a session.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::wire::TunnelName;

/// Something that one side said and the other can't hear in this dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    Header,
    Path,
    Trailers,
    Notes,
    Cancel,
    Binary,
    CloseCode,
    Subprotocol,
    LargeBody,
    Unusable,
}

impl Loss {
    const ALL: usize = 10;

    /// A stable word for programs, and what happened, for people.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Header => (
                "header",
                "a header of a visitor has several values that can't stand in one; the first went on",
            ),
            Self::Path => (
                "path",
                "a visitor's path has an encoded slash, or isn't UTF-8; the client can't tell that from what it got",
            ),
            Self::Trailers => ("trailers", "a request's trailers were left out"),
            Self::Notes => ("notes", "what plugins noted for the client was left out"),
            Self::Cancel => ("cancel", "a visitor left, and the client goes on with the request unasked"),
            Self::Binary => ("binary", "a WebSocket with binary messages was closed (1003)"),
            Self::CloseCode => ("close-code", "a WebSocket's close code was left out"),
            Self::Subprotocol => (
                "subprotocol",
                "which of a WebSocket's subprotocols the service took isn't known; the visitor was told of none",
            ),
            Self::LargeBody => ("large-body", "a request with a body of more than 500 kB was refused (413)"),
            Self::Unusable => ("unusable", "the client sent a document that can't be used"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    what: &'static str,
}

/// Counts them, for all sessions of a node.
#[derive(Debug, Clone, Default)]
pub struct Losses(Family<What, Counter>);

impl Losses {
    /// Puts the counter where it is read from.
    pub fn register(&self, registry: &mut Registry) {
        let help = "What clients of the original's dialect couldn't be told, or couldn't tell";
        registry.register("v1_losses", help, self.0.clone());
    }

    pub(super) fn of_session(&self, tunnel: TunnelName) -> SessionLosses {
        SessionLosses { all: self.clone(), tunnel, told: [false; Loss::ALL] }
    }
}

/// Counts those of one session.
pub(super) struct SessionLosses {
    all: Losses,
    tunnel: TunnelName,
    told: [bool; Loss::ALL],
}

impl SessionLosses {
    pub(super) fn count(&mut self, loss: Loss) {
        let (what, words) = loss.words();
        self.all.0.get_or_create(&What { what }).inc();
        if !std::mem::replace(&mut self.told[loss as usize], true) {
            tracing::warn!(
                tunnel = %self.tunnel,
                what,
                "{words}: this tunnel's client speaks the original's dialect. Further ones of this session are counted only"
            );
        }
    }

    #[cfg(test)]
    pub(super) fn counted(&self, loss: Loss) -> u64 {
        self.all.0.get_or_create(&What { what: loss.words().0 }).get()
    }
}
