//! The names of tunnels: made from a key, never chosen.

use std::{fmt, str::FromStr};

use base32::Alphabet;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};

/// Length of a tunnel's name: 32 bytes in base32 without padding.
const LENGTH: usize = 52;

const ALPHABET: Alphabet = Alphabet::Rfc4648Lower { padding: false };

/// A tunnel's lasting name, the first label of its hostname: 52 characters of lower-case base32.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelName(Box<str>);

impl TunnelName {
    /// The name of a key: base32 of the SHA-256 thumbprint of its JWK (RFC 7638; members of an OKP key: RFC 8037
    /// section 2).
    pub fn of_key(key: &VerifyingKey) -> Self {
        let x = URL_SAFE_NO_PAD.encode(key.as_bytes());
        let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        Self::of_digest(Sha256::digest(jwk))
    }

    /// The name of a key on P-256, by its coordinates, which clients of the original have; the same thumbprint (members of an
    /// EC key: RFC 7638 section 3.2).
    pub fn of_p256(x: &[u8; 32], y: &[u8; 32]) -> Self {
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Self::of_digest(Sha256::digest(jwk))
    }

    /// The name of one labelled session of this key: base32 of SHA-256 over this name and the label.
    #[must_use]
    pub fn with_session(&self, session: &str) -> Self {
        Self::of_digest(Sha256::new().chain_update(self.as_str()).chain_update(session).finalize())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of_digest(digest: impl AsRef<[u8]>) -> Self {
        Self(base32::encode(ALPHABET, digest.as_ref()).into())
    }
}

/// The text is not a tunnel's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tunnel's name is {LENGTH} characters, a to z and 2 to 7")]
pub struct NotAName;

impl FromStr for TunnelName {
    type Err = NotAName;

    /// Accepts either case, as host names do.
    fn from_str(text: &str) -> Result<Self, NotAName> {
        let lower = text.to_ascii_lowercase();
        match base32::decode(ALPHABET, &lower) {
            Some(digest) if lower.len() == LENGTH && digest.len() == 32 => Ok(Self(lower.into())),
            _ => Err(NotAName),
        }
    }
}

impl fmt::Display for TunnelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TunnelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 8037 appendix A.2; its thumbprint is given in A.3.
    fn rfc_8037_key() -> VerifyingKey {
        let x = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        VerifyingKey::from_bytes(&x.try_into().unwrap()).unwrap()
    }

    #[test]
    fn name_of_the_rfc_8037_key() {
        let name = TunnelName::of_key(&rfc_8037_key());
        assert_eq!(name.as_str(), "sd5mv7vjwfkwngcub5ymael2elvdppk46pwtyryjhqlqokbljoeq");
        let session = name.with_session("abc");
        assert_eq!(session.as_str(), "lsecyuya75eoayzvixepivoeudaz5qr44hv4izv7m3pnf7xts36q");
    }

    #[test]
    fn parses_either_case_and_nothing_else() {
        let name = TunnelName::of_key(&rfc_8037_key());
        assert_eq!(name.as_str().to_uppercase().parse(), Ok(name.clone()));
        for bad in ["", "abc", &name.as_str()[1..], &format!("{name}a"), &name.as_str().replace('s', "1")] {
            assert_eq!(bad.parse::<TunnelName>(), Err(NotAName), "{bad}");
        }
    }
}
