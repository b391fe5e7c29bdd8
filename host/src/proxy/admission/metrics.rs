//! What came of registrations, counted by a code.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Registrations by outcome: `accepted`, or the code of a refusal. Codes are ours, so that there are few.
#[derive(Debug, Default)]
pub(super) struct Outcomes(Family<Outcome, Counter>);

impl Outcomes {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Registrations at this node by what came of them: accepted, or a refusal's code";
        registry.register("registrations", help, self.0.clone());
    }

    pub(super) fn count(&self, outcome: &'static str) {
        self.0.get_or_create(&Outcome { outcome }).inc();
    }
}
