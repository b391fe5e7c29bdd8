//! What clients do: registrations, and how their sessions end.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

/// From one that is sent away at once to one that lasts for weeks.
const SECONDS: [f64; 8] = [1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0, 604_800.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attachment {
    dialect: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct End {
    reason: &'static str,
}

/// Numbers about clients.
#[derive(Clone)]
pub(in crate::proxy) struct Sessions {
    attachments: Family<Attachment, Counter>,
    ended: Family<End, Counter>,
    duration: Histogram,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self { attachments: Family::default(), ended: Family::default(), duration: Histogram::new(SECONDS) }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "attachments",
            "Clients that came to register, by dialect and by what came of it in short",
            self.attachments.clone(),
        );
        registry.register("sessions_ended", "Sessions that ended, by the reason", self.ended.clone());
        registry.register_with_unit(
            "session_duration",
            "How long sessions lasted that have ended",
            Unit::Seconds,
            self.duration.clone(),
        );
    }

    /// A client registered, or didn't. Why it was refused is counted where it is decided.
    pub(in crate::proxy) fn registration(&self, dialect: &'static str, outcome: &'static str) {
        self.attachments.get_or_create(&Attachment { dialect, outcome }).inc();
    }

    /// A session ended.
    pub(in crate::proxy) fn ended(&self, reason: &'static str, lasted: Duration) {
        self.ended.get_or_create(&End { reason }).inc();
        self.duration.observe(lasted.as_secs_f64());
    }
}
