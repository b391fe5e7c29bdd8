//! The names of tunnels: made from a key, or chosen and tied to one.

use std::{fmt, str::FromStr, sync::Arc};

use base32::Alphabet;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};

/// Length of a tunnel's name: 32 bytes in base32 without padding.
const LENGTH: usize = 52;

const ALPHABET: Alphabet = Alphabet::Rfc4648Lower { padding: false };

/// Longest host name (RFC 1035 section 2.3.4, without the root's dot).
const MAX_HOSTNAME: usize = 253;

/// Longest label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// A tunnel's lasting name, in one of three forms that can't be taken for each other:
///
/// - made from a key: 52 characters of lower-case base32, the first label of its hostname;
/// - a chosen label, `blog`, the first label of its hostname; never 52 characters of base32;
/// - a chosen hostname of its own, `www.example.org`; never without a dot.
///
/// Each exchange has one of its own; clones share the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelName(Arc<str>);

/// What a key is called: the name that is made from it, without a session's label.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName(TunnelName);

impl KeyName {
    /// The name of a key: base32 of the SHA-256 thumbprint of its JWK (RFC 7638; members of an OKP key: RFC 8037
    /// section 2).
    pub fn of_key(key: &VerifyingKey) -> Self {
        Self(TunnelName::of_key(key))
    }

    /// The name of a key on P-256, by its coordinates, which clients of the original have.
    pub fn of_p256(x: &[u8; 32], y: &[u8; 32]) -> Self {
        Self(TunnelName::of_p256(x, y))
    }

    /// The name of the tunnel that the key has without being given one.
    pub fn tunnel(&self) -> &TunnelName {
        &self.0
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for KeyName {
    type Err = NotAKeyName;

    fn from_str(text: &str) -> Result<Self, NotAKeyName> {
        match text.parse::<TunnelName>() {
            Ok(name) if !name.is_chosen() => Ok(Self(name)),
            _ => Err(NotAKeyName),
        }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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

    /// Whether it was chosen, and not made from a key.
    pub fn is_chosen(&self) -> bool {
        !is_of_key(&self.0)
    }

    /// Whether it is a hostname of its own, and not a label under the proxy's domain.
    pub fn is_hostname(&self) -> bool {
        self.0.contains('.')
    }

    /// The hostname of this tunnel at a proxy with this domain.
    pub fn hostname(&self, domain: &str) -> String {
        if self.is_hostname() { self.0.to_string() } else { format!("{self}.{domain}") }
    }

    fn of_digest(digest: impl AsRef<[u8]>) -> Self {
        Self(base32::encode(ALPHABET, digest.as_ref()).into())
    }
}

fn is_of_key(text: &str) -> bool {
    text.len() == LENGTH && base32::decode(ALPHABET, text).is_some_and(|digest| digest.len() == 32)
}

/// Letters, digits and hyphens within (RFC 1123 section 2.1). Two hyphens in the third and fourth place mark names in another
/// script, of which only the form on the wire is one (RFC 5891 section 4.2.3.1, RFC 5890 section 2.3.2.1).
fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=MAX_LABEL).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
        && (bytes.get(2..4) != Some(b"--") || (bytes.starts_with(b"xn--") && bytes.len() > 4))
}

/// The last label of an address is a number, that of a name never is.
fn is_hostname(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= MAX_HOSTNAME
        && text.contains('.')
        && text.split('.').all(is_label)
        && !last.bytes().all(|b| b.is_ascii_digit())
}

/// The text is not a tunnel's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a tunnel's name is {LENGTH} characters, a to z and 2 to 7, or a chosen label or hostname of letters, digits and hyphens"
)]
pub struct NotAName;

/// The text is not the name of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key's name is {LENGTH} characters, a to z and 2 to 7, as `tunnel key show` prints it")]
pub struct NotAKeyName;

impl FromStr for TunnelName {
    type Err = NotAName;

    /// Accepts either case, as host names do.
    fn from_str(text: &str) -> Result<Self, NotAName> {
        // The longest first: whatever comes from outside is looked at no further than a name is long.
        if text.len() > MAX_HOSTNAME {
            return Err(NotAName);
        }
        let lower = text.to_ascii_lowercase();
        if is_of_key(&lower) || is_label(&lower) || is_hostname(&lower) {
            Ok(Self(lower.into()))
        } else {
            Err(NotAName)
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
    fn parses_either_case_of_each_form_and_nothing_else() {
        let name = TunnelName::of_key(&rfc_8037_key());
        assert_eq!(name.as_str().to_uppercase().parse(), Ok(name.clone()));
        assert!(!name.is_chosen() && !name.is_hostname());
        assert_eq!(name.as_str().parse::<KeyName>().map(|key| key.tunnel().clone()), Ok(name.clone()));
        for (text, hostname) in [
            ("Blog", "blog.example.com"),
            ("a", "a.example.com"),
            ("xn--bcher-kva", "xn--bcher-kva.example.com"),
            ("127", "127.example.com"),
            ("WWW.example.org", "www.example.org"),
            (&name.as_str()[1..], &format!("{}.example.com", &name.as_str()[1..])),
            (&name.as_str().replace('s', "1"), &format!("{}.example.com", name.as_str().replace('s', "1"))),
        ] {
            let chosen: TunnelName = text.parse().unwrap();
            assert!(chosen.is_chosen(), "{text}");
            assert_eq!(chosen.hostname("example.com"), hostname);
            assert_eq!(chosen.is_hostname(), text.contains('.'));
            assert_eq!(text.parse::<KeyName>(), Err(NotAKeyName), "{text}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "a_b",
            "a b",
            "bücher",
            "ab--c",
            "xn--",
            "a..b",
            ".a.b",
            "a.b.",
            "127.0.0.1",
            "[::1]",
            "a/b",
            "a:80",
            "*",
            "*.a.b",
            &"a".repeat(64),
            &format!("{}.org", "a.".repeat(130)),
        ] {
            assert_eq!(bad.parse::<TunnelName>(), Err(NotAName), "{bad}");
        }
    }
}
