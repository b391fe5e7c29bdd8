//! Names for exchanges. Pure; must not know what an exchange is.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::exchange::ExchangeId;

/// Names for exchanges: unlike each other in one process, and in all likelihood between processes.
pub(super) struct Ids {
    base: u64,
    next: AtomicU64,
}

impl Ids {
    /// Those that begin with this number, which is best a random one.
    pub(super) fn from(base: u64) -> Self {
        Self { base, next: AtomicU64::new(0) }
    }

    /// Splitmix64 (Steele, Lea, Flood 2014): a bijection, so that a counter never gives the same id twice, and ids
    /// don't tell visitors how many others there are.
    pub(super) fn next(&self) -> ExchangeId {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut mixed = self.base.wrapping_add(count.wrapping_mul(GOLDEN));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ExchangeId(mixed ^ (mixed >> 31))
    }
}
