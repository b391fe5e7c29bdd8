//! How much memory a process uses (proc(5)).

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use super::Process;

/// One mebibyte.
pub(crate) const MIB: u64 = 1024 * 1024;

/// Watches how far a process's resident memory rises above what it was at the start.
pub(crate) struct Watch {
    pid: u32,
    idle: u64,
    peak: Arc<AtomicU64>,
    exact: bool,
    _sampler: JoinSet<()>,
}

impl Watch {
    /// Starts watching; call it when the process has done its work once and is idle.
    pub(crate) fn start(process: &Process) -> Self {
        let pid = process.pid();
        let idle = resident(pid, "VmRSS:").expect("a running process has memory");
        // "5" takes the high-water mark down to what is used now. Where that is forbidden, sampling has to do.
        let exact = std::fs::write(format!("/proc/{pid}/clear_refs"), "5").is_ok();
        let peak = Arc::new(AtomicU64::new(idle));
        let mut sampler = JoinSet::new();
        sampler.spawn(sample(pid, Arc::clone(&peak)));
        Self { pid, idle, peak, exact, _sampler: sampler }
    }

    /// Bytes above idle at the worst moment so far.
    pub(crate) fn rise(&self) -> u64 {
        let mark = if self.exact { "VmHWM:" } else { "VmRSS:" };
        let now = resident(self.pid, mark).expect("the process still runs");
        self.peak.load(Ordering::Relaxed).max(now).saturating_sub(self.idle)
    }
}

async fn sample(pid: u32, peak: Arc<AtomicU64>) {
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    loop {
        tick.tick().await;
        match resident(pid, "VmRSS:") {
            Ok(bytes) => peak.fetch_max(bytes, Ordering::Relaxed),
            Err(_) => return,
        };
    }
}

fn resident(pid: u32, line: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|text| text.strip_prefix(line));
    let kibibytes = value.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.map(|number| number * 1024).ok_or_else(|| io::ErrorKind::NotFound.into())
}
