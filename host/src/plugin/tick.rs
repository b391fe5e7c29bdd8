//! Timed work of a plugin: its tick hook, called again and again in an instance of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::{breaker::Breaker, config::Isolation, error::HookError, guest::Guest, load::Plugin};

/// A zero would be no interval at all.
const SHORTEST: Duration = Duration::from_millis(1);

/// Begins to tick: at once, and then after each interval. Ends when what is returned is dropped, or the plugin.
pub(super) fn begin(plugin: &Arc<Plugin>) -> AbortOnDropHandle<()> {
    let every = plugin.config().tick.max(SHORTEST);
    // Not the one of its other hooks: ticks that end well say nothing of a filter that fails on each exchange, and a key
    // server that doesn't answer is no reason to refuse exchanges.
    let breaker = Breaker::new(plugin.limits.failures, plugin.limits.pause);
    // The plugin owns the task, not the other way round: between two ticks nothing here keeps it.
    let plugin = Arc::downgrade(plugin);
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut times = interval(every);
        // One that took longer than the interval isn't followed by others that catch up.
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut own = None;
        loop {
            times.tick().await;
            let Some(plugin) = plugin.upgrade() else { return };
            own = tick(&plugin, &breaker, own).await;
        }
    }))
}

/// One tick, and the instance for the next if it is worth keeping.
async fn tick(plugin: &Plugin, breaker: &Breaker, own: Option<Guest>) -> Option<Guest> {
    if !breaker.allows() {
        return own;
    }
    let began = Instant::now();
    let guest = match own {
        Some(guest) => Ok(guest),
        None => plugin.start().await,
    };
    let ticked = match guest {
        Ok(guest) => call(guest).await,
        Err(error) => Err(error),
    };
    let verdict = ticked.as_ref().map_or_else(HookError::word, |_| "done");
    plugin.measured.called(&plugin.name_shared(), "on-tick", verdict, began.elapsed());
    plugin.count(breaker, "on-tick", None, &ticked);
    ticked.ok().filter(|guest| plugin.isolation == Isolation::Pool && guest.calls < plugin.limits.reuse)
}

async fn call(mut guest: Guest) -> Result<Guest, HookError> {
    guest.begin("on-tick", None);
    let ticked = guest.on_tick().await;
    guest.end();
    ticked.map(|()| guest)
}
