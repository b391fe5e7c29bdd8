//! The program as a child process: its events, its other words, its end.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader},
    os::fd::OwnedFd,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, Once},
    thread,
};

pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, Resource, getrlimit, kill_process, setrlimit};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    sync::watch,
};

use super::within;

/// The program under test.
pub(crate) const TUNNEL: &str = env!("CARGO_BIN_EXE_tunnel");

/// A running program; killed when dropped. If the test is failing then, what it said is printed.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    pid: u32,
    log: Arc<Log>,
    taken: HashSet<usize>,
    /// What it gets when dropped.
    last: Signal,
}

/// The path of somebody else's program, which this package of Debian has.
pub(crate) fn program(name: &str, package: &str) -> String {
    find(name).unwrap_or_else(|| panic!("{name} is missing; install it (on Debian: apt install {package})"))
}

/// The path of somebody else's program, if there is one.
pub(crate) fn find(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // What only administrators call isn't in everybody's PATH.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.map(|path| super::path_text(&path).to_owned())
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Exit {
    /// The exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Everything a program said, in the order it came.
struct Log {
    lines: Mutex<Vec<Line>>,
    /// Counts changes; readers wait on it.
    changed: watch::Sender<usize>,
    /// Pipes that are still open.
    open: watch::Sender<usize>,
}

struct Line {
    error: bool,
    text: String,
    event: Option<Value>,
}

impl Process {
    /// Starts `tunnel` with these arguments in `home`, which is also its home folder. Nothing of the tester's own
    /// settings reaches it.
    pub(crate) fn start<A: AsRef<OsStr>>(
        name: &'static str,
        home: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self::run(name, home, TUNNEL, arguments, &[])
    }

    /// Starts any program in `home`, which is also its home folder, with these variables beside what every program needs.
    pub(crate) fn run<A: AsRef<OsStr>>(
        name: &'static str,
        home: &Path,
        program: &str,
        arguments: impl IntoIterator<Item = A>,
        variables: &[(&str, &str)],
    ) -> Self {
        raise_file_limit();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(home).env_clear().env("HOME", home);
        for kept in ["PATH", "LLVM_PROFILE_FILE", "TUNNEL_LOG"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command.env("RUST_BACKTRACE", "1").envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{program} doesn't start: {error}"));
        let pid = child.id().expect("a program that just started has an id");
        let log = Arc::new(Log {
            lines: Mutex::default(),
            changed: watch::Sender::new(0),
            open: watch::Sender::new(2),
        });
        let out = child.stdout.take().expect("stdout is a pipe").into_owned_fd();
        let err = child.stderr.take().expect("stderr is a pipe").into_owned_fd();
        log.follow(out.expect("a pipe can block"), false);
        log.follow(err.expect("a pipe can block"), true);
        Self { name, child, pid, log, taken: HashSet::new(), last: Signal::KILL }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Gets this signal when dropped, in place of being killed.
    pub(crate) fn ended_by(mut self, signal: Signal) -> Self {
        self.last = signal;
        self
    }

    /// Waits for the next event of this kind that nobody has taken yet.
    #[track_caller]
    pub(crate) fn event(&mut self, kind: &str) -> impl Future<Output = Value> {
        self.event_where(kind, |_| true)
    }

    /// Waits for the next event of this kind for which `wanted` holds, and that nobody has taken yet.
    #[track_caller]
    pub(crate) fn event_where(
        &mut self,
        kind: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> impl Future<Output = Value> {
        let what = format!("the event {kind:?} of the {}", self.name);
        self.line(what, move |line| {
            line.event.as_ref().filter(|event| event["event"] == kind && wanted(event)).cloned()
        })
    }

    /// Waits for a line with these words, on stdout or stderr, that nobody has taken yet.
    #[track_caller]
    pub(crate) fn words(&mut self, words: &str) -> impl Future<Output = String> {
        let what = format!("the words {words:?} of the {}", self.name);
        self.line(what, move |line| line.text.contains(words).then(|| line.text.clone()))
    }

    #[track_caller]
    fn line<T>(&mut self, what: String, wanted: impl Fn(&Line) -> Option<T>) -> impl Future<Output = T> {
        within(&what.clone(), async move {
            let mut changed = self.log.changed.subscribe();
            loop {
                let ended = *self.log.open.borrow() == 0;
                changed.borrow_and_update();
                if let Some((at, found)) = self.log.find(&wanted, &self.taken) {
                    self.taken.insert(at);
                    return found;
                }
                assert!(!ended, "ended without {what}");
                changed.changed().await.expect("the log lives as long as the process");
            }
        })
    }

    /// All events of this kind so far, taken or not.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let lines = self.log.lines.lock().expect("nobody panics with the log");
        let events = lines.iter().filter_map(|line| line.event.clone());
        events.filter(|event| event["event"] == kind).collect()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.try_signal(signal).expect("the process can be signalled");
    }

    fn try_signal(&self, signal: Signal) -> rustix::io::Result<()> {
        // Not reaped yet, so that the id can't have gone to another process.
        let pid = self.child.id().ok_or(rustix::io::Errno::SRCH)?;
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("an id of a process");
        kill_process(pid, signal)
    }

    /// Ends it on the spot, as a power cut would, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.child.start_kill().expect("the process can be killed");
        self.exit().await;
    }

    /// Asks it to end with SIGTERM and waits for that.
    pub(crate) async fn stop(&mut self) -> Exit {
        self.signal(Signal::TERM);
        self.exit().await
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn exit(&mut self) -> impl Future<Output = Exit> {
        within("the program to end", async {
            let status = self.child.wait().await.expect("the process is ours");
            let mut open = self.log.open.subscribe();
            open.wait_for(|open| *open == 0).await.expect("the log lives as long as the process");
            let (stdout, stderr) = (self.log.text(false), self.log.text(true));
            Exit { code: status.code(), stdout, stderr }
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Where it fails it has ended by itself.
        let _ = self.try_signal(self.last);
        if thread::panicking() {
            let lines = self.log.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            eprintln!("--- the {} (process {}) said:", self.name, self.pid);
            for line in lines.iter() {
                eprintln!("{} {}", if line.error { "err|" } else { "out|" }, line.text);
            }
        }
    }
}

impl Log {
    /// Reads a pipe to its end, in a thread, so that the log is whole even when the test hangs.
    fn follow(self: &Arc<Self>, pipe: OwnedFd, error: bool) {
        let log = Arc::clone(self);
        thread::spawn(move || {
            let mut reader = BufReader::new(File::from(pipe));
            let mut bytes = Vec::new();
            while reader.read_until(b'\n', &mut bytes).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
                let event = if error { None } else { serde_json::from_str(&text).ok() };
                log.lines.lock().expect("nobody panics with the log").push(Line { error, text, event });
                log.changed.send_modify(|count| *count += 1);
                bytes.clear();
            }
            log.open.send_modify(|open| *open -= 1);
            log.changed.send_modify(|count| *count += 1);
        });
    }

    fn find<T>(&self, wanted: impl Fn(&Line) -> Option<T>, taken: &HashSet<usize>) -> Option<(usize, T)> {
        let lines = self.lines.lock().expect("nobody panics with the log");
        let mut lines = lines.iter().enumerate().filter(|(at, _)| !taken.contains(at));
        lines.find_map(|(at, line)| Some((at, wanted(line)?)))
    }

    fn text(&self, error: bool) -> String {
        let lines = self.lines.lock().expect("nobody panics with the log");
        lines.iter().filter(|line| line.error == error).map(|line| format!("{}\n", line.text)).collect()
    }
}

/// A thousand WebSockets take several thousand sockets; the soft limit is often 1024. Children inherit it.
fn raise_file_limit() {
    static RAISED: Once = Once::new();
    RAISED.call_once(|| {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).expect("a process may raise its limit to the maximum");
    });
}
