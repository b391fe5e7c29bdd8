//! The rules: which keys, which names. Values that `settings` makes, and pure decisions on them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    num::NonZeroU32,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use super::{Invitation, InvitationId, Ledger, NotAdmitted, reserved::is_reserved};
use crate::{
    proxy::Rate,
    wire::{KeyName, TunnelName},
};

/// Who may register, and under which names.
#[derive(Clone)]
pub struct Registration {
    /// Whether keys that nobody has listed or invited may register too, under the names that are made from them.
    pub open: bool,
    /// Listed keys.
    pub keys: HashMap<KeyName, KeyRules>,
    /// Keys that may not, whatever else says that they may.
    pub revoked: HashSet<KeyName>,
    /// Invitations, by their digests.
    pub invitations: HashMap<InvitationId, Invitation>,
    /// Names that nobody gets unless they are listed with a key, beside those that no proxy gives away.
    pub reserved: BTreeSet<String>,
    /// Pages of browsers that may register, in the original's dialect.
    pub pages: Pages,
    /// How often one address may try, and one key.
    pub rate: Option<Rate>,
    /// Sessions of one key at once, at this node.
    pub max_sessions_per_key: usize,
    /// Sessions from one address at once, at this node.
    pub max_sessions_per_address: usize,
    /// Where it is written down whom an invitation let in, for a proxy that has no Redis.
    pub ledger: Option<Arc<dyn Ledger>>,
}

impl Default for Registration {
    /// Nobody may.
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        let number = |n| NonZeroU32::new(n).expect("not zero");
        Self {
            open: false,
            keys: HashMap::new(),
            revoked: HashSet::new(),
            invitations: HashMap::new(),
            reserved: BTreeSet::new(),
            pages: Pages::default(),
            // An office of some hundred clients comes back at once after a restart; one that fails keeps trying.
            rate: Some(Rate { tokens: number(60), per: MINUTE, burst: number(300) }),
            // A file of many targets, with several connections each.
            max_sessions_per_key: 256,
            max_sessions_per_address: 1000,
            ledger: None,
        }
    }
}

impl Registration {
    /// Everybody may, under the name that is made from the key.
    pub fn open() -> Self {
        Self { open: true, ..Self::default() }
    }
}

/// What a listed key may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRules {
    /// Labels under the proxy's domain.
    pub hostnames: Vec<NamePattern>,
    /// Whole hostnames.
    pub domains: Vec<TunnelName>,
    /// Sessions at once, where it isn't as for all.
    pub max_sessions: Option<usize>,
}

/// Pages that may register.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages {
    /// Every one.
    pub any: bool,
    /// Those of these origins, as browsers write them: `https://app.example.com`.
    pub origins: Vec<String>,
}

impl Pages {
    /// Whether a page of this origin may.
    pub(crate) fn has(&self, origin: &[u8]) -> bool {
        self.any || self.origins.iter().any(|known| known.as_bytes() == origin)
    }
}

/// A label, or all that begin in one way: `blog`, `pr-*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamePattern {
    /// One.
    Label(TunnelName),
    /// All that begin so, and are longer.
    Beginning(String),
}

/// The text is no pattern for names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} can't be a chosen name: write a label of letters, digits and hyphens (blog), or how names begin (pr-*); whole hostnames \
     stand in domains"
)]
pub struct NotAPattern(String);

impl NamePattern {
    pub(super) fn holds(&self, name: &TunnelName) -> bool {
        match self {
            Self::Label(label) => label == name,
            Self::Beginning(start) => {
                name.as_str().strip_prefix(start.as_str()).is_some_and(|rest| !rest.is_empty())
            }
        }
    }

    /// Whether two may lead to one name. One that is named outright belongs to whom it is named for.
    pub fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Label(a), Self::Label(b)) => a == b,
            (Self::Beginning(a), Self::Beginning(b)) => {
                a.starts_with(b.as_str()) || b.starts_with(a.as_str())
            }
            _ => false,
        }
    }
}

impl FromStr for NamePattern {
    type Err = NotAPattern;

    fn from_str(text: &str) -> Result<Self, NotAPattern> {
        let bad = || NotAPattern(text.to_owned());
        let is_label = |name: &TunnelName| name.is_chosen() && !name.is_hostname();
        if let Some(start) = text.strip_suffix('*') {
            // What follows is the client's to choose: what it makes of it is looked at then.
            let any: TunnelName = format!("{start}a").parse().map_err(|_| bad())?;
            return if is_label(&any) && !start.is_empty() {
                Ok(Self::Beginning(start.to_ascii_lowercase()))
            } else {
                Err(bad())
            };
        }
        text.parse().ok().filter(is_label).map(Self::Label).ok_or_else(bad)
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(name) => write!(f, "{name}"),
            Self::Beginning(start) => write!(f, "{start}*"),
        }
    }
}

/// Why a key may register.
#[derive(Debug, Clone, Copy)]
pub(super) enum Grounds<'a> {
    Listed(&'a KeyRules),
    /// If it is, or can be, tied to the invitation.
    Invited(&'a InvitationId, &'a Invitation),
    Open,
}

impl Registration {
    /// Why a key may register, if it may.
    pub(super) fn grounds<'a>(
        &'a self,
        key: &KeyName,
        invitation: Option<&'a InvitationId>,
    ) -> Result<Grounds<'a>, NotAdmitted> {
        if self.revoked.contains(key) {
            return Err(NotAdmitted::Revoked { key: key.clone() });
        }
        if let Some(rules) = self.keys.get(key) {
            return Ok(Grounds::Listed(rules));
        }
        match invitation {
            // Not passed over where everybody may come in: it may be for a name.
            Some(id) => match self.invitations.get(id) {
                Some(invitation) => Ok(Grounds::Invited(id, invitation)),
                None => Err(NotAdmitted::UnknownInvitation),
            },
            None if self.open => Ok(Grounds::Open),
            None => Err(NotAdmitted::Closed { key: key.clone() }),
        }
    }

    /// Whether a key that may register may have this name. A name that was made from the key is its own.
    pub(super) fn may_have(
        &self,
        name: &TunnelName,
        key: &KeyName,
        grounds: Grounds<'_>,
    ) -> Result<(), NotAdmitted> {
        if !name.is_chosen() {
            return Ok(());
        }
        let (patterns, domains): (&[NamePattern], &[TunnelName]) = match grounds {
            Grounds::Listed(rules) => (&rules.hostnames, &rules.domains),
            Grounds::Invited(_, invitation) => (&invitation.hostnames, &[]),
            Grounds::Open => (&[], &[]),
        };
        let outright = NamePattern::Label(name.clone());
        if domains.contains(name) || (matches!(grounds, Grounds::Listed(_)) && patterns.contains(&outright)) {
            return Ok(());
        }
        let not_yours = || NotAdmitted::NotYours { name: name.clone(), may: patterns.to_vec() };
        let others =
            self.keys.iter().any(|(other, rules)| other != key && rules.hostnames.contains(&outright));
        if name.is_hostname() || others || !patterns.iter().any(|pattern| pattern.holds(name)) {
            return Err(not_yours());
        }
        if is_reserved(name.as_str()) || self.reserved.contains(name.as_str()) {
            return Err(NotAdmitted::Reserved { name: name.clone() });
        }
        Ok(())
    }
}
