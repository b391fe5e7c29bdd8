//! Why a client isn't let in, in words for its user and in a code for programs.

use std::time::Duration;

use super::NamePattern;
use crate::wire::{KeyName, TunnelName, message::Refusal};

/// After so long it is worth asking again whether another has let go of a name, or a session has ended.
const LATER: Duration = Duration::from_secs(10);

/// A client isn't let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAdmitted {
    #[error(
        "this proxy takes only keys that its operator has listed or invited: ask for your key, {key}, to be listed, or for an \
         invitation (--invitation-file)"
    )]
    Closed { key: KeyName },
    #[error("this key, {key}, isn't allowed at this proxy any more; ask its operator")]
    Revoked { key: KeyName },
    #[error("this proxy doesn't know the invitation, or not any more; ask its operator for another")]
    UnknownInvitation,
    #[error(
        "this invitation has let in as many keys as it was for, and yours isn't one of them; ask the operator for another"
    )]
    InvitationSpent,
    #[error("this invitation has expired; ask the operator for another")]
    InvitationExpired,
    #[error("the proxy can't check invitations at the moment; try again")]
    LedgerAway,
    #[error("{name} isn't yours at this proxy{}; ask its operator, who lists chosen names with the key", list_of(.may))]
    NotYours { name: TunnelName, may: Vec<NamePattern> },
    #[error("{name} is reserved at this proxy; choose another name")]
    Reserved { name: TunnelName },
    #[error("{name} is in use by another key; it is free once that one has left")]
    Taken { name: TunnelName },
    #[error("this key has {limit} sessions already, as many as it may; end some of them first")]
    TooManyOfKey { limit: usize },
    #[error("{limit} sessions come from this address already, as many as may; end some of them first")]
    TooManyOfAddress { limit: usize },
    #[error("this key registers too often; try again in {} s", whole(.wait).as_secs())]
    TooOften { wait: Duration },
}

impl NotAdmitted {
    /// A stable code for programs, lower case with dashes.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Closed { .. } => "not-admitted",
            Self::Revoked { .. } => "revoked",
            Self::UnknownInvitation => "unknown-invitation",
            Self::InvitationSpent => "invitation-spent",
            Self::InvitationExpired => "invitation-expired",
            Self::LedgerAway => "invitations-away",
            Self::NotYours { .. } => "hostname-not-yours",
            Self::Reserved { .. } => "hostname-reserved",
            Self::Taken { .. } => "hostname-taken",
            Self::TooManyOfKey { .. } => "too-many-sessions-of-key",
            Self::TooManyOfAddress { .. } => "too-many-sessions-of-address",
            Self::TooOften { .. } => "too-many-registrations",
        }
    }

    /// Whether the same client may be let in later without a change; and when it is worth asking.
    fn retry(&self) -> Option<Option<Duration>> {
        match self {
            Self::LedgerAway => Some(None),
            Self::Taken { .. } | Self::TooManyOfKey { .. } | Self::TooManyOfAddress { .. } => {
                Some(Some(LATER))
            }
            Self::TooOften { wait } => Some(Some(whole(wait))),
            _ => None,
        }
    }
}

impl From<NotAdmitted> for Refusal {
    fn from(reason: NotAdmitted) -> Self {
        let retry = reason.retry();
        Self {
            code: reason.code().into(),
            text: reason.to_string(),
            retry: retry.is_some(),
            retry_after: retry.flatten(),
        }
    }
}

/// In whole seconds, and never too short.
pub(crate) fn whole(wait: &Duration) -> Duration {
    Duration::from_secs(wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))
}

fn list_of(may: &[NamePattern]) -> String {
    let names: Vec<String> = may.iter().map(ToString::to_string).collect();
    if names.is_empty() { String::new() } else { format!(", but {}", names.join(", ")) }
}
