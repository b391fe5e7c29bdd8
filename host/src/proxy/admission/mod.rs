//! Who may register, under which names, how often and how many at once.
//!
//! Owns the rules in force, the sessions that live by them, and the end of those that don't any more. Must not know how a
//! registration is signed (`wire`), or which dialect it came in (`attach`).

mod address;
mod invitation;
mod ledger;
mod live;
mod metrics;
mod refusal;
mod reserved;
mod rules;
#[cfg(test)]
mod tests;
mod throttle;

pub use invitation::{Invitation, InvitationId, NotAnInvitation};
pub use ledger::{Ledger, LedgerAway, LedgerFuture, MemoryLedger, Tied};
pub use rules::{KeyRules, NamePattern, NotAPattern, Pages, Registration};

pub use live::Whom;
pub(crate) use live::{Dismissal, Seated};
pub(crate) use refusal::{NotAdmitted, whole};

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::{ArcSwap, Guard};
use prometheus_client::registry::Registry;

use self::{
    address::Source,
    ledger::RedisLedger,
    live::{Live, Most, Placed},
    metrics::Outcomes,
    rules::Grounds,
    throttle::Throttle,
};
use crate::{
    redis::Redis,
    session::Handle,
    wire::{KeyName, TunnelName, message::Refusal},
};

/// What a client asks for, after its signature was checked.
#[derive(Debug, Clone)]
pub(crate) struct Applicant {
    /// The key that signed.
    pub(crate) key: KeyName,
    /// The name that is wanted.
    pub(crate) name: TunnelName,
    /// The invitation that was presented.
    pub(crate) invitation: Option<InvitationId>,
    /// Where the client is.
    pub(crate) address: IpAddr,
}

/// The door: rules, and those who came in by them.
pub(crate) struct Admission {
    rules: ArcSwap<Registration>,
    /// All nodes' ledger, if there is one.
    redis: Option<RedisLedger>,
    /// For want of any other.
    memory: MemoryLedger,
    throttle: Throttle,
    live: Live,
    outcomes: Outcomes,
}

impl Admission {
    /// `redis` is where nodes remember together which key an invitation let in.
    pub(crate) fn new(rules: Registration, redis: Option<&Redis>) -> Self {
        Self {
            redis: redis.cloned().map(RedisLedger::new),
            memory: MemoryLedger::default(),
            throttle: Throttle::default(),
            live: Live::default(),
            outcomes: Outcomes::default(),
            rules: ArcSwap::from_pointee(rules),
        }
    }

    pub(crate) fn register_metrics(&self, registry: &mut Registry) {
        self.outcomes.register(registry);
    }

    pub(crate) fn rules(&self) -> Guard<Arc<Registration>> {
        self.rules.load()
    }

    /// Puts other rules in force. Sessions that they don't allow end now.
    pub(crate) fn replace(&self, rules: Registration) {
        self.rules.store(Arc::new(rules));
        self.sweep();
    }

    /// Ends sessions that the rules in force don't allow.
    fn sweep(&self) {
        let rules = self.rules();
        let ended = self.live.end_where(|place| {
            let Placed { key, name, invitation, .. } = place;
            let grounds = rules.grounds(key, invitation.as_ref());
            grounds.and_then(|grounds| rules.may_have(name, key, grounds)).err().map(Refusal::from)
        });
        if ended > 0 {
            tracing::info!(ended, "sessions ended: the rules of registration have changed");
        }
    }

    /// Ends the sessions of a key or a name, and gives their number. Whether the client may come back is the refusal's to say.
    pub(crate) fn disconnect(&self, whom: &Whom, refusal: &Refusal) -> usize {
        self.live.end_where(|place| whom.is(place).then(|| refusal.clone()))
    }

    /// Counts a client at the door, before anything costs much.
    ///
    /// # Errors
    /// How long it has to wait.
    pub(crate) fn knock(&self, address: IpAddr) -> Result<(), Duration> {
        let rules = self.rules();
        let Some(source) = Source::of(address) else { return Ok(()) };
        self.throttle
            .address(rules.rate, source)
            .inspect_err(|_| self.outcomes.count("too-many-registrations"))
    }

    /// Decides whether a client comes in.
    pub(crate) async fn admit(&self, applicant: &Applicant) -> Result<(), NotAdmitted> {
        let admitted = self.decide(applicant).await;
        if let Err(reason) = &admitted {
            self.refused(reason.code());
        }
        admitted
    }

    /// Counts a registration that was refused.
    pub(crate) fn refused(&self, code: &'static str) {
        self.outcomes.count(code);
    }

    async fn decide(&self, applicant: &Applicant) -> Result<(), NotAdmitted> {
        let Applicant { key, name, invitation, .. } = applicant;
        let rules = self.rules.load_full();
        self.throttle.key(rules.rate, key).map_err(|wait| NotAdmitted::TooOften { wait })?;
        let grounds = rules.grounds(key, invitation.as_ref())?;
        rules.may_have(name, key, grounds)?;
        let Grounds::Invited(id, invitation) = grounds else { return Ok(()) };
        // Nobody is let in anew after its time; who is in already stays.
        let uses = if invitation.has_expired(now()) { 0 } else { invitation.uses.get() };
        match self.ledger(&rules).tie(id, key, uses).await {
            Ok(Tied::Before) => Ok(()),
            Ok(Tied::Now) => {
                tracing::info!(%key, invitation = invitation.label, "an invitation let in a key");
                Ok(())
            }
            Ok(Tied::Spent) if uses == 0 => Err(NotAdmitted::InvitationExpired),
            Ok(Tied::Spent) => Err(NotAdmitted::InvitationSpent),
            Err(error) => {
                tracing::warn!(%error, "whom an invitation has let in can't be read or written");
                Err(NotAdmitted::LedgerAway)
            }
        }
    }

    fn ledger<'a>(&'a self, rules: &'a Registration) -> &'a dyn Ledger {
        match (&self.redis, &rules.ledger) {
            (Some(redis), _) => redis,
            (None, Some(ledger)) => &**ledger,
            (None, None) => &self.memory,
        }
    }

    /// Gives a session its place among the living, if there is room and the rules still allow it.
    ///
    /// # Errors
    /// Why there is no place for it.
    pub(crate) fn place(
        self: &Arc<Self>,
        applicant: &Applicant,
        handle: &Handle,
        dismissal: &Arc<Dismissal>,
    ) -> Result<Seated, NotAdmitted> {
        let rules = self.rules();
        let Applicant { key, name, invitation, address } = applicant;
        let most = Most {
            of_key: rules
                .keys
                .get(key)
                .and_then(|key| key.max_sessions)
                .unwrap_or(rules.max_sessions_per_key),
            of_address: rules.max_sessions_per_address,
        };
        let place = Placed {
            key: key.clone(),
            name: name.clone(),
            invitation: *invitation,
            source: Source::of(*address),
            handle: handle.clone(),
            dismissal: Arc::clone(dismissal),
        };
        let seated = Live::add(self, place, most).inspect_err(|full| self.refused(full.code()))?;
        // The rules may have been replaced since it was admitted, and the sweep have missed it.
        let rules = self.rules();
        let grounds = rules.grounds(key, invitation.as_ref());
        let still = grounds.and_then(|grounds| rules.may_have(name, key, grounds));
        still.inspect_err(|reason| self.refused(reason.code()))?;
        Ok(seated)
    }

    /// Counts a registration that holds now.
    pub(crate) fn accepted(&self) {
        self.outcomes.count("accepted");
    }
}

/// Seconds since 1970-01-01 UTC.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// Puts other rules in force in a proxy that runs; cheap to clone.
#[derive(Clone)]
pub struct RegistrationSwitch {
    pub(super) admission: Arc<Admission>,
    pub(super) hostnames: super::route::Hostnames,
}

impl RegistrationSwitch {
    /// Ends the sessions of a key or a name at this node now, and gives their number. The refusal says whether their clients may
    /// come back, and when.
    pub fn disconnect(&self, whom: &Whom, refusal: &Refusal) -> usize {
        self.admission.disconnect(whom, refusal)
    }

    /// From now on these hold. Sessions that they don't allow end.
    pub fn replace(&self, rules: Registration) {
        self.hostnames.replace(&rules);
        self.admission.replace(rules);
    }
}
