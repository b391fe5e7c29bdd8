//! At which nodes a client's sessions are, and whether one of them should look for another. Pure: chance is passed in.
//!
//! Where several proxies answer at one URL, two sessions at one node end together with it, and two at different ones don't. The
//! client can't choose a node; it can only dial again, and keep what it gets if that is better. Must not know how to dial.

use std::time::Duration;

use crate::wire::NodeId;

/// The pause before the first dial.
const FIRST: Duration = Duration::from_millis(100);

/// So many dials follow each other quickly. A balancer that takes turns needs one of them; with one that throws dice between
/// two nodes, all of them miss in one of 16 cases.
const QUICK: u32 = 4;

/// The pause after these: there may be one node only, or the other one is about to start.
const LATER: Duration = Duration::from_secs(60);

/// The longest pause: each dial costs the proxy a registration, for nothing where there is one node only.
const RARELY: Duration = Duration::from_secs(8 * 60);

/// Where the sessions of a client's lanes are.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// Lanes with the nodes of their sessions, in the order in which they came there. Nodes that say no name are left out.
    places: Vec<(usize, NodeId)>,
    /// Dials since a session came or moved.
    dials: u32,
}

impl Spread {
    /// A lane has a session at this node. Says whether it is one too many there.
    pub(super) fn came(&mut self, lane: usize, node: Option<NodeId>) -> bool {
        self.left(lane);
        let Some(node) = node else { return false };
        let doubled = self.has(node);
        self.places.push((lane, node));
        if doubled {
            self.dials = 0;
        }
        doubled
    }

    /// A lane's session has ended, or soon will.
    pub(super) fn left(&mut self, lane: usize) {
        self.places.retain(|(other, _)| *other != lane);
    }

    /// Whether another lane's session was at this lane's node before. The first one there stays.
    pub(super) fn doubled(&self, lane: usize) -> bool {
        let Some(place) = self.places.iter().position(|(other, _)| *other == lane) else { return false };
        let (_, node) = self.places[place];
        self.places[..place].iter().any(|(_, other)| *other == node)
    }

    /// The pause before the next dial for a better place. `chance` is between 0 and 1, so that many clients don't come at
    /// once.
    pub(super) fn pause(&self, chance: f64) -> Duration {
        let pause = match self.dials.checked_sub(QUICK) {
            None => FIRST * 2_u32.pow(self.dials),
            Some(late) => LATER.saturating_mul(2_u32.saturating_pow(late)).min(RARELY),
        };
        pause.mul_f64(0.75 + chance / 2.0)
    }

    /// The pause is over, and another session is dialled.
    pub(super) fn dialled(&mut self) {
        self.dials = self.dials.saturating_add(1);
    }

    /// Moves a lane to this node, unless a session is there already or nothing is known of it.
    pub(super) fn moves(&mut self, lane: usize, node: Option<NodeId>) -> bool {
        let Some(node) = node.filter(|node| !self.has(*node)) else { return false };
        self.left(lane);
        self.places.push((lane, node));
        // There are others: the next one may find one as quickly.
        self.dials = 0;
        true
    }

    fn has(&self, node: NodeId) -> bool {
        self.places.iter().any(|(_, other)| *other == node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Option<NodeId> = Some(NodeId(1));
    const B: Option<NodeId> = Some(NodeId(2));

    #[test]
    fn the_first_at_a_node_stays_and_those_after_it_look_for_another() {
        let mut spread = Spread::default();
        assert!(!spread.came(0, A));
        assert!(spread.came(1, A));
        assert!(spread.came(2, A));
        assert_eq!([0, 1, 2].map(|lane| spread.doubled(lane)), [false, true, true]);
        assert!(!spread.moves(2, A), "no better");
        assert!(spread.moves(2, B));
        assert_eq!([0, 1, 2].map(|lane| spread.doubled(lane)), [false, true, false]);
        assert!(!spread.moves(1, B), "taken by now");
        spread.left(0);
        assert!(!spread.doubled(1), "it is alone there now");
        assert!(spread.came(0, B), "whoever comes back is last");
        assert_eq!([0, 1, 2].map(|lane| spread.doubled(lane)), [true, false, false]);
    }

    #[test]
    fn a_single_lane_and_nodes_without_a_name_look_for_nothing() {
        let mut spread = Spread::default();
        assert!(!spread.came(0, A));
        assert!(!spread.came(0, A), "its own place is no other's");
        let mut spread = Spread::default();
        assert!(!spread.came(0, None) && !spread.came(1, None));
        assert!(!spread.doubled(0) && !spread.doubled(1) && !spread.doubled(2));
        spread.came(0, A);
        spread.came(1, A);
        assert!(!spread.moves(1, None), "who knows where that is");
        assert!(spread.doubled(1));
        spread.came(1, None);
        assert!(!spread.doubled(1));
    }

    #[test]
    fn a_few_quick_dials_then_one_a_minute_then_fewer() {
        let mut spread = Spread::default();
        spread.came(0, A);
        spread.came(1, A);
        let pauses = |count: usize, spread: &mut Spread| -> Vec<u128> {
            let pauses = (0..count).map(|_| {
                let pause = spread.pause(0.5);
                spread.dialled();
                pause.as_millis()
            });
            pauses.collect()
        };
        let minute = 60_000;
        let all = [100, 200, 400, 800, minute, 2 * minute, 4 * minute, 8 * minute, 8 * minute];
        assert_eq!(pauses(9, &mut spread), all);
        assert_eq!((spread.pause(0.0).as_secs(), spread.pause(1.0).as_secs()), (360, 600));
        spread.dials = u32::MAX;
        spread.dialled();
        assert_eq!(pauses(1, &mut spread), [8 * minute]);
        // A node has stopped: its lane comes where another is.
        assert!(spread.came(2, A));
        assert_eq!(pauses(5, &mut spread), all[..5]);
        assert!(spread.moves(1, B));
        assert_eq!(pauses(1, &mut spread), [100], "there are others");
        assert!(!spread.came(3, Some(NodeId(3))));
        assert_eq!(pauses(1, &mut spread), [200], "where nobody was, nothing is wrong");
    }
}
