//! Which nodes are there. Pure: what is heard and the time go in.
//!
//! Every node says twice a second that it lives, and hears itself say so. Others are measured against that: whoever was
//! last heard well before we last heard ourselves is silent. A node that is itself slow, or has no connection, hears
//! nobody and takes nobody for dead.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::wire::NodeId;

/// How often a node says that it lives.
pub(super) const BEAT: Duration = Duration::from_millis(500);

/// A node that was heard so much earlier than we heard ourselves is silent: two beats missed. With the time until our next
/// one that is at most 1.7 s after its last word.
const SILENCE: Duration = Duration::from_millis(1200);

/// Nodes that have been silent for so long are forgotten. Rows that name them have lost their lease by then.
const FORGET: Duration = Duration::from_secs(120);

/// What is known of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It can be asked.
    Ready,
    /// It can be asked for want of another.
    Draining,
    /// It is no use asking.
    Silent,
}

/// What was heard of all nodes since the connection is there.
#[derive(Debug)]
pub(super) struct Nodes {
    own: NodeId,
    own_heard: Instant,
    since: Instant,
    others: HashMap<NodeId, Heard>,
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    presence: Presence,
}

impl Nodes {
    pub(super) fn new(own: NodeId, now: Instant) -> Self {
        Self { own, own_heard: now, since: now, others: HashMap::new() }
    }

    /// The connection is there again: what nobody could hear meanwhile says nothing.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.own_heard, self.since) = (now, now);
        for other in self.others.values_mut().filter(|other| other.presence != Presence::Silent) {
            other.at = other.at.max(now);
        }
    }

    pub(super) fn alive(&mut self, node: NodeId, draining: bool, now: Instant) {
        if node == self.own {
            self.own_heard = now;
            self.others.retain(|_, other| now.saturating_duration_since(other.at) < FORGET);
        } else {
            let presence = if draining { Presence::Draining } else { Presence::Ready };
            self.others.insert(node, Heard { at: now, presence });
        }
    }

    pub(super) fn gone(&mut self, node: NodeId, now: Instant) {
        if node != self.own {
            self.others.insert(node, Heard { at: now, presence: Presence::Silent });
        }
    }

    /// How long we haven't heard ourselves.
    pub(super) fn deaf_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.own_heard)
    }

    pub(super) fn presence(&self, node: NodeId) -> Presence {
        // One that was never heard may be about to speak; if it can't be asked, whoever asks hears so at once.
        let (at, presence) =
            self.others.get(&node).map_or((self.since, Presence::Ready), |heard| (heard.at, heard.presence));
        if self.own_heard.saturating_duration_since(at) >= SILENCE { Presence::Silent } else { presence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId(1);
    const OTHER: NodeId = NodeId(2);

    /// Our own beats and the other's, in milliseconds.
    fn after(own: &[u64], other: &[u64]) -> Presence {
        let start = Instant::now();
        let mut nodes = Nodes::new(OWN, start);
        let mut beats: Vec<_> =
            own.iter().map(|at| (at, OWN)).chain(other.iter().map(|at| (at, OTHER))).collect();
        beats.sort();
        for (at, node) in beats {
            nodes.alive(node, false, start + Duration::from_millis(*at));
        }
        nodes.presence(OTHER)
    }

    #[test]
    fn a_node_that_misses_its_beats_is_silent_until_it_is_heard_again() {
        assert_eq!(after(&[500, 1000, 1500], &[400, 900]), Presence::Ready);
        assert_eq!(after(&[500, 1000, 1500, 2000, 2500], &[400, 900]), Presence::Silent);
        assert_eq!(after(&[500, 1000, 1500, 2000, 2500], &[400, 900, 2400]), Presence::Ready);
    }

    #[test]
    fn one_that_was_never_heard_is_asked_until_it_should_have_been() {
        assert_eq!(after(&[500, 1000], &[]), Presence::Ready);
        assert_eq!(after(&[500, 1000, 1500], &[]), Presence::Silent);
    }

    #[test]
    fn who_doesnt_hear_himself_takes_nobody_for_dead() {
        assert_eq!(after(&[500], &[400]), Presence::Ready);
        let start = Instant::now();
        let mut nodes = Nodes::new(OWN, start);
        nodes.alive(OTHER, false, start);
        let later = start + Duration::from_secs(60);
        assert_eq!(
            (nodes.presence(OTHER), nodes.deaf_for(later)),
            (Presence::Ready, Duration::from_secs(60))
        );
        nodes.begin(later);
        nodes.alive(OWN, false, later + BEAT);
        assert_eq!(nodes.presence(OTHER), Presence::Ready, "it gets the time of a newcomer");
    }

    #[test]
    fn a_node_says_that_it_drains_and_that_it_is_gone() {
        let start = Instant::now();
        let mut nodes = Nodes::new(OWN, start);
        nodes.alive(OTHER, true, start);
        assert_eq!(nodes.presence(OTHER), Presence::Draining);
        nodes.gone(OTHER, start);
        assert_eq!(nodes.presence(OTHER), Presence::Silent);
        nodes.begin(start + BEAT);
        assert_eq!(nodes.presence(OTHER), Presence::Silent, "a new connection doesn't raise it");
    }
}
