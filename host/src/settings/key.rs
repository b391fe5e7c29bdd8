//! `tunnel key`: what a key names.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::VerifyingKey;

use crate::wire::TunnelName;

/// The name, the thumbprint and the host name that a key stands for, one a line.
pub(super) fn describe(key: &VerifyingKey, session: Option<&str>, domain: &str) -> String {
    let own = TunnelName::of_key(key);
    let name = session.map_or_else(|| own.clone(), |session| own.with_session(session));
    format!("name        {name}\nthumbprint  {}\nhostname    {name}.{domain}\n", thumbprint(&own))
}

/// The SHA-256 thumbprint of the key's JWK in base64url, as other tools show it (RFC 7638 section 3.1). The name is
/// the same bytes in base32.
fn thumbprint(name: &TunnelName) -> String {
    let alphabet = base32::Alphabet::Rfc4648Lower { padding: false };
    URL_SAFE_NO_PAD.encode(base32::decode(alphabet, name.as_str()).expect("a name is base32"))
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    #[test]
    fn the_key_of_rfc_8037() {
        let d = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let key = SigningKey::from_bytes(&d.try_into().unwrap()).verifying_key();
        assert_eq!(
            describe(&key, None, "example.com"),
            "name        sd5mv7vjwfkwngcub5ymael2elvdppk46pwtyryjhqlqokbljoeq\n\
             thumbprint  kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k\n\
             hostname    sd5mv7vjwfkwngcub5ymael2elvdppk46pwtyryjhqlqokbljoeq.example.com\n"
        );
        let session = describe(&key, Some("abc"), "localhost");
        assert!(
            session.contains("hostname    lsecyuya75eoayzvixepivoeudaz5qr44hv4izv7m3pnf7xts36q.localhost\n")
        );
        assert!(session.contains("thumbprint  kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k\n"));
    }
}
