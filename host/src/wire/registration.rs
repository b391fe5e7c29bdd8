//! Who a client is: a statement that it signs anew for each connection, and how the proxy checks it.
//!
//! A CBOR Web Token (RFC 8392) in a COSE_Sign1 (RFC 9052 section 4.2), signed with EdDSA over Ed25519. The nonce ties
//! it to one connection, the audience to one proxy, so that neither a replay nor a relay registers anything.

use coset::{
    Algorithm, CborSerializable, CoseKey, CoseKeyBuilder, CoseSign1, CoseSign1Builder, HeaderBuilder, Label,
    RegisteredLabel,
    cbor::Value,
    cwt::{ClaimName, ClaimsSet, ClaimsSetBuilder, Timestamp},
    iana::{self, CwtClaimName, EnumI64},
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use http::Uri;

use super::{TunnelName, message::Refusal};

/// Bytes of a nonce.
pub const NONCE_LENGTH: usize = 32;

/// How long a statement may hold, in seconds.
pub const MAX_LIFETIME: i64 = 60;

/// Clocks may differ by this much, in seconds. The nonce already keeps old statements out; the time is a second lock.
const CLOCK_SKEW: i64 = 30;

/// Longest label of a session, in bytes.
pub const MAX_SESSION_LABEL: usize = 128;

/// Longest encoded statement; a genuine one takes about 350 bytes.
const MAX_STATEMENT: usize = 4096;

/// Keeps a signature made here from being taken for one made elsewhere with the same key.
const DOMAIN_SEPARATION: &[u8] = b"tunnel registration v2";

/// Key 1 of a `cnf` claim: a COSE_Key (RFC 8747 section 3.2).
const CNF_COSE_KEY: i64 = 1;

const VERSION_CLAIM: &str = "version";
const SESSION_CLAIM: &str = "session";
const HOSTNAME_CLAIM: &str = "hostname";
const INVITATION_CLAIM: &str = "invitation";

/// Longest text of an invitation, in bytes; ours have 61.
pub const MAX_INVITATION: usize = 128;

/// What a client states.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    /// The nonce of this connection.
    pub nonce: [u8; NONCE_LENGTH],
    /// The exact URL that the client dialled.
    pub audience: String,
    /// Seconds since 1970-01-01 UTC.
    pub issued_at: i64,
    /// Seconds since 1970-01-01 UTC; at most [`MAX_LIFETIME`] after `issued_at`.
    pub expires_at: i64,
    /// A label that gives this session a name of its own.
    pub session: Option<String>,
    /// A chosen name that is wanted in place of the key's.
    pub hostname: Option<TunnelName>,
    /// A secret that lets the key in. It is signed with the rest, so that nobody takes it out and signs another statement for it
    /// on the way.
    pub invitation: Option<String>,
}

impl std::fmt::Debug for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Statement")
            .field("audience", &self.audience)
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .field("session", &self.session)
            .field("hostname", &self.hostname)
            .field("invited", &self.invitation.is_some())
            .finish_non_exhaustive()
    }
}

impl Statement {
    /// The statement signed with a key, as an encoded COSE_Sign1.
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let public = CoseKeyBuilder::new_okp_key()
            .param(iana::OkpKeyParameter::Crv.to_i64(), Value::from(iana::EllipticCurve::Ed25519.to_i64()))
            .param(iana::OkpKeyParameter::X.to_i64(), Value::Bytes(key.verifying_key().to_bytes().to_vec()))
            .build();
        let public = coset::AsCborValue::to_cbor_value(public).expect("an OKP key is plain CBOR");
        let mut claims = ClaimsSetBuilder::new()
            .audience(self.audience.clone())
            .issued_at(Timestamp::WholeSeconds(self.issued_at))
            .expiration_time(Timestamp::WholeSeconds(self.expires_at))
            .claim(CwtClaimName::Cnf, Value::Map(vec![(Value::from(CNF_COSE_KEY), public)]))
            .claim(CwtClaimName::Nonce, Value::Bytes(self.nonce.to_vec()))
            .text_claim(VERSION_CLAIM.into(), Value::from(2));
        if let Some(session) = &self.session {
            claims = claims.text_claim(SESSION_CLAIM.into(), Value::Text(session.clone()));
        }
        if let Some(hostname) = &self.hostname {
            claims = claims.text_claim(HOSTNAME_CLAIM.into(), Value::Text(hostname.to_string()));
        }
        if let Some(invitation) = &self.invitation {
            claims = claims.text_claim(INVITATION_CLAIM.into(), Value::Text(invitation.clone()));
        }
        let claims = claims.build().to_vec().expect("claims are plain CBOR");
        CoseSign1Builder::new()
            .protected(HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).build())
            .payload(claims)
            .create_signature(DOMAIN_SEPARATION, |bytes| key.sign(bytes).to_vec())
            .build()
            .to_vec()
            .expect("a signed statement is plain CBOR")
    }

    /// Checks a signed statement and gives what it says, and the key that signed it.
    ///
    /// `own` are the origins (scheme and authority) by which this proxy may be dialled, `now` seconds since
    /// 1970-01-01 UTC. That the nonce is used once is the caller's part: it forgets it with the first attempt.
    ///
    /// # Errors
    /// What is wrong with the statement, as the client will read it.
    pub fn verify(
        signed: &[u8],
        nonce: &[u8; NONCE_LENGTH],
        own: &[Uri],
        now: i64,
    ) -> Result<(Self, VerifyingKey), StatementError> {
        if signed.len() > MAX_STATEMENT {
            return Err(StatementError::Malformed("it is too long"));
        }
        let sign1 =
            CoseSign1::from_slice(signed).map_err(|_| StatementError::Malformed("it is no COSE_Sign1"))?;
        if sign1.protected.header.alg != Some(Algorithm::Assigned(iana::Algorithm::EdDSA)) {
            return Err(StatementError::Malformed("its algorithm must be EdDSA"));
        }
        let payload = sign1.payload.as_deref().ok_or(StatementError::Malformed("it has no payload"))?;
        let claims = ClaimsSet::from_slice(payload)
            .map_err(|_| StatementError::Malformed("its payload is no claims set"))?;
        let key = public_key(&claims)?;
        sign1.verify_signature(DOMAIN_SEPARATION, |signature, data| {
            let signature = Signature::from_slice(signature).map_err(|_| StatementError::BadSignature)?;
            key.verify_strict(data, &signature).map_err(|_| StatementError::BadSignature)
        })?;
        let statement = Self::from_claims(claims)?;
        statement.check(nonce, own, now)?;
        Ok((statement, key))
    }

    /// The name that this statement asks for. Whether its key may have it is for the proxy to say if it was chosen.
    pub fn name(&self, key: &VerifyingKey) -> TunnelName {
        match (&self.hostname, &self.session) {
            (Some(hostname), _) => hostname.clone(),
            (None, Some(session)) => TunnelName::of_key(key).with_session(session),
            (None, None) => TunnelName::of_key(key),
        }
    }

    fn from_claims(claims: ClaimsSet) -> Result<Self, StatementError> {
        let version = claim(&claims, &ClaimName::Text(VERSION_CLAIM.into())).and_then(Value::as_integer);
        if version != Some(2.into()) {
            return Err(StatementError::WrongVersion);
        }
        let nonce = claim(&claims, &ClaimName::Assigned(CwtClaimName::Nonce)).and_then(Value::as_bytes);
        let nonce = nonce.and_then(|nonce| nonce.as_slice().try_into().ok());
        let session = match claim(&claims, &ClaimName::Text(SESSION_CLAIM.into())) {
            None => None,
            Some(Value::Text(session)) if (1..=MAX_SESSION_LABEL).contains(&session.len()) => {
                Some(session.clone())
            }
            Some(_) => return Err(StatementError::BadSessionLabel),
        };
        let hostname = match claim(&claims, &ClaimName::Text(HOSTNAME_CLAIM.into())) {
            None => None,
            // What looks like a key's name would be somebody else's.
            Some(Value::Text(text)) => match text.parse::<TunnelName>() {
                Ok(name) if name.is_chosen() => Some(name),
                _ => return Err(StatementError::BadHostname),
            },
            Some(_) => return Err(StatementError::BadHostname),
        };
        let invitation = match claim(&claims, &ClaimName::Text(INVITATION_CLAIM.into())) {
            None => None,
            Some(Value::Text(text)) if (1..=MAX_INVITATION).contains(&text.len()) => Some(text.clone()),
            Some(_) => return Err(StatementError::Malformed("its invitation is none")),
        };
        Ok(Self {
            nonce: nonce.ok_or(StatementError::Malformed("it has no nonce of 32 bytes"))?,
            issued_at: seconds(claims.issued_at).ok_or(StatementError::Malformed("it has no issue time"))?,
            expires_at: seconds(claims.expiration_time)
                .ok_or(StatementError::Malformed("it has no expiry"))?,
            audience: claims.audience.ok_or(StatementError::Malformed("it has no audience"))?,
            session,
            hostname,
            invitation,
        })
    }

    fn check(&self, nonce: &[u8; NONCE_LENGTH], own: &[Uri], now: i64) -> Result<(), StatementError> {
        if self.nonce != *nonce {
            return Err(StatementError::WrongNonce);
        }
        let dialled = self.audience.parse::<Uri>().ok();
        if !dialled.is_some_and(|dialled| own.iter().any(|own| same_origin(own, &dialled))) {
            return Err(StatementError::WrongAudience { dialled: self.audience.chars().take(200).collect() });
        }
        if self.expires_at.saturating_sub(self.issued_at) > MAX_LIFETIME {
            return Err(StatementError::LivesTooLong);
        }
        if now > self.expires_at.saturating_add(CLOCK_SKEW) {
            return Err(StatementError::Expired { seconds: now.saturating_sub(self.issued_at) });
        }
        if self.issued_at > now.saturating_add(CLOCK_SKEW) {
            return Err(StatementError::FromTheFuture { seconds: self.issued_at.saturating_sub(now) });
        }
        Ok(())
    }
}

/// What is wrong with a statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Not a signed claims set as the protocol wants it.
    #[error("the registration can't be read: {0}")]
    Malformed(&'static str),
    /// Made for another version of the protocol.
    #[error(
        "the registration is for another version of the protocol: use a client and a proxy of one version"
    )]
    WrongVersion,
    /// The session's label is empty, too long, or no text.
    #[error("a session's label is 1 to {MAX_SESSION_LABEL} bytes of text")]
    BadSessionLabel,
    /// The wanted name is none that can be chosen.
    #[error(
        "a wanted name is a label under the proxy's domain (blog) or a whole hostname (www.example.org), of letters, digits and \
         hyphens; one in another script is written as its xn-- form; one that looks like a key's is never given"
    )]
    BadHostname,
    /// The signature doesn't belong to the key and the claims.
    #[error("the registration's signature is wrong")]
    BadSignature,
    /// Made for another connection.
    #[error("the registration was signed for another connection")]
    WrongNonce,
    /// Made for another proxy.
    #[error(
        "this proxy isn't known as {dialled}: dial it by its public URL, or have its operator add that one to also_known_as"
    )]
    WrongAudience {
        /// The URL that the client dialled.
        dialled: String,
    },
    /// Expiry too far from issue.
    #[error("a registration holds {MAX_LIFETIME} seconds at most")]
    LivesTooLong,
    /// Its time is over.
    #[error("the registration is {seconds} seconds old: if the client's clock is wrong, set it")]
    Expired {
        /// Its age.
        seconds: i64,
    },
    /// Its time hasn't come.
    #[error("the registration is {seconds} seconds ahead of the proxy's clock: set the client's clock")]
    FromTheFuture {
        /// How far ahead.
        seconds: i64,
    },
}

impl StatementError {
    /// A stable code for programs, lower case with dashes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::WrongVersion => "wrong-version",
            Self::BadSessionLabel => "bad-session-label",
            Self::BadHostname => "bad-hostname",
            Self::BadSignature => "bad-signature",
            Self::WrongNonce => "wrong-nonce",
            Self::WrongAudience { .. } => "wrong-audience",
            Self::LivesTooLong => "lives-too-long",
            Self::Expired { .. } => "expired",
            Self::FromTheFuture { .. } => "from-the-future",
        }
    }
}

impl From<StatementError> for Refusal {
    fn from(error: StatementError) -> Self {
        // A clock may be set while the client goes on trying; everything else stays wrong.
        let retry = matches!(error, StatementError::Expired { .. } | StatementError::FromTheFuture { .. });
        Self { code: error.code().into(), text: error.to_string(), retry, retry_after: None }
    }
}

/// The Ed25519 key in the `cnf` claim.
fn public_key(claims: &ClaimsSet) -> Result<VerifyingKey, StatementError> {
    const NO_KEY: StatementError = StatementError::Malformed("its cnf claim has no Ed25519 key");
    let confirmation =
        claim(claims, &ClaimName::Assigned(CwtClaimName::Cnf)).and_then(Value::as_map).ok_or(NO_KEY)?;
    let key = confirmation.iter().find(|(label, _)| *label == Value::from(CNF_COSE_KEY)).ok_or(NO_KEY)?;
    let key: CoseKey = coset::AsCborValue::from_cbor_value(key.1.clone()).map_err(|_| NO_KEY)?;
    let parameter = |wanted: iana::OkpKeyParameter| {
        let label = Label::Int(wanted.to_i64());
        key.params.iter().find(|(name, _)| *name == label).map(|(_, value)| value)
    };
    let curve = parameter(iana::OkpKeyParameter::Crv).and_then(Value::as_integer);
    if key.kty != RegisteredLabel::Assigned(iana::KeyType::OKP)
        || curve != Some(iana::EllipticCurve::Ed25519.to_i64().into())
    {
        return Err(NO_KEY);
    }
    let x = parameter(iana::OkpKeyParameter::X).and_then(Value::as_bytes).ok_or(NO_KEY)?;
    let x = x.as_slice().try_into().map_err(|_| NO_KEY)?;
    VerifyingKey::from_bytes(x).map_err(|_| NO_KEY)
}

fn claim<'a>(claims: &'a ClaimsSet, wanted: &ClaimName) -> Option<&'a Value> {
    claims.rest.iter().find(|(name, _)| name == wanted).map(|(_, value)| value)
}

fn seconds(timestamp: Option<Timestamp>) -> Option<i64> {
    match timestamp {
        Some(Timestamp::WholeSeconds(seconds)) => Some(seconds),
        _ => None,
    }
}

/// Compares scheme, host and port of two URLs. `ws` and `http` are one scheme here, as are `wss` and `https`.
pub fn same_origin(a: &Uri, b: &Uri) -> bool {
    origin(a).is_some() && origin(a) == origin(b)
}

fn origin(uri: &Uri) -> Option<(bool, String, u16)> {
    let secure = match uri.scheme_str()? {
        "http" | "ws" => false,
        "https" | "wss" => true,
        _ => return None,
    };
    let host = uri.host()?.trim_end_matches('.').to_ascii_lowercase();
    Some((secure, host, uri.port_u16().unwrap_or(if secure { 443 } else { 80 })))
}
