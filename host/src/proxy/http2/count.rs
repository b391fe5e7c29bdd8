//! What visitors' connections by HTTP/2 were ended for.

use std::error::Error as _;

use h2::Reason;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::ledger::Flood;

/// Counts of what went wrong with visitors' connections by HTTP/2.
#[derive(Default)]
pub(crate) struct Counts {
    ended: Family<Ended, Counter>,
    pub(super) stalled: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    reason: &'static str,
}

impl Counts {
    /// Adds them to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Connections by HTTP/2 that were ended for what their visitor did";
        registry.register("http2_connections_ended", help, self.ended.clone());
        let help = "Streams of HTTP/2 that were ended because their visitor took nothing of the answer";
        registry.register("http2_streams_stalled", help, self.stalled.clone());
    }

    /// A visitor flooded us, and its connection is about to end.
    pub(super) fn flooded(&self, flood: Flood) {
        let reason = match flood {
            Flood::Resets => "resets",
            Flood::IdleFrames => "idle-frames",
        };
        self.count(reason);
    }

    fn count(&self, reason: &'static str) {
        self.ended.get_or_create(&Ended { reason }).inc();
    }

    /// A connection ended with an error; counted if it was the visitor's.
    pub(super) fn ended(&self, error: &hyper::Error) {
        if let Some(reason) = of(error) {
            self.count(reason);
        }
    }
}

/// The reason for the end, if the visitor gave it.
fn of(error: &hyper::Error) -> Option<&'static str> {
    let error = error.source()?.downcast_ref::<h2::Error>()?;
    // What the visitor says of itself is no reason of ours.
    if error.is_remote() {
        return None;
    }
    Some(match error.reason()? {
        Reason::NO_ERROR => return None,
        Reason::ENHANCE_YOUR_CALM => "too-much",
        Reason::FLOW_CONTROL_ERROR => "flow-control",
        Reason::COMPRESSION_ERROR => "compression",
        Reason::FRAME_SIZE_ERROR => "frame-size",
        _ => "protocol",
    })
}
