//! What a node does all the time: it listens, says that it lives, and keeps its claims.
//!
//! Three tasks, so that none waits for another: a slow answer to a claim must not make this node look dead.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Core, Since, claims::RENEWAL, nodes::BEAT, notice::Notice, now};
use crate::redis::{Inbox, Published};

/// A subscription on which we haven't heard ourselves for so long is dead, whatever TCP thinks of it.
const DEAD: Duration = Duration::from_secs(3);

/// The wait before connecting again: short, since visitors wait for it; doubled after each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Listens for ever.
pub(super) async fn listen(core: Arc<Core>) {
    let channels = [core.names.notices(), core.names.inbox(core.own)];
    let mut pause = FIRST_PAUSE;
    let mut outage = false;
    loop {
        let reason = match Inbox::open(core.redis.address(), &channels).await {
            Ok(inbox) => {
                pause = FIRST_PAUSE;
                begin(&core, outage);
                let reason = hear(&core, inbox, &channels[0]).await;
                core.connected.send_replace(None);
                core.metrics.connected.set(0);
                core.metrics.outages.inc();
                reason.to_owned()
            }
            Err(error) => error.to_string(),
        };
        if !std::mem::replace(&mut outage, true) {
            tracing::warn!(
                reason,
                "the bus is away: tunnels of this node work, those of others answer 503 until it is back"
            );
        }
        sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

/// What was told or lost meanwhile isn't known: everything begins anew.
fn begin(core: &Arc<Core>, again: bool) {
    core.directory.forget();
    core.nodes().begin(now());
    core.connected.send_replace(Some(Since { at: now(), again }));
    core.metrics.connected.set(1);
    core.claims.all_again();
    let core = Arc::clone(core);
    // In its own time: messages are waiting.
    tokio::spawn(async move { core.say_alive().await });
}

/// Takes in what comes, and says why it ended.
async fn hear(core: &Core, mut inbox: Inbox, notices: &str) -> &'static str {
    let mut looks = interval(BEAT);
    loop {
        let published = tokio::select! {
            biased;
            _ = looks.tick() => {
                if core.nodes().deaf_for(now()) >= DEAD {
                    return "nothing comes through it";
                }
                continue;
            }
            published = inbox.next() => published,
        };
        match published {
            Some(Published { channel, payload }) if channel == notices => {
                if let Some(notice) = Notice::read(&payload) {
                    take(core, notice);
                }
            }
            Some(Published { payload, .. }) => core.links.deliver(payload),
            None => return "the connection broke",
        }
    }
}

fn take(core: &Core, notice: Notice) {
    match notice {
        Notice::Alive { node, draining } => core.nodes().alive(node, draining, now()),
        Notice::Gone { node } => core.nodes().gone(node, now()),
        Notice::Holds { node, name } => core.directory.told(&name, node, true),
        Notice::Lacks { node, name } => core.directory.told(&name, node, false),
    }
}

/// Says that the node lives, for ever.
pub(super) async fn beat(core: Arc<Core>) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        beats.tick().await;
        core.say_alive().await;
    }
}

/// Writes claims as they change, and renews them, for ever.
pub(super) async fn claim(core: Arc<Core>) {
    let mut renewals = interval(RENEWAL);
    renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connected = core.connected.subscribe();
    loop {
        tokio::select! {
            () = core.claims.wait() => {}
            _ = renewals.tick() => core.claims.renew(),
        }
        // Nothing can be written before; afterwards everything is, again.
        let _ = connected.wait_for(Option::is_some).await;
        if let Err(error) = core.claims.write().await {
            tracing::debug!(%error, "claims couldn't be written");
            sleep(FIRST_PAUSE).await;
        }
    }
}
