//! The tokens of one tunnel that a node has in hand, taken in batches from the bucket that all nodes share, so that nobody
//! waits for it.
//!
//! A node may spend a batch ahead of the bucket's answer, and asks for what it owes with the next batch. So of any number of
//! tokens that the bucket gives, at most a batch for each node more is spent, and at most as many aren't.
//!
//! Pure: the time and the bucket's answers go in, what to do comes out. Must not know where the bucket is.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::proxy::Rate;

/// Of a bucket, one in so many tokens is a batch: so much less exact is what several nodes let through together.
const SHARE: u32 = 20;

/// Largest batch. Asking again for each two hundred costs next to nothing.
const LARGEST: u32 = 200;

/// Tokens that were in hand for so long go back, and others are asked for: a bucket that filled up meanwhile has them anyway,
/// so that they aren't saved up for a larger burst, and one that didn't gives them to whoever needs them.
const KEPT: Duration = Duration::from_secs(1);

/// A bucket that had no more isn't asked again sooner than this, or than half a batch takes to come: under a flood each
/// token would be asked for by itself.
const PAUSE: Duration = Duration::from_millis(50);

/// What holds for a bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Tokens the bucket holds.
    pub(super) burst: u32,
    /// The time in which a token comes.
    pub(super) each: Duration,
    /// Tokens that a node takes at once. One is none in advance: then each is asked for when it is needed.
    pub(super) batch: u32,
}

impl Terms {
    pub(super) fn of(rate: Rate) -> Self {
        let burst = rate.burst.get();
        Self { burst, each: each(rate), batch: (burst / SHARE).clamp(1, LARGEST) }
    }

    /// The time in which the bucket fills.
    fn full(&self) -> Duration {
        self.each.saturating_mul(self.burst)
    }
}

/// The time in which a token comes. More tokens than the period has nanoseconds come one each nanosecond, which no visitor
/// notices.
pub(super) fn each(rate: Rate) -> Duration {
    (rate.per / NonZeroU32::get(rate.tokens)).max(Duration::from_nanos(1))
}

/// The tokens in hand.
#[derive(Debug)]
pub(super) struct Lease {
    /// Below zero, what is owed.
    left: i64,
    /// When the bucket answered last.
    answered: Instant,
    /// The bucket has no more until then.
    empty_until: Instant,
    /// Cancelled when what was asked has an answer, or won't have one.
    question: Option<CancellationToken>,
}

/// What comes of a request for a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Taken,
    /// There will be one after so long.
    Refused(Duration),
    /// Only the bucket's answer says.
    Open,
}

/// What to ask the bucket for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) take: u32,
    pub(super) give_back: u32,
}

/// What the bucket gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) taken: u32,
    /// How long it takes until there is another.
    pub(super) next: Duration,
}

impl Lease {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: 0, answered: now, empty_until: now, question: None }
    }

    /// Takes a token, and says what has to be asked then; [`Self::question`] is to be cancelled when that is over.
    pub(super) fn take(&mut self, now: Instant, terms: &Terms) -> (Step, Option<Ask>) {
        self.question.take_if(|question| question.is_cancelled());
        let asks = self.question.is_none() && now >= self.empty_until;
        let mut give_back = 0;
        if asks && self.left > 0 && now.duration_since(self.answered) >= KEPT {
            give_back = std::mem::take(&mut self.left);
        }
        let batch = i64::from(terms.batch);
        let ahead = asks || self.question.is_some();
        let step = if self.left > 0 || (ahead && self.left > -batch) {
            self.left -= 1;
            Step::Taken
        } else if ahead {
            Step::Open
        } else {
            Step::Refused(self.empty_until - now)
        };
        let ask = (asks && self.left <= batch / 2)
            .then(|| Ask { take: count(batch - self.left), give_back: count(give_back) });
        if ask.is_some() {
            self.question = Some(CancellationToken::new());
        }
        (step, ask)
    }

    /// The answer to what was asked.
    pub(super) fn answer(&mut self, now: Instant, asked: Ask, grant: Grant, terms: &Terms) {
        self.left += i64::from(grant.taken);
        self.answered = now;
        if grant.taken < asked.take {
            let owed = count((-self.left).max(0));
            let wait = grant.next.saturating_add(terms.each.saturating_mul(owed));
            self.empty_until = now + wait.max(PAUSE.min(terms.each.saturating_mul(terms.batch / 2)));
        }
    }

    /// How long the bucket is known to have no more.
    pub(super) fn empty_for(&self, now: Instant) -> Option<Duration> {
        (now < self.empty_until).then(|| self.empty_until - now)
    }

    /// What was asked last, if that isn't long over.
    pub(super) fn question(&self) -> Option<&CancellationToken> {
        self.question.as_ref()
    }

    /// Whether a new one would do as well: whatever is left or owed, the bucket has filled since.
    pub(super) fn is_idle(&self, now: Instant, terms: &Terms) -> bool {
        self.question().is_none_or(CancellationToken::is_cancelled)
            && now >= self.empty_until
            && now.duration_since(self.answered) >= terms.full().max(KEPT)
    }
}

/// Tokens in hand, owed or both: at most two batches.
fn count(tokens: i64) -> u32 {
    u32::try_from(tokens).expect("not below zero, and no more than two batches")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A batch is 5 of them.
    const TERMS: Terms = Terms { burst: 100, each: Duration::from_millis(10), batch: 5 };

    const NODES: usize = 3;

    /// The bucket that all share, by the same rule as the one in Redis.
    struct Bucket {
        full: Instant,
        given: u64,
        returned: u64,
    }

    impl Bucket {
        fn ask(&mut self, now: Instant, ask: Ask) -> Grant {
            let full = self.full - TERMS.each * ask.give_back.min(self.lacks(now));
            let full = full.max(now);
            let there = (now + TERMS.full() - full).as_nanos() / TERMS.each.as_nanos();
            let taken = ask.take.min(u32::try_from(there).unwrap());
            self.full = full + TERMS.each * taken;
            self.given += u64::from(taken);
            self.returned += u64::from(ask.give_back);
            Grant { taken, next: (self.full + TERMS.each).saturating_duration_since(now + TERMS.full()) }
        }

        fn lacks(&self, now: Instant) -> u32 {
            let lacks = self.full.saturating_duration_since(now).as_nanos().div_ceil(TERMS.each.as_nanos());
            u32::try_from(lacks).unwrap()
        }
    }

    struct Node {
        lease: Lease,
        asked: Option<Ask>,
        spent: u64,
    }

    impl Node {
        fn take(&mut self, now: Instant) -> Step {
            let (step, ask) = self.lease.take(now, &TERMS);
            assert!(ask.is_none() || self.asked.is_none(), "one question at a time");
            self.asked = self.asked.take().or(ask);
            assert!(step != Step::Open || self.asked.is_some(), "only an answer ends the wait");
            self.spent += u64::from(step == Step::Taken);
            step
        }

        fn answer(&mut self, now: Instant, bucket: &mut Bucket) {
            if let Some(ask) = self.asked.take() {
                self.lease.answer(now, ask, bucket.ask(now, ask), &TERMS);
                self.lease.question().unwrap().cancel();
            }
        }

        /// The bucket has done what was asked, and nobody heard of it.
        fn lose(&mut self, now: Instant, bucket: &mut Bucket) {
            if let Some(ask) = self.asked.take() {
                bucket.ask(now, ask);
                self.lease.question().unwrap().cancel();
            }
        }
    }

    fn begin() -> (Instant, Bucket, Node) {
        let now = Instant::now();
        let bucket = Bucket { full: now, given: 0, returned: 0 };
        (now, bucket, Node { lease: Lease::new(now), asked: None, spent: 0 })
    }

    #[test]
    fn a_batch_is_spent_ahead_of_the_answer_and_not_more() {
        let (now, mut bucket, mut node) = begin();
        for _ in 0..5 {
            assert_eq!(node.take(now), Step::Taken);
        }
        assert_eq!(node.take(now), Step::Open);
        assert_eq!(node.asked, Some(Ask { take: 6, give_back: 0 }), "asked by the first");
        node.answer(now, &mut bucket);
        // One is left: it is taken, and what is owed and a batch are asked for.
        assert_eq!(node.take(now), Step::Taken);
        assert_eq!(node.asked, Some(Ask { take: 5, give_back: 0 }));
    }

    #[test]
    fn the_next_batch_is_asked_for_at_half() {
        let (now, mut bucket, mut node) = begin();
        node.take(now);
        node.answer(now, &mut bucket);
        for asked in [None, None, Some(Ask { take: 3, give_back: 0 })] {
            assert_eq!(node.take(now), Step::Taken);
            assert_eq!(node.asked, asked);
        }
    }

    #[test]
    fn what_was_in_hand_for_long_goes_back() {
        let (now, mut bucket, mut node) = begin();
        node.take(now);
        node.answer(now, &mut bucket);
        let now = now + KEPT;
        assert_eq!(node.take(now), Step::Taken);
        assert_eq!(node.asked, Some(Ask { take: 6, give_back: 5 }));
        node.answer(now, &mut bucket);
        assert_eq!(bucket.lacks(now), 6, "a full one that five were given back to is full");
    }

    #[test]
    fn an_empty_bucket_is_told_of_until_it_has_a_token_and_what_is_owed() {
        let (now, mut bucket, mut node) = begin();
        bucket.ask(now, Ask { take: 97, give_back: 0 });
        for _ in 0..5 {
            assert_eq!(node.take(now), Step::Taken);
        }
        node.answer(now, &mut bucket);
        // Three of the six were there, so that two are owed: those and another take 30 ms.
        assert_eq!(node.take(now), Step::Refused(Duration::from_millis(30)));
        let now = now + Duration::from_millis(30);
        assert_eq!(node.take(now), Step::Taken, "ahead again");
        node.answer(now, &mut bucket);
        assert_eq!(node.take(now), Step::Refused(PAUSE.min(TERMS.each * 2)), "and it was the only one");
    }

    #[test]
    fn a_lease_is_idle_when_the_bucket_has_filled_since() {
        let (now, mut bucket, mut node) = begin();
        node.take(now);
        assert!(!node.lease.is_idle(now + TERMS.full() * 2, &TERMS), "its answer is under way");
        node.answer(now, &mut bucket);
        assert!(!node.lease.is_idle(now + TERMS.full() - Duration::from_millis(1), &TERMS));
        assert!(node.lease.is_idle(now + TERMS.full(), &TERMS));
    }

    #[derive(Debug, Clone)]
    enum Deed {
        Take(usize, usize),
        Answer(usize),
        Lose(usize),
        Pass(u64),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            8 => (0..NODES, 1..12_usize).prop_map(|(node, times)| Deed::Take(node, times)),
            8 => (0..NODES).prop_map(Deed::Answer),
            1 => (0..NODES).prop_map(Deed::Lose),
            2 => (0..100_u64).prop_map(Deed::Pass),
            1 => (900..1500_u64).prop_map(Deed::Pass),
        ]
    }

    proptest! {
        /// Whatever comes in between, nodes together spend what the bucket gives, and at most a batch each more; and without
        /// losses at most a batch each less.
        #[test]
        fn nodes_together_keep_the_rate(deeds in prop::collection::vec(deed(), 0..300)) {
            let (start, mut bucket, _) = begin();
            let mut nodes: Vec<Node> = (0..NODES).map(|_| begin().2).collect();
            let (mut now, mut lost) = (start, false);
            for deed in deeds {
                match deed {
                    Deed::Take(node, times) => {
                        for _ in 0..times {
                            nodes[node].take(now);
                        }
                    }
                    Deed::Answer(node) => nodes[node].answer(now, &mut bucket),
                    Deed::Lose(node) => {
                        lost |= nodes[node].asked.is_some();
                        nodes[node].lose(now, &mut bucket);
                    }
                    Deed::Pass(time) => now += Duration::from_millis(time),
                }
                let spent: u64 = nodes.iter().map(|node| node.spent).sum();
                let more = u64::from(TERMS.batch) * NODES as u64;
                let come = u64::try_from((now - start).as_nanos() / TERMS.each.as_nanos()).unwrap();
                prop_assert!(spent <= u64::from(TERMS.burst) + come + more);
                // What is given back and can't be asked for yet is in neither.
                let asked_back: u64 = nodes.iter().filter_map(|node| Some(u64::from(node.asked?.give_back))).sum();
                let had = bucket.given - bucket.returned;
                prop_assert!(spent <= had + more);
                prop_assert!(lost || had <= spent + more + asked_back);
            }
        }
    }
}
