//! A guest's lines in the host's log: bounded in rate and length, and unable to look like anybody else's.

use std::{
    fmt::Write as _,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

use super::{
    super::{bindings::tunnel::plugin::log, state::State},
    Loan, metrics,
};
use crate::exchange::ExchangeId;

pub(super) use log::Level;

/// Longest line that is kept, in bytes; what is cut off is marked by one more character.
pub(super) const MAX_LINE: usize = 2 << 10;

type Bucket = RateLimiter<NotKeyed, InMemoryState, RuntimeClock, NoOpMiddleware<Instant>>;

/// The runtime's clock, so that tests can pause it.
struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// How many lines one plugin may still write.
pub(super) struct Lines {
    /// `None`: not one.
    lines: Option<Bucket>,
    /// What was dropped is itself said only so often.
    said: Bucket,
    unsaid: AtomicU64,
    series: Arc<metrics::OfPlugin>,
}

/// What became of a line.
#[derive(Debug, PartialEq, Eq)]
struct Taken {
    fits: bool,
    /// Lines that were dropped, to be said now.
    dropped: u64,
}

impl Lines {
    pub(super) fn new(per_second: u32, series: Arc<metrics::OfPlugin>) -> Self {
        let bucket = |rate| RateLimiter::direct_with_clock(Quota::per_second(rate), RuntimeClock);
        Self {
            lines: NonZeroU32::new(per_second).map(bucket),
            said: bucket(NonZeroU32::MIN),
            unsaid: AtomicU64::new(0),
            series,
        }
    }

    fn take(&self) -> Taken {
        let fits = self.lines.as_ref().is_some_and(|lines| lines.check().is_ok());
        if !fits {
            self.unsaid.fetch_add(1, Relaxed);
            self.series.line_dropped();
        }
        let say = self.unsaid.load(Relaxed) > 0 && self.said.check().is_ok();
        Taken { fits, dropped: if say { self.unsaid.swap(0, Relaxed) } else { 0 } }
    }
}

/// One guest's way into the log, beside whose words they are.
pub(super) struct Voice {
    loan: Arc<Loan>,
    speaks: Mutex<(&'static str, Option<ExchangeId>)>,
}

impl Voice {
    pub(super) fn new(loan: Arc<Loan>) -> Self {
        Self { loan, speaks: Mutex::new(("init", None)) }
    }

    /// On whose behalf it speaks from now on.
    pub(super) fn speaks(&self, hook: &'static str, exchange: Option<ExchangeId>) {
        *self.speaks.lock().unwrap_or_else(PoisonError::into_inner) = (hook, exchange);
    }

    /// Writes a line, if it is wanted and there is room for it.
    pub(super) fn write(&self, level: Level, message: &str, fields: &[(String, String)]) {
        if !enabled(level) {
            return;
        }
        let plugin = &*self.loan.plugin;
        let taken = self.loan.lines.take();
        if taken.dropped > 0 {
            let limit = self.loan.limits.log_lines;
            tracing::warn!(
                target: "plugin", plugin,
                "{} lines dropped: it may write {limit} a second (limits.log_lines)", taken.dropped
            );
        }
        if !taken.fits {
            return;
        }
        let line = line(message, fields);
        let (hook, exchange) = *self.speaks.lock().unwrap_or_else(PoisonError::into_inner);
        let exchange = exchange.map(tracing::field::display);
        match level {
            Level::Trace => tracing::trace!(target: "plugin", plugin, hook, exchange, "{line}"),
            Level::Debug => tracing::debug!(target: "plugin", plugin, hook, exchange, "{line}"),
            Level::Info => tracing::info!(target: "plugin", plugin, hook, exchange, "{line}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin, hook, exchange, "{line}"),
            Level::Error => tracing::error!(target: "plugin", plugin, hook, exchange, "{line}"),
        }
    }
}

fn enabled(level: Level) -> bool {
    match level {
        Level::Trace => tracing::enabled!(target: "plugin", tracing::Level::TRACE),
        Level::Debug => tracing::enabled!(target: "plugin", tracing::Level::DEBUG),
        Level::Info => tracing::enabled!(target: "plugin", tracing::Level::INFO),
        Level::Warn => tracing::enabled!(target: "plugin", tracing::Level::WARN),
        Level::Error => tracing::enabled!(target: "plugin", tracing::Level::ERROR),
    }
}

/// The message and its fields on one line. Looks at no more of them than it keeps.
fn line(message: &str, fields: &[(String, String)]) -> String {
    let mut line = String::new();
    let mut whole = escape(&mut line, message);
    for (name, value) in fields {
        whole = whole
            && escape(&mut line, " ")
            && escape(&mut line, name)
            && escape(&mut line, "=")
            && escape(&mut line, value);
        if !whole {
            break;
        }
    }
    if !whole {
        line.push('…');
    }
    line
}

/// Appends `text`, and says whether it fitted. What could begin a new line, drive a terminal, or turn the order of what
/// is read is written as an escape: a guest can't forge lines of others.
fn escape(line: &mut String, text: &str) -> bool {
    for c in text.chars() {
        let before = line.len();
        if c.is_control() || is_layout(c) {
            // A String takes everything.
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
        if line.len() > MAX_LINE {
            line.truncate(before);
            return false;
        }
    }
    true
}

/// Separators of lines and paragraphs, and marks that turn the direction of text (CVE-2021-42574).
fn is_layout(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl log::Host for State {
    fn write(
        &mut self,
        level: Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        self.lent.voice.write(level, &message, &fields);
        Ok(())
    }

    fn enabled(&mut self, level: Level) -> wasmtime::Result<bool> {
        Ok(enabled(level))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn lines(per_second: u32) -> (Lines, metrics::Registry) {
        let registry = metrics::Registry::default();
        (Lines::new(per_second, registry.of("p")), registry)
    }

    #[tokio::test(start_paused = true)]
    async fn lines_over_the_rate_are_dropped_and_said_once_a_second() {
        let (lines, registry) = lines(2);
        let kept = Taken { fits: true, dropped: 0 };
        assert_eq!([lines.take(), lines.take()], [kept, Taken { fits: true, dropped: 0 }]);
        assert_eq!(lines.take(), Taken { fits: false, dropped: 1 }, "the first one is said at once");
        for _ in 0..5 {
            assert_eq!(lines.take(), Taken { fits: false, dropped: 0 }, "said already in this second");
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(lines.take(), Taken { fits: true, dropped: 5 });
        let series = registry.snapshot();
        let [dropped] = &series[..] else { panic!("{series:?}") };
        assert_eq!((dropped.name.as_str(), &dropped.value), (metrics::DROPPED, &metrics::Value::Counter(6)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_plugin_without_lines_writes_none() {
        let (lines, _) = lines(0);
        assert_eq!(lines.take(), Taken { fits: false, dropped: 1 });
    }

    #[test]
    fn a_line_stays_one_line() {
        let forged = "hi\r\n2024 ERROR other: \u{1b}[2J\u{85}\u{2028}\u{202e}\0";
        let field = ("a\nb".to_owned(), "c\nd".to_owned());
        let line = line(forged, &[field]);
        assert_eq!(line, "hi\\r\\n2024 ERROR other: \\u{1b}[2J\\u{85}\\u{2028}\\u{202e}\\u{0} a\\nb=c\\nd");
    }

    #[test]
    fn a_line_is_cut_between_characters_and_what_follows_is_not_looked_at() {
        let long = "é".repeat(5 << 20);
        let cut = line(&long, &[("a".to_owned(), "b".to_owned())]);
        assert_eq!(cut, format!("{}…", "é".repeat(MAX_LINE / 2)));
        assert_eq!(line(&"\n".repeat(MAX_LINE), &[]).len(), MAX_LINE + '…'.len_utf8());
        let exact = "x".repeat(MAX_LINE);
        assert_eq!(line(&exact, &[]), exact);
        assert_eq!(line(&exact, &[(String::new(), String::new())]), format!("{exact}…"));
    }
}
