//! A long stream of bytes in which no piece can be lost, repeated or moved unseen.
//!
//! The reader compares every byte, which says more than a checksum and costs less in a debug build.

use std::sync::OnceLock;

/// A prime, so that no power of two of bytes can slip and still match.
const PERIOD: usize = 1_048_573;

/// One end of the stream and how far it is.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pattern {
    at: usize,
}

impl Pattern {
    /// The next bytes, at least one and at most `limit`.
    pub(crate) fn next(&mut self, limit: u64) -> &'static [u8] {
        let rest = &block()[self.at..];
        let length = rest.len().min(usize::try_from(limit).unwrap_or(usize::MAX)).min(256 * 1024);
        self.at = (self.at + length) % PERIOD;
        &rest[..length]
    }

    /// Fails unless these are the next bytes.
    #[track_caller]
    pub(crate) fn check(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let expected = self.next(bytes.len() as u64);
            let (now, later) = bytes.split_at(expected.len());
            assert!(now == expected, "a byte is not the one that was sent");
            bytes = later;
        }
    }
}

fn block() -> &'static [u8] {
    static BLOCK: OnceLock<Vec<u8>> = OnceLock::new();
    BLOCK.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let random = || {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        std::iter::repeat_with(random).take(PERIOD).collect()
    })
}
