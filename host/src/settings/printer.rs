//! Lines on their way to stdout, written by a thread of its own.
//!
//! A reader that stalls holds up that thread and nobody else; one that went away is ignored, since a tunnel goes on
//! working without its log. Must not know what the lines say.

use std::{
    collections::VecDeque,
    io::Write,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Lines that may wait for a stalled reader before lines of exchanges are left out: some seconds of a busy tunnel,
/// under 1 MiB.
const MOST_WAITING: usize = 4096;

/// Room kept for lines that matter more than an exchange, such as the public URL.
const RESERVED: usize = 1024;

/// How long a line of an exchange may wait for others that are written with it. Nobody reads faster than that.
const TOGETHER: Duration = Duration::from_millis(20);

/// How long the exit waits for a stalled reader.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Whether a line may be left out when the reader stalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// One of many.
    Exchange,
    /// Programs wait for it.
    Milestone,
}

/// Hands lines to the writing thread. Clones write to the same place.
#[derive(Clone)]
pub(super) struct Printer(Arc<Queue>);

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    left_out: u64,
    /// The thread waits to be told of the next line.
    idle: bool,
    /// A line came that isn't to wait for others.
    urgent: bool,
    ending: bool,
    ended: bool,
}

impl Printer {
    /// Starts the thread. `left_out` words the line that stands for lines that were left out.
    pub(super) fn start(out: impl Write + Send + 'static, left_out: fn(u64) -> String) -> Self {
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new() });
        let printer = Self(queue.clone());
        // Without a thread there are no lines; the tunnel works all the same.
        let thread = thread::Builder::new().name("lines".to_owned());
        if thread.spawn(move || queue.write_all(out, left_out)).is_err() {
            printer.0.lock().ended = true;
        }
        printer
    }

    /// Gives one line, or a few, without the last line break. Never waits for the reader.
    pub(super) fn print(&self, line: String, weight: Weight) {
        let mut state = self.0.lock();
        state.urgent |= weight == Weight::Milestone;
        // A thread that is awake comes by itself.
        let wakes = mem::take(&mut state.idle) || state.urgent || state.lines.len() == MOST_WAITING / 2;
        let room = if weight == Weight::Milestone { MOST_WAITING + RESERVED } else { MOST_WAITING };
        if state.lines.len() < room {
            state.lines.push_back(line);
        } else {
            state.left_out += 1;
        }
        drop(state);
        if wakes {
            self.0.changed.notify_all();
        }
    }

    /// Waits until all is written, or a stalled reader has had its time. What comes later is dropped.
    pub(super) fn finish(&self) {
        let mut state = self.0.lock();
        state.ending = true;
        self.0.changed.notify_all();
        let waited = self.0.changed.wait_timeout_while(state, LAST_LINES, |state| !state.ended);
        drop(waited);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: takes what is there, writes and flushes it, until the end.
    fn write_all(&self, mut out: impl Write, left_out: fn(u64) -> String) {
        while let Some(text) = self.take(left_out) {
            // Nobody may be reading any more (EPIPE); nothing can be done about it here.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            let state = self.lock();
            let few =
                |state: &mut State| !state.urgent && !state.ending && state.lines.len() < MOST_WAITING / 2;
            drop(self.changed.wait_timeout_while(state, TOGETHER, few));
        }
    }

    /// Waits for lines and takes them all; nothing at the end.
    fn take(&self, left_out: fn(u64) -> String) -> Option<String> {
        let nothing = |state: &mut State| {
            state.idle = state.lines.is_empty() && state.left_out == 0 && !state.ending;
            state.idle
        };
        let waiting = self.changed.wait_while(self.lock(), nothing);
        let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
        if state.lines.is_empty() && state.left_out == 0 {
            state.ended = true;
            self.changed.notify_all();
            return None;
        }
        state.urgent = false;
        let mut text = String::new();
        for line in state.lines.drain(..) {
            text.push_str(&line);
            text.push('\n');
        }
        match mem::take(&mut state.left_out) {
            0 => {}
            n => text = text + &left_out(n) + "\n",
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::mpsc};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Takes nothing until the other end of the channel is dropped.
    struct Stalled(mpsc::Receiver<()>, Sink);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    fn left_out(n: u64) -> String {
        format!("{n} left out")
    }

    #[test]
    fn the_last_lines_are_never_lost() {
        let sink = Sink::default();
        let printer = Printer::start(sink.clone(), left_out);
        let expected: String = (0..1000).map(|n| format!("{n}\n")).collect();
        for n in 0..1000 {
            printer.print(n.to_string(), Weight::Exchange);
        }
        printer.finish();
        assert_eq!(String::from_utf8_lossy(&sink.0.lock().unwrap()), expected);
    }

    #[test]
    fn a_stalled_reader_costs_lines_of_exchanges_only() {
        let (reader, stalled) = mpsc::sync_channel(1);
        let sink = Sink::default();
        let printer = Printer::start(Stalled(stalled, sink.clone()), left_out);
        for _ in 0..3 * MOST_WAITING {
            printer.print("exchange".to_owned(), Weight::Exchange);
        }
        printer.print("public url".to_owned(), Weight::Milestone);
        assert!(printer.0.lock().lines.len() <= MOST_WAITING + 1);
        drop(reader);
        printer.finish();
        let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(written.contains("public url\n"));
        // The writer may come by more than once before it stalls: each time it says what was left out till then.
        let left_out = written.lines().filter(|line| line.ends_with("left out"));
        let left_out: usize =
            left_out.map(|line| line.split(' ').next().unwrap().parse::<usize>().unwrap()).sum();
        assert!(left_out > 0);
        let exchanges = written.lines().filter(|line| *line == "exchange").count();
        assert_eq!(exchanges + left_out, 3 * MOST_WAITING);
    }

    #[test]
    fn a_reader_that_went_away_is_ignored() {
        let printer = Printer::start(Closed, left_out);
        printer.print("anyone?".to_owned(), Weight::Milestone);
        printer.finish();
        assert!(printer.0.lock().ended);
    }
}
