//! What may be written about registration, each value checked by itself.

use std::{fmt, num::NonZeroU32, path::PathBuf, str::FromStr};

use http::Uri;
use jiff::Timestamp;
use serde::Deserialize;

use super::super::{
    units::RateLimit,
    values::{Written, Wrong},
};
use crate::{
    proxy::admission::{InvitationId, NamePattern},
    wire::{KeyName, TunnelName},
};

/// `[registration]` of `proxy.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RegistrationTable {
    pub open: Option<bool>,
    #[serde(default)]
    pub key: Vec<KeyTable>,
    pub keys_file: Option<PathBuf>,
    #[serde(default)]
    pub revoked: Vec<Written<KeyFlag>>,
    pub invitations: Option<PathBuf>,
    pub invitations_used: Option<PathBuf>,
    #[serde(default)]
    pub reserved: Vec<Written<Label>>,
    #[serde(default)]
    pub pages: Vec<Written<PageOrigin>>,
    pub rate: Option<Written<RateLimit>>,
    pub max_sessions_per_key: Option<NonZeroU32>,
    pub max_sessions_per_address: Option<NonZeroU32>,
}

/// `keys_file`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysFile {
    #[serde(default)]
    pub(super) key: Vec<KeyTable>,
    #[serde(default)]
    pub(super) revoked: Vec<Written<KeyFlag>>,
}

/// `[[registration.key]]`, and `[[key]]` of a file of keys.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct KeyTable {
    pub name: Option<Written<KeyFlag>>,
    #[serde(default)]
    pub hostnames: Vec<Written<NamePattern>>,
    #[serde(default)]
    pub domains: Vec<Written<OwnHostname>>,
    pub max_sessions: Option<NonZeroU32>,
    /// For people.
    pub comment: Option<String>,
}

/// A file of invitations.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InvitationsFile {
    #[serde(default)]
    pub(super) invitation: Vec<InvitationTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InvitationTable {
    pub(super) sha256: Option<Written<InvitationId>>,
    pub(super) name: Option<String>,
    pub(super) expires: Option<Written<Moment>>,
    pub(super) uses: Option<NonZeroU32>,
    #[serde(default)]
    pub(super) hostnames: Vec<Written<NamePattern>>,
}

/// What a key is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFlag(pub KeyName);

impl FromStr for KeyFlag {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        text.parse().map(Self).map_err(|error| Wrong(format!("\"{text}\" is no key: {error}")))
    }
}

/// A name that a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostnameFlag(pub TunnelName);

impl FromStr for HostnameFlag {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        match text.parse::<TunnelName>() {
            Ok(name) if name.is_chosen() => Ok(Self(name)),
            Ok(_) => Err(Wrong(format!("\"{text}\" is a key's name, which nobody chooses: leave it out"))),
            Err(_) => Err(Wrong(format!(
                "\"{text}\" is no hostname; write a label under the proxy's domain (blog) or a whole hostname (www.example.org), of \
                 letters, digits and hyphens; one in another script as its xn-- form"
            ))),
        }
    }
}

/// A label that nobody gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(pub TunnelName);

impl FromStr for Label {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let HostnameFlag(name) = text.parse()?;
        if name.is_hostname() {
            return Err(Wrong(format!(
                "\"{text}\" has a dot; write the label alone, as it stands under the domain"
            )));
        }
        Ok(Self(name))
    }
}

/// A whole hostname.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnHostname(pub TunnelName);

impl FromStr for OwnHostname {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let HostnameFlag(name) = text.strip_suffix('.').unwrap_or(text).parse()?;
        if !name.is_hostname() {
            return Err(Wrong(format!(
                "\"{text}\" is no whole hostname; a label under the proxy's domain stands in hostnames"
            )));
        }
        Ok(Self(name))
    }
}

/// Where a page comes from, as browsers write it (RFC 6454 section 6.2), or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageOrigin {
    /// `*`.
    Any,
    /// `https://app.example.com`.
    One(String),
}

impl FromStr for PageOrigin {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let wrong = || {
            Wrong(format!(
                "\"{text}\" is no origin of a page; write it as browsers do: https://app.example.com, a port only if it isn't the \
                 scheme's own; or \"*\" for every page"
            ))
        };
        let url: Uri = text.parse().map_err(|_| wrong())?;
        let (Some(scheme @ ("http" | "https")), Some(authority)) = (url.scheme_str(), url.authority()) else {
            return Err(wrong());
        };
        let usual = if scheme == "https" { 443 } else { 80 };
        let origin = format!("{scheme}://{}", authority.as_str().to_ascii_lowercase());
        if text.to_ascii_lowercase() != origin || authority.port_u16() == Some(usual) || origin.contains('@')
        {
            return Err(wrong());
        }
        Ok(Self::One(origin))
    }
}

/// A moment, as RFC 3339 writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(pub(super) Timestamp);

impl FromStr for Moment {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        text.parse().map(Self).map_err(|_| {
            Wrong(format!("\"{text}\" is no moment; write for example \"2027-01-31T12:00:00Z\""))
        })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
