//! What a client has sent of one exchange, on its way to the visitor. This dialect knows no credit: what comes at once waits here
//! for the visitor's.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::part::Part;
use crate::wire::{self, INITIAL_WINDOW, MAX_PART, message::WsKind};

/// With this much credit a larger part is cut, as the multiplexer does.
const SPLIT_FROM: u64 = 4096;

/// Parts in order, and the credit for them.
pub(super) struct Down {
    credit: u64,
    parts: VecDeque<Part>,
    held: usize,
}

impl Down {
    pub(super) fn new() -> Self {
        Self { credit: u64::from(INITIAL_WINDOW), parts: VecDeque::new(), held: 0 }
    }

    /// Bytes that wait.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether nothing waits, no end either.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn grant(&mut self, bytes: u32) {
        self.credit += u64::from(bytes);
    }

    /// Takes off the first piece of a response's body, which travels with the head.
    pub(super) fn first(&mut self, body: &mut Bytes) -> Bytes {
        let first = body.split_to(body.len().min(MAX_PART));
        if !first.is_empty() {
            self.credit -= u64::from(wire::cost(first.len()));
        }
        first
    }

    /// The rest of a response's body.
    pub(super) fn body(&mut self, mut rest: Bytes) {
        while !rest.is_empty() {
            let data = rest.split_to(rest.len().min(MAX_PART));
            self.push(Part::Body { end: rest.is_empty(), data, trailers: None });
        }
    }

    /// A WebSocket message.
    pub(super) fn message(&mut self, kind: WsKind, mut text: Bytes) {
        loop {
            let data = text.split_to(text.len().min(MAX_PART));
            let end = text.is_empty();
            self.push(Part::Ws { kind, data, end });
            if end {
                break;
            }
        }
    }

    /// The answer to a ping. A visitor who doesn't read what waits already gets one for all.
    pub(super) fn pong(&mut self, data: Bytes) {
        if let Some(Part::Ws { kind: WsKind::Pong, data: last, .. }) = self.parts.back_mut() {
            self.held = self.held - last.len() + data.len();
            *last = data;
        } else {
            self.push(Part::Ws { kind: WsKind::Pong, data, end: true });
        }
    }

    /// The end of a WebSocket, after what waits.
    pub(super) fn teardown(&mut self, code: u16, reason: &str) {
        self.push(Part::Teardown { code, reason: reason.to_owned() });
    }

    /// What may go now.
    pub(super) fn next(&mut self) -> Option<Part> {
        let front = self.parts.front_mut()?;
        let cost = u64::from(front.cost());
        let part = if cost <= self.credit {
            self.parts.pop_front()?
        } else if self.credit >= SPLIT_FROM {
            front.split(self.credit)
        } else {
            return None;
        };
        self.credit -= u64::from(part.cost());
        self.held -= length(&part);
        Some(part)
    }

    fn push(&mut self, part: Part) {
        self.held += length(&part);
        self.parts.push_back(part);
    }
}

fn length(part: &Part) -> usize {
    match part {
        Part::Body { data, .. } | Part::Ws { data, .. } => data.len(),
        Part::Teardown { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(down: &mut Down) -> Vec<usize> {
        std::iter::from_fn(|| down.next()).map(|part| length(&part)).collect()
    }

    #[test]
    fn what_there_is_credit_for_goes_and_the_rest_waits() {
        let mut down = Down::new();
        let mut body = Bytes::from(vec![7; 3 * MAX_PART]);
        assert_eq!(down.first(&mut body).len(), MAX_PART);
        down.body(body);
        assert_eq!((sizes(&mut down), down.held()), (vec![], 2 * MAX_PART));
        down.grant(4095);
        assert_eq!(sizes(&mut down), [0; 0]);
        down.grant(1);
        assert_eq!(sizes(&mut down), [4096]);
        down.grant(u32::MAX);
        assert_eq!((sizes(&mut down), down.held()), (vec![MAX_PART - 4096, MAX_PART], 0));
    }

    #[test]
    fn pongs_that_wait_become_one_and_a_teardown_comes_last() {
        let mut down = Down::new();
        down.message(WsKind::Text, Bytes::from(vec![b'a'; MAX_PART + 1]));
        down.pong(Bytes::from_static(b"1"));
        down.pong(Bytes::from_static(b"2"));
        down.teardown(1005, "");
        assert_eq!(sizes(&mut down), [MAX_PART]);
        down.grant(256);
        assert_eq!(sizes(&mut down), [1]);
        down.grant(256);
        let last: Vec<Part> = std::iter::from_fn(|| down.next()).collect();
        assert!(matches!(&last[0], Part::Ws { kind: WsKind::Pong, data, .. } if data == "2"), "{last:?}");
        assert!(matches!(&last[1], Part::Teardown { code: 1005, .. }), "{last:?}");
    }
}
