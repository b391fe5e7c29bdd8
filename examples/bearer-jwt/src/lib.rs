//! Visitors need a token (JWT, RFC 7519) that an identity provider has signed. The provider's keys are fetched from its JWKS
//! document and kept in `kv` for all instances; the timer fetches them again.

mod keys;
mod signature;
mod token;

use std::time::Duration;

use guest_sdk::prelude::*;
use keys::Keys;
use serde::Deserialize;
use token::Token;

/// What the operator writes under `config`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The URL of the provider's keys.
    jwks: String,
    /// Who has to have issued the token (`iss`).
    issuer: String,
    /// Whom it has to be for (`aud`).
    audience: String,
    /// How far the provider's clock may be from ours, in seconds.
    #[serde(default = "leeway")]
    leeway: u64,
    /// The header in which the service learns who came (`sub`).
    #[serde(default = "header")]
    header: String,
}

fn leeway() -> u64 {
    30
}

fn header() -> String {
    "x-user".to_owned()
}

struct BearerJwt {
    config: Config,
    keys: Keys,
}

#[guest_sdk::plugin]
impl Plugin for BearerJwt {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if !config.jwks.starts_with("https://") && !config.jwks.starts_with("http://") {
            return Err(Fault::new(format!("jwks: {:?} is no absolute URL", config.jwks)));
        }
        let keys = Keys::new(config.jwks.clone());
        Ok(Self { config, keys })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        let Some(token) = request.bearer_token() else {
            return Respond::new(401)
                .header("www-authenticate", "Bearer")
                .text("A token is needed here.\n")
                .into();
        };
        match self.subject(&token)? {
            Ok(subject) => {
                request.set_note("user", &subject)?;
                Forward::new().set_header(&self.config.header, subject).into()
            }
            Err(reason) => {
                info!("refused a token: {reason}");
                let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{reason}\"");
                Respond::new(401)
                    .header("www-authenticate", challenge)
                    .text(format!("The token {reason}.\n"))
                    .into()
            }
        }
    }

    fn on_tick(&self) -> Result<()> {
        self.keys.fetch()?;
        Ok(())
    }
}

impl BearerJwt {
    /// The fault is ours, e.g. no keys can be had; the words inside are what is wrong with the token.
    fn subject(&self, token: &str) -> Result<Result<String, &'static str>> {
        let token = match Token::read(token) {
            Ok(token) => token,
            Err(reason) => return Ok(Err(reason)),
        };
        let Some(key) = self.keys.find(&token)? else { return Ok(Err("is signed with an unknown key")) };
        if !key.verifies(&token) {
            return Ok(Err("has a wrong signature"));
        }
        Ok(self.checked(token))
    }

    fn checked(&self, token: Token) -> Result<String, &'static str> {
        let Config { issuer, audience, leeway, .. } = &self.config;
        let now = Duration::from_secs(clock::unix_seconds()).as_secs_f64();
        let leeway = *leeway as f64;
        let claims = token.claims;
        if claims.exp + leeway < now {
            return Err("has expired");
        }
        if claims.nbf.is_some_and(|from| from - leeway > now) {
            return Err("isn't valid yet");
        }
        if claims.iss != *issuer {
            return Err("is of another issuer");
        }
        if !claims.aud.contains(audience) {
            return Err("is for another audience");
        }
        Ok(claims.sub)
    }
}

#[cfg(test)]
mod tests;
