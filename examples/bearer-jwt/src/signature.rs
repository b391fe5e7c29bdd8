//! Public keys and the signatures they verify: RS256, ES256 and EdDSA (RFC 7518, RFC 8037).
//!
//! The key says which algorithm it is for. What the token says about that only has to agree: otherwise whoever makes a token could
//! choose how it is checked.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use crypto_bigint::{
    BoxedUint, Odd,
    modular::{BoxedMontyForm, BoxedMontyParams},
};
use p256::ecdsa::signature::Verifier;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::token::{Header, Token};

/// What stands before the hash in an RS256 signature: "this is SHA-256", in DER (RFC 8017 section 9.2).
const SHA256_PREFIX: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0x04, 0x20,
];

/// Bytes of an RSA modulus: shorter ones are too weak, longer ones too slow.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

#[derive(Clone)]
pub(crate) struct Key {
    id: Option<String>,
    algorithm: Algorithm,
}

#[derive(Clone)]
enum Algorithm {
    Rs256 { modulus: Vec<u8>, exponent: Vec<u8> },
    Es256(Box<p256::ecdsa::VerifyingKey>),
    EdDsa(Box<ed25519_dalek::VerifyingKey>),
}

impl Key {
    /// Reads a JWK; `None` for one of an unknown kind, or for another use.
    pub(crate) fn read(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk[name].as_str();
        let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(name)?).ok();
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let algorithm = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let (modulus, exponent) = (bytes("n")?, bytes("e")?);
                (MODULUS.contains(&modulus.len()) && exponent.len() <= 8).then_some(())?;
                Algorithm::Rs256 { modulus, exponent }
            }
            ("EC", Some("P-256")) => {
                let point = [vec![4], bytes("x")?, bytes("y")?].concat();
                Algorithm::Es256(Box::new(p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).ok()?))
            }
            ("OKP", Some("Ed25519")) => {
                let point = bytes("x")?.try_into().ok()?;
                Algorithm::EdDsa(Box::new(ed25519_dalek::VerifyingKey::from_bytes(&point).ok()?))
            }
            _ => return None,
        };
        let key = Self { id: text("kid").map(str::to_owned), algorithm };
        text("alg").is_none_or(|name| name == key.name()).then_some(key)
    }

    pub(crate) fn fits(&self, header: &Header) -> bool {
        header.alg == self.name() && (header.kid.is_none() || header.kid == self.id)
    }

    pub(crate) fn verifies(&self, token: &Token) -> bool {
        let (message, signature) = (token.signed.as_bytes(), token.signature.as_slice());
        match &self.algorithm {
            Algorithm::Rs256 { modulus, exponent } => rs256(modulus, exponent, message, signature).is_some(),
            Algorithm::Es256(key) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Algorithm::EdDsa(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
        }
    }

    fn name(&self) -> &'static str {
        match self.algorithm {
            Algorithm::Rs256 { .. } => "RS256",
            Algorithm::Es256(_) => "ES256",
            Algorithm::EdDsa(_) => "EdDSA",
        }
    }
}

/// RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2.2): what must have been signed is made, and compared as a whole. There is no secret in
/// this, so it needn't take constant time.
fn rs256(modulus: &[u8], exponent: &[u8], message: &[u8], signature: &[u8]) -> Option<()> {
    (signature.len() == modulus.len()).then_some(())?;
    let modulus = BoxedUint::from_be_slice_vartime(modulus);
    let bits = modulus.bits_precision();
    let signature = BoxedUint::from_be_slice(signature, bits).ok()?;
    (signature < modulus).then_some(())?;
    let parameters = BoxedMontyParams::new_vartime(Odd::new(modulus).into_option()?);
    let exponent = BoxedUint::from_be_slice_vartime(exponent);
    let opened = BoxedMontyForm::new(signature, &parameters).pow(&exponent).retrieve().to_be_bytes();

    let ending = [&[0], SHA256_PREFIX.as_slice(), &Sha256::digest(message)].concat();
    let filling = opened.len().checked_sub(2 + ending.len())?;
    let expected = [&[0, 1], vec![0xff; filling].as_slice(), &ending].concat();
    (*opened == *expected).then_some(())
}
