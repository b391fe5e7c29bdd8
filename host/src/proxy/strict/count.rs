//! Refused requests in numbers.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::Violation;

/// Requests that weren't HTTP, by what was wrong with them.
#[derive(Debug, Clone, Default)]
pub(crate) struct BadRequests(Family<Label, Counter>);

/// One of the words of [`Violation::kind`], which no visitor can choose.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    kind: &'static str,
}

impl BadRequests {
    /// Counts one.
    pub(crate) fn count(&self, violation: Violation) {
        self.0.get_or_create(&Label { kind: violation.kind() }).inc();
    }

    /// Adds the number to the others.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Requests that were refused because they aren't valid HTTP/1.1, by what was wrong";
        registry.register("bad_requests", help, self.0.clone());
    }
}
