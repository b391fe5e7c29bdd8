//! What sessions cost a proxy of ours while nothing passes: memory of idle tunnels, and the time that a registration takes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    applicant::{Applicant, key},
    system::{Paths, System},
};

/// Registrations under way at once while idle tunnels are made.
const AT_ONCE: usize = 64;

/// Sockets of this process and of a proxy beside the tunnels'.
const OTHER_FILES: u64 = 256;

/// Until each session was pinged once: a proxy does so after 10 s of silence.
const SETTLED: Duration = Duration::from_secs(12);

/// Registrations before any counts: what is made once is there by then.
const FIRST: u64 = 10;

/// Registrations that count, one after the other.
const REGISTRATIONS: u64 = 100;

/// Memory of a proxy without tunnels and with many, in bytes.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Idle {
    pub(crate) tunnels: usize,
    pub(crate) before: u64,
    pub(crate) after: u64,
}

impl Idle {
    pub(crate) fn each(&self) -> u64 {
        self.after.saturating_sub(self.before) / self.tunnels.max(1) as u64
    }
}

/// From the first packet of a connection to the word that it is registered, in milliseconds.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Registering {
    pub(crate) median_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Registers so many tunnels at a proxy, each with a key of its own, and leaves them alone.
///
/// # Errors
/// The proxy doesn't start, refuses one of them, or loses one.
pub(crate) async fn idle(paths: &Paths, tunnels: usize) -> Result<Idle> {
    files_for(tunnels)?;
    let proxy = System::proxy_alone(paths).await?;
    let memory = || Ok::<_, anyhow::Error>(proxy.accounts()?.resident()?.values().sum());
    let before = memory()?;
    let numbers = stream::iter(0..tunnels as u64);
    let registered = numbers.map(|number| async move { Applicant::register(proxy.door, &key(number)).await });
    let mut sessions = JoinSet::new();
    let mut registered = registered.buffer_unordered(AT_ONCE);
    while let Some(applicant) = registered.try_next().await? {
        sessions.spawn(applicant.stay());
    }
    sleep(SETTLED).await;
    let after = memory()?;
    ensure!(sessions.try_join_next().is_none(), "the proxy ended sessions that were idle");
    Ok(Idle { tunnels, before, after })
}

/// Registers tunnels one after the other at a proxy that does nothing else.
///
/// # Errors
/// The proxy doesn't start, or refuses.
pub(crate) async fn registration(paths: &Paths) -> Result<Registering> {
    let proxy = System::proxy_alone(paths).await?;
    let (mut times, mut sessions) = (Vec::new(), JoinSet::new());
    for number in 0..FIRST + REGISTRATIONS {
        let key = key(number);
        let start = Instant::now();
        let applicant = Applicant::register(proxy.door, &key).await?;
        let took = start.elapsed();
        if number >= FIRST {
            times.push(took.as_secs_f64() * 1000.0);
        }
        sessions.spawn(applicant.stay());
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).ceil() as usize];
    Ok(Registering { median_ms: at(0.5), p99_ms: at(0.99) })
}

/// Lets this process, and those that it starts, have so many connections.
fn files_for(tunnels: usize) -> Result<()> {
    let needed = tunnels as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let most = limit.maximum.unwrap_or(needed);
    ensure!(most >= needed, "{needed} files have to be open at once, and this system allows {most}");
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).context("more files at once")
}
