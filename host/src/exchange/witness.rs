//! What stages on an exchange's way tell of it, beside doing their work: who was asked, who answered, who took it.
//!
//! Owns the trait. Must not know who listens, or what becomes of what is told: metrics, a log, a trace.

use std::time::Duration;

/// Told what happens to one exchange inside this process. Called while the exchange waits: it has to return at once.
pub trait Witness: Send + Sync {
    /// A hook of a plugin was called for a head, and has returned or failed just now.
    fn asked(&self, asked: &Asked<'_>);

    /// A session took the exchange; `session` is its number at this node.
    fn taken(&self, session: u64);
}

/// One call of a plugin's hook.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The plugin's name.
    pub plugin: &'a str,
    /// `on-request`, `on-response`, `on-open`.
    pub hook: &'static str,
    /// What came of it: a verdict or a kind of failure, in a word.
    pub verdict: &'static str,
    /// How long it took, waiting included.
    pub time: Duration,
}

impl Asked<'_> {
    /// The plugin gave an answer of its own, or cut the exchange off.
    pub fn ended_here(&self) -> bool {
        matches!(self.verdict, "respond" | "abort")
    }
}
