//! One exchange as the multiplexer sees it: credit in both directions, what waits, and what is done.

use std::collections::VecDeque;

use bytes::Bytes;

use super::part::Part;
use crate::wire::{self, INITIAL_WINDOW};

/// With this much credit a larger part is cut and its beginning sent. The receiver grants credit once half its window
/// is used, so that at least this much is always under way to a sender that waits.
const SPLIT_FROM: u32 = 4096;

/// An open exchange. `T` is what the multiplexer's owner keeps with it.
pub(super) struct Stream<T> {
    pub(super) user: T,
    /// Credit that the peer gave us.
    pub(super) send_credit: u64,
    /// Credit that we gave the peer and it hasn't used.
    pub(super) receive_credit: u64,
    pub(super) queue: VecDeque<Part>,
    /// In `ready`.
    pub(super) scheduled: bool,
    /// The head of the response has passed.
    pub(super) answered: bool,
    /// Our last part is out.
    pub(super) ours_done: bool,
    /// Their last part is in.
    pub(super) theirs_done: bool,
}

impl<T> Stream<T> {
    pub(super) fn new(user: T) -> Self {
        Self {
            user,
            send_credit: u64::from(INITIAL_WINDOW),
            receive_credit: u64::from(INITIAL_WINDOW),
            queue: VecDeque::new(),
            scheduled: false,
            answered: false,
            ours_done: false,
            theirs_done: false,
        }
    }

    /// Both directions have ended.
    pub(super) fn is_done(&self) -> bool {
        self.ours_done && self.theirs_done
    }

    pub(super) fn may_send(&self) -> bool {
        self.queue.front().is_some_and(|part| u64::from(part.cost().min(SPLIT_FROM)) <= self.send_credit)
    }

    /// The first piece travels with the head; the initial window always has room for it.
    pub(super) fn spend_first(&mut self, first: &Bytes) {
        if !first.is_empty() {
            self.send_credit -= u64::from(wire::cost(first.len()));
        }
    }

    pub(super) fn take_first(&mut self, first: &Bytes) {
        if !first.is_empty() {
            self.receive_credit -= u64::from(wire::cost(first.len()));
        }
    }
}
