//! A log file that others may move away: written by a thread of its own, over a queue that never makes anybody wait.
//!
//! Programs that rotate logs rename the file and send SIGHUP, or only rename it. Either way the next line goes to a new file of the
//! old name.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio_util::task::AbortOnDropHandle;

use super::super::signals::Hangups;

/// Lines that may wait for a slow disk: about a second of a busy node, some megabytes at most.
const MOST_WAITING: usize = 16_384;

/// How often the file's name is looked up while lines are written.
const LOOK: Duration = Duration::from_secs(1);

/// How long the exit waits for a disk that takes nothing.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How often a full queue is looked at in the end.
const ROOM: Duration = Duration::from_millis(5);

/// The file at work.
pub(super) struct Writer {
    lines: SyncSender<String>,
    counts: Counts,
    ended: tokio::sync::oneshot::Receiver<()>,
    _hangups: Option<AbortOnDropHandle<()>>,
}

/// What became of lines.
#[derive(Clone, Default)]
pub(super) struct Counts {
    written: Counter,
    dropped: Counter,
}

impl Counts {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Lines of the access log that were written";
        registry.register("tunnel_access_log_lines", help, self.written.clone());
        let help = "Lines of the access log that were dropped, because the disk was too slow or full";
        registry.register("tunnel_access_log_lines_dropped", help, self.dropped.clone());
    }
}

impl Writer {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let log = Log::open(path)?;
        let (lines, queue) = sync_channel(MOST_WAITING);
        let (done, ended) = tokio::sync::oneshot::channel();
        let counts = Counts::default();
        let reopen = Arc::new(AtomicBool::new(false));
        let (written, asked) = (counts.clone(), Arc::clone(&reopen));
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            write_all(log, &queue, &written, &asked);
            let _ = done.send(());
        })?;
        Ok(Self { lines, counts, ended, _hangups: hangups(reopen) })
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts.clone()
    }

    /// Takes lines, and never waits.
    pub(super) fn sink(&self) -> Arc<dyn Fn(String) + Send + Sync> {
        let (lines, counts) = (self.lines.clone(), self.counts.clone());
        Arc::new(move |line| {
            if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = lines.try_send(line) {
                counts.dropped.inc();
            }
        })
    }

    /// Waits until all is written, if that doesn't take long. Sinks may live on; what they are given then may be lost.
    pub(super) async fn finish(self) {
        let finishing = async {
            // An empty line can't be a line of the log. There may be no room for it yet.
            while let Err(TrySendError::Full(_)) = self.lines.try_send(String::new()) {
                tokio::time::sleep(ROOM).await;
            }
            let _ = self.ended.await;
        };
        let _ = tokio::time::timeout(LAST_LINES, finishing).await;
    }
}

/// On a terminal SIGHUP means the end, and whoever started this there doesn't rotate logs.
fn hangups(reopen: Arc<AtomicBool>) -> Option<AbortOnDropHandle<()>> {
    if io::IsTerminal::is_terminal(&io::stdout()) {
        return None;
    }
    let mut hangups =
        Hangups::listen().inspect_err(|error| tracing::warn!(%error, "SIGHUP can't be heard")).ok()?;
    Some(AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            hangups.next().await;
            reopen.store(true, Relaxed);
        }
    })))
}

fn write_all(mut log: Log, queue: &Receiver<String>, counts: &Counts, reopen: &AtomicBool) {
    loop {
        let first = match queue.recv_timeout(LOOK) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if reopen.swap(false, Relaxed) || log.is_elsewhere() {
            log.reopen();
        }
        for line in first.into_iter().chain(std::iter::from_fn(|| queue.try_recv().ok())) {
            if line.is_empty() {
                log.flush();
                return;
            }
            match log.write(&line) {
                Ok(()) => counts.written.inc(),
                Err(_) => counts.dropped.inc(),
            };
        }
        log.flush();
    }
}

struct Log {
    path: PathBuf,
    file: BufWriter<File>,
    looked: Instant,
    /// A failure has been told, and nothing was written since.
    failing: bool,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let file = BufWriter::new(append_to(path)?);
        Ok(Self { path: path.to_owned(), file, looked: Instant::now(), failing: false })
    }

    /// Whether the file of this name is another one by now, or none.
    fn is_elsewhere(&mut self) -> bool {
        if self.looked.elapsed() < LOOK {
            return false;
        }
        self.looked = Instant::now();
        let ours = self.file.get_ref().metadata();
        !matches!((ours, std::fs::metadata(&self.path)), (Ok(ours), Ok(there)) if same(&ours, &there))
    }

    /// Goes on in a file of this name. Where there can't be one, the old one is better than none.
    fn reopen(&mut self) {
        self.flush();
        match append_to(&self.path) {
            Ok(file) => self.file = BufWriter::new(file),
            Err(error) => self.fails(&error),
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(line.as_bytes())?;
        self.file.write_all(b"\n")
    }

    fn flush(&mut self) {
        match self.file.flush() {
            Ok(()) => self.failing = false,
            Err(error) => self.fails(&error),
        }
    }

    fn fails(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(file = %self.path.display(), %error, "the access log can't be written");
        }
    }
}

/// Its lines are others' business: whoever isn't of the group has nothing to read in it.
fn append_to(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

#[cfg(unix)]
fn same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Where files can't be renamed while they are open, nobody does.
#[cfg(not(unix))]
fn same(_: &Metadata, _: &Metadata) -> bool {
    true
}
