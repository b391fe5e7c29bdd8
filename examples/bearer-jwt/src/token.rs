//! A token taken apart (JWS compact serialisation, RFC 7515). Nothing in it can be believed before its signature is checked.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, de::DeserializeOwned};

pub(crate) struct Token {
    pub(crate) header: Header,
    pub(crate) claims: Claims,
    /// What was signed: header and claims as they stand in the token.
    pub(crate) signed: String,
    pub(crate) signature: Vec<u8>,
}

#[derive(Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: String,
    pub(crate) kid: Option<String>,
    /// Names extensions that must be understood. We understand none.
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) aud: Audience,
    /// Seconds since 1970, possibly with a fraction.
    pub(crate) exp: f64,
    pub(crate) nbf: Option<f64>,
}

/// One, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    pub(crate) fn contains(&self, wanted: &str) -> bool {
        match self {
            Self::One(audience) => audience == wanted,
            Self::Several(audiences) => audiences.iter().any(|audience| audience == wanted),
        }
    }
}

impl Token {
    pub(crate) fn read(text: &str) -> Result<Self, &'static str> {
        let (signed, signature) = text.rsplit_once('.').ok_or("isn't a JWT")?;
        let (header, claims) = signed.split_once('.').ok_or("isn't a JWT")?;
        let header: Header = json(header).ok_or("isn't a JWT")?;
        if header.crit.is_some() {
            return Err("uses extensions that aren't known here");
        }
        let claims = json(claims).ok_or("lacks one of iss, sub, aud, exp")?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| "isn't a JWT")?;
        Ok(Self { header, claims, signed: signed.to_owned(), signature })
    }
}

fn json<T: DeserializeOwned>(base64: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(base64).ok()?).ok()
}
