//! Mandate tokens: a compact JWS (RFC 7515) by which the original's clients say who they are.
//!
//! No nonce ties a token to a connection. In its place it names the proxy, lives for minutes, and registers once: whoever
//! verifies one remembers its [`digest`](MandateToken::digest) until it has expired.

use std::sync::Once;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::VerifyingKey;
use http::Uri;
use jiff::Timestamp;
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::ErrorKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk},
    signature::{self, Verifier},
};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::wire::{
    KeyName, TunnelName,
    registration::{MAX_SESSION_LABEL, same_origin},
};

/// How long a token may hold, in seconds, whatever it says.
const MAX_LIFETIME: i64 = 300;

/// Clocks may differ by this much, in seconds.
const CLOCK_SKEW: i64 = 30;

/// Longest token; the known clients' have about 600 bytes, and mandates come on top.
const MAX_TOKEN: usize = 32 * 1024;

/// What a token is; the keys that sign it may sign other things too.
const TYPE: &str = "https://schema.brickchain.com/v2/mandate-token.json";

/// A token that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MandateToken {
    /// What its key names.
    pub name: KeyName,
    /// The digest of what was signed. Not of the signature, of which there may be several for one text.
    pub digest: [u8; 32],
    /// Seconds since 1970-01-01 UTC after which it isn't accepted any more, clocks considered.
    pub over_at: i64,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "@type")]
    kind: String,
    #[serde(rename = "@timestamp")]
    timestamp: Timestamp,
    uri: String,
    ttl: i64,
}

impl MandateToken {
    /// Checks a token and gives what it stands for.
    ///
    /// `own` are the origins (scheme and authority) by which this proxy may be dialled, `now` seconds since
    /// 1970-01-01 UTC. That a token registers once is the caller's part.
    ///
    /// # Errors
    /// What is wrong with the token, as the client's log will have it.
    pub fn verify(token: &str, own: &[Uri], now: i64) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed("it is too long"));
        }
        use_our_verifiers();
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| TokenError::Malformed("it is no compact JWS, or its algorithm is unknown"))?;
        let jwk = header.jwk.ok_or(TokenError::Malformed("its header has no jwk"))?;
        let key = Key::of(&jwk, header.alg)?;
        let mut validation = Validation::new(header.alg);
        // Its own claims, with names of their own, are checked below.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let decoded = jsonwebtoken::decode::<Claims>(token, &key.decoding(), &validation);
        let claims = decoded.map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => TokenError::BadSignature,
            ErrorKind::Json(_) => TokenError::Malformed("it lacks an @type, an @timestamp, a uri or a ttl"),
            _ => TokenError::Malformed("it is no compact JWS, or a header that has to be understood isn't"),
        })?;
        let over_at = claims.claims.check(own, now)?;
        let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
        Ok(Self { name: key.name(), digest: Sha256::digest(signed).into(), over_at })
    }

    /// The name that a registration with this label is for.
    ///
    /// # Errors
    /// The label is too long.
    pub fn name_with(&self, session: Option<&str>) -> Result<TunnelName, TokenError> {
        match session {
            None => Ok(self.name.tunnel().clone()),
            Some(session) if session.len() <= MAX_SESSION_LABEL => {
                Ok(self.name.tunnel().with_session(session))
            }
            Some(_) => Err(TokenError::BadSessionLabel),
        }
    }
}

impl Claims {
    /// When the token isn't accepted any more.
    fn check(&self, own: &[Uri], now: i64) -> Result<i64, TokenError> {
        if self.kind != TYPE {
            return Err(TokenError::Malformed("it is no mandate token"));
        }
        let dialled = self.uri.parse::<Uri>().ok();
        if !dialled.is_some_and(|dialled| own.iter().any(|own| same_origin(own, &dialled))) {
            return Err(TokenError::WrongAudience { dialled: self.uri.chars().take(200).collect() });
        }
        let made = self.timestamp.as_second();
        let over_at = made + self.ttl.clamp(0, MAX_LIFETIME) + CLOCK_SKEW;
        if now > over_at {
            return Err(TokenError::Expired { seconds: now - made });
        }
        if made > now + CLOCK_SKEW {
            return Err(TokenError::FromTheFuture { seconds: made - now });
        }
        Ok(over_at)
    }
}

/// What is wrong with a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a signed token as this dialect wants it.
    #[error("the mandate token can't be read: {0}")]
    Malformed(&'static str),
    /// Signed with a key of another kind.
    #[error(
        "the mandate token's key can't be used: it has to be ES256 with a key on P-256, or EdDSA with one on Ed25519"
    )]
    BadKey,
    /// The signature doesn't belong to the key and the claims.
    #[error("the mandate token's signature is wrong")]
    BadSignature,
    /// Made for another proxy.
    #[error(
        "this proxy isn't known as {dialled}: dial it by its public URL, or have its operator add that one to also_known_as"
    )]
    WrongAudience {
        /// The URL that the client dialled.
        dialled: String,
    },
    /// Its time is over.
    #[error("the mandate token is {seconds} seconds old: if the client's clock is wrong, set it")]
    Expired {
        /// Its age.
        seconds: i64,
    },
    /// Its time hasn't come.
    #[error("the mandate token is {seconds} seconds ahead of the proxy's clock: set the client's clock")]
    FromTheFuture {
        /// How far ahead.
        seconds: i64,
    },
    /// The session's label is too long.
    #[error("a session's label has {MAX_SESSION_LABEL} bytes at most")]
    BadSessionLabel,
}

/// A key that a token may be signed with.
enum Key {
    P256 { x: [u8; 32], y: [u8; 32] },
    Ed25519(VerifyingKey),
}

impl Key {
    fn of(jwk: &Jwk, algorithm: Algorithm) -> Result<Self, TokenError> {
        match (&jwk.algorithm, algorithm) {
            (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256)
                if key.curve == EllipticCurve::P256 =>
            {
                Ok(Self::P256 { x: coordinate(&key.x)?, y: coordinate(&key.y)? })
            }
            (AlgorithmParameters::OctetKeyPair(key), Algorithm::EdDSA)
                if key.curve == EllipticCurve::Ed25519 =>
            {
                let key = VerifyingKey::from_bytes(&coordinate(&key.x)?);
                key.map(Self::Ed25519).map_err(|_| TokenError::BadKey)
            }
            _ => Err(TokenError::BadKey),
        }
    }

    fn decoding(&self) -> DecodingKey {
        match self {
            // An uncompressed point (SEC 1 section 2.3.3).
            Self::P256 { x, y } => DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()),
            Self::Ed25519(key) => DecodingKey::from_ed_der(key.as_bytes()),
        }
    }

    fn name(&self) -> KeyName {
        match self {
            Self::P256 { x, y } => KeyName::of_p256(x, y),
            Self::Ed25519(key) => KeyName::of_key(key),
        }
    }
}

/// RFC 7518 section 6.2.1.2 and RFC 8037 section 2: all 32 bytes, zeros in front too.
fn coordinate(text: &str) -> Result<[u8; 32], TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(TokenError::BadKey)
}

/// The cryptography that the rest of the program uses, in place of the library's own sets, one of which brings a C library and
/// the other RSA.
fn use_our_verifiers() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: no_signer,
        verifier_factory: verifier,
        key_utils: KeyUtils::new_unimplemented(),
    };
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // A program around this one may have installed another: that one verifies then.
        let _ = PROVIDER.install_default();
    });
}

fn no_signer(_: &Algorithm, _: &EncodingKey) -> jsonwebtoken::errors::Result<Box<dyn JwtSigner>> {
    Err(ErrorKind::InvalidAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> jsonwebtoken::errors::Result<Box<dyn JwtVerifier>> {
    let bytes = key.try_get_as_bytes()?;
    match (algorithm, key.family()) {
        (Algorithm::ES256, AlgorithmFamily::Ec) => Ok(Box::new(Es256(bytes.to_vec()))),
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => {
            let key = bytes.try_into().ok().and_then(|bytes| VerifyingKey::from_bytes(bytes).ok());
            key.map(|key| Box::new(EdDsa(key)) as _).ok_or_else(|| ErrorKind::InvalidKeyFormat.into())
        }
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

struct Es256(Vec<u8>);

impl Verifier<Vec<u8>> for Es256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.0);
        key.verify(message, signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Es256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

struct EdDsa(VerifyingKey);

impl Verifier<Vec<u8>> for EdDsa {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let signature =
            ed25519_dalek::Signature::from_slice(signature).map_err(|_| signature::Error::new())?;
        // As registrations of version 2: no small-order keys.
        self.0.verify_strict(message, &signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for EdDsa {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}
