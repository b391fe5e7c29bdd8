//! What a visitor's frames cost, and what they earn: whether a connection does more than it is good for. Pure; the time is
//! passed in.
//!
//! The library bounds what is held for a connection, but not how often it may be made to work in vain. A stream that is reset
//! as soon as it is opened passes every bound on streams (CVE-2023-44487), and costs an exchange at the client and the origin; pings,
//! settings, priorities, empty frames and windows that open by nothing (CVE-2019-9512, -9515, -9513, -9518, -9511) cost us alone.

use std::time::Instant;

use super::frames::{Frame, Kind};

/// Resets at once: more streams than may be open, each given up.
const MOST_RESETS: f64 = 200.0;

/// Resets that are forgiven each second. Each answer that came to its end pays for one as well, so that a client whose
/// calls have deadlines, or a browser that seeks in a film, has as many as it needs.
const RESETS_A_SECOND: f64 = 20.0;

/// Frames at once that carry nothing.
const MOST_IDLE_FRAMES: f64 = 2000.0;

/// Frames that are forgiven each second. What is read and what is written earns more: who receives much has to open windows as
/// often, and some ping to measure the way.
const IDLE_FRAMES_A_SECOND: f64 = 200.0;

/// One connection's account.
pub(super) struct Ledger {
    resets: f64,
    idle_frames: f64,
    since: Instant,
}

/// What a connection did too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flood {
    /// It gave up streams.
    #[error("too many streams were reset")]
    Resets,
    /// It sent frames that carry nothing.
    #[error("too many frames carried nothing")]
    IdleFrames,
}

impl Ledger {
    pub(super) fn new(now: Instant) -> Self {
        Self { resets: MOST_RESETS, idle_frames: MOST_IDLE_FRAMES, since: now }
    }

    /// The visitor sent a frame.
    pub(super) fn read(&mut self, frame: Frame) {
        match frame.kind {
            Kind::Reset => self.resets -= 1.0,
            Kind::Data if frame.length > 0 => self.idle_frames += 1.0,
            Kind::Data if frame.ends_stream => {}
            Kind::Headers => {}
            Kind::Data | Kind::Other => self.idle_frames -= 1.0,
        }
    }

    /// We sent a frame.
    pub(super) fn wrote(&mut self, frame: Frame) {
        if frame.ends_stream {
            self.resets += 1.0;
        }
        if matches!(frame.kind, Kind::Data | Kind::Headers) {
            // A window for the stream and one for the connection.
            self.idle_frames += 2.0;
        }
    }

    /// Closes the books up to now.
    ///
    /// # Errors
    /// There is a debt.
    pub(super) fn settle(&mut self, now: Instant) -> Result<(), Flood> {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        self.since = now;
        self.resets = (self.resets + seconds * RESETS_A_SECOND).min(MOST_RESETS);
        self.idle_frames = (self.idle_frames + seconds * IDLE_FRAMES_A_SECOND).min(MOST_IDLE_FRAMES);
        if self.resets < 0.0 {
            Err(Flood::Resets)
        } else if self.idle_frames < 0.0 {
            Err(Flood::IdleFrames)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: Kind, length: usize, ends_stream: bool) -> Frame {
        Frame { kind, ends_stream, length, stream: 1 }
    }

    #[test]
    fn resets_in_a_burst_are_a_flood_and_one_now_and_then_is_not() {
        let start = Instant::now();
        let mut ledger = Ledger::new(start);
        for _ in 0..200 {
            ledger.read(frame(Kind::Reset, 4, false));
        }
        assert_eq!(ledger.settle(start), Ok(()));
        ledger.read(frame(Kind::Reset, 4, false));
        assert_eq!(ledger.settle(start), Err(Flood::Resets));

        let mut ledger = Ledger::new(start);
        for n in 1..10_000 {
            ledger.read(frame(Kind::Reset, 4, false));
            assert_eq!(ledger.settle(start + n * Duration::from_millis(50)), Ok(()));
        }
    }

    #[test]
    fn whoever_lets_answers_come_to_their_end_may_give_up_as_many() {
        let start = Instant::now();
        let mut ledger = Ledger::new(start);
        for _ in 0..10_000 {
            ledger.wrote(frame(Kind::Data, 0, true));
            ledger.read(frame(Kind::Reset, 4, false));
            assert_eq!(ledger.settle(start), Ok(()));
        }
    }

    #[test]
    fn frames_that_carry_nothing_are_a_flood_unless_they_go_with_some_that_do() {
        let start = Instant::now();
        for idle in [frame(Kind::Other, 8, false), frame(Kind::Data, 0, false)] {
            let mut ledger = Ledger::new(start);
            for _ in 0..=2000 {
                ledger.read(idle);
            }
            assert_eq!(ledger.settle(start), Err(Flood::IdleFrames));
        }
        let mut ledger = Ledger::new(start);
        for _ in 0..100_000 {
            ledger.wrote(frame(Kind::Data, 16_384, false));
            ledger.read(frame(Kind::Other, 4, false));
            ledger.read(frame(Kind::Other, 4, false));
            ledger.read(frame(Kind::Data, 20, false));
            assert_eq!(ledger.settle(start), Ok(()));
        }
    }

    #[test]
    fn what_was_saved_up_is_bounded() {
        let start = Instant::now();
        let mut ledger = Ledger::new(start);
        for _ in 0..100_000 {
            ledger.wrote(frame(Kind::Data, 1, true));
        }
        assert_eq!(ledger.settle(start + Duration::from_secs(3600)), Ok(()));
        for _ in 0..=200 {
            ledger.read(frame(Kind::Reset, 4, false));
        }
        assert_eq!(ledger.settle(start + Duration::from_secs(3600)), Err(Flood::Resets));
    }
}
