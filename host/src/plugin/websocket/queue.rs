//! What waits to be taken towards one side.

use std::collections::VecDeque;

use crate::exchange::websocket::Event;

/// A queue with this much in it takes nothing more that a plugin would add: as much as a socket's outbox holds.
const FULL_BYTES: usize = 64 << 10;
/// Small messages cost more than their bytes.
const FULL_EVENTS: usize = 64;

/// Events in order; nothing follows a close.
#[derive(Default)]
pub(super) struct Queue {
    events: VecDeque<Event>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    pub(super) fn push(&mut self, event: Event) {
        if self.closed {
            return;
        }
        self.closed = matches!(event, Event::Close(_));
        self.bytes += size(&event);
        self.events.push_back(event);
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.bytes -= size(&event);
        Some(event)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether its last event was a close, taken or not.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES || self.events.len() >= FULL_EVENTS
    }

    /// Whoever would take it is gone.
    pub(super) fn abandon(&mut self) {
        *self = Self { closed: true, ..Self::default() };
    }
}

fn size(event: &Event) -> usize {
    match event {
        Event::Text(bytes) | Event::Binary(bytes) | Event::Ping(bytes) | Event::Pong(bytes) => bytes.len(),
        Event::Close(close) => close.reason.len(),
    }
}
