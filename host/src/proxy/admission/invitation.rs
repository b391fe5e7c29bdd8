//! Invitations: secrets of which the proxy keeps digests.

use std::{fmt, num::NonZeroU32, str::FromStr};

use sha2::{Digest, Sha256};

use super::NamePattern;

/// What a proxy knows an invitation by: the SHA-256 of its text. To look one up takes the same time whoever guesses: what is
/// compared is a digest, of which nobody can choose a part.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InvitationId([u8; 32]);

impl InvitationId {
    /// Of an invitation as a client presents it.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }
}

/// The text is no SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an invitation stands in the file as its SHA-256: 64 digits from 0 to 9 and a to f; `tunnel proxy invite` makes one"
)]
pub struct NotAnInvitation;

impl FromStr for InvitationId {
    type Err = NotAnInvitation;

    fn from_str(text: &str) -> Result<Self, NotAnInvitation> {
        let mut digest = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)) {
            return Err(NotAnInvitation);
        }
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NotAnInvitation)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAnInvitation)?;
        }
        Ok(Self(digest))
    }
}

impl fmt::Display for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an invitation allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// For the operator.
    pub label: String,
    /// Seconds since 1970-01-01 UTC after which it lets nobody in anew.
    pub expires: Option<i64>,
    /// Keys that it lets in.
    pub uses: NonZeroU32,
    /// Names that those may choose.
    pub hostnames: Vec<NamePattern>,
}

impl Invitation {
    pub(super) fn has_expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_sha256sum_writes_it() {
        let id = InvitationId::of("abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse(), Ok(id));
        for bad in ["", "ba", &text[1..], &text.to_uppercase(), &format!("{text}0"), &"é".repeat(32)] {
            assert_eq!(bad.parse::<InvitationId>(), Err(NotAnInvitation), "{bad}");
        }
    }
}
