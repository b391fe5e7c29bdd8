//! What the operating system says that processes use: proc(5).

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// proc(5) counts CPU time in these; every Linux of today has 100 of them in a second.
const MICROS_PER_TICK: u64 = 10_000;

/// Microseconds, or bytes, of each part of a system.
pub(crate) type Parts = BTreeMap<String, u64>;

/// The processes of a system, by the part that they play.
pub(crate) struct Accounts(Vec<(String, u32)>);

impl Accounts {
    /// These processes and all that they started.
    pub(crate) fn of(roots: &[(&'static str, u32)]) -> Result<Self> {
        let mut all = Vec::new();
        for &(part, root) in roots {
            let mut waiting = vec![root];
            while let Some(pid) = waiting.pop() {
                let path = format!("/proc/{pid}/task/{pid}/children");
                let children = fs::read_to_string(path).with_context(|| format!("{part} has ended"))?;
                waiting.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
                all.push((part.to_owned(), pid));
            }
        }
        Ok(Self(all))
    }

    /// Kills them all.
    pub(crate) fn kill(&self) {
        for pid in self.0.iter().filter_map(|(_, pid)| Pid::from_raw(i32::try_from(*pid).ok()?)) {
            // One that has ended needs no more.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// CPU time used so far, user and system, in microseconds.
    pub(crate) fn cpu(&self) -> Result<Parts> {
        self.sum(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // Behind the name, which may hold anything: the 12th and 13th field are utime and stime.
            let fields = stat.rsplit_once(')').context("a name in brackets")?.1.split_whitespace();
            let mut ticks = 0;
            for field in fields.skip(11).take(2) {
                ticks += field.parse::<u64>()?;
            }
            Ok(ticks * MICROS_PER_TICK)
        })
    }

    /// Memory in use now, in bytes.
    pub(crate) fn resident(&self) -> Result<Parts> {
        self.sum(|pid| status(pid, "VmRSS:"))
    }

    /// The most memory in use since [`Self::forget_peaks`], in bytes.
    pub(crate) fn peaks(&self) -> Result<Parts> {
        self.sum(|pid| status(pid, "VmHWM:"))
    }

    /// Begins to look for peaks anew.
    pub(crate) fn forget_peaks(&self) {
        for (_, pid) in &self.0 {
            // proc(5): 5 resets the peak. Processes of others can't be told; theirs counts from their start.
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
    }

    fn sum(&self, of: impl Fn(u32) -> Result<u64>) -> Result<Parts> {
        let mut parts = Parts::new();
        for (part, pid) in &self.0 {
            let value = of(*pid).with_context(|| format!("{part}, process {pid}"))?;
            *parts.entry(part.clone()).or_default() += value;
        }
        Ok(parts)
    }
}

fn status(pid: u32, key: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix(key)).context("no such line in its status")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
