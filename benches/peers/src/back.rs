//! How soon a visitor is served again after a tunnel's public end was killed, stayed away, and was started again.

use std::{
    future::pending,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{interval, sleep, timeout},
};

use crate::{
    load::{self, Door},
    system::System,
};

/// How long the public end is away.
const AWAY: Duration = Duration::from_secs(3);

/// Who isn't back after this doesn't come back.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Visitors come one after the other, whether or not those before them were answered.
const EVERY: Duration = Duration::from_millis(10);

/// A visitor who waits longer has left.
const VISIT: Duration = Duration::from_secs(1);

/// What came of it in each round: seconds from the start to the first answer, or nothing if there was none.
#[derive(Serialize)]
pub(crate) struct Returned {
    pub(crate) system: String,
    pub(crate) seconds: Vec<Option<f64>>,
}

impl Returned {
    /// The median of the rounds, in which never is longer than all else.
    pub(crate) fn median(&self) -> Option<f64> {
        let mut seconds: Vec<f64> = self.seconds.iter().map(|time| time.unwrap_or(f64::INFINITY)).collect();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().filter(|time| time.is_finite())
    }
}

/// Kills the public end and starts it again. What else the system has may not survive that.
///
/// # Errors
/// It can't be ended or started.
pub(crate) async fn measure(system: &mut System) -> Result<Option<f64>> {
    system.kill_public_end().await?;
    sleep(AWAY).await;
    let start = Instant::now();
    system.start_public_end()?;
    Ok(timeout(PATIENCE, served(system.visitors_door())).await.ok().map(|()| start.elapsed().as_secs_f64()))
}

/// Until a visitor is answered.
async fn served(door: Door) {
    let mut visitors = JoinSet::new();
    let mut every = interval(EVERY);
    loop {
        let first = async {
            match visitors.join_next().await {
                Some(visited) => visited,
                None => pending().await,
            }
        };
        tokio::select! {
            visited = first => if matches!(visited, Ok(true)) { return },
            _ = every.tick() => {
                let door = door.clone();
                visitors.spawn(async move { matches!(timeout(VISIT, load::once(&door)).await, Ok(Ok(()))) });
            }
        }
    }
}
