//! Only webhooks with the right signature reach the service: those of GitHub (`X-Hub-Signature-256`) and of Stripe
//! (`Stripe-Signature`). Both are HMAC-SHA256 of the whole body, with a key that only the sender and the operator have.

mod path;
mod signature;

use guest_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// What the operator writes under `config`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    sender: Sender,
    /// The name of the granted secret that holds the key.
    #[serde(default = "secret")]
    secret: String,
    /// Stripe only: how old a webhook may be, in seconds.
    #[serde(default = "tolerance")]
    tolerance: u64,
    /// What needs a signature: these paths and all below them.
    #[serde(default = "everything")]
    paths: Vec<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Sender {
    #[serde(rename = "github")]
    GitHub,
    Stripe,
}

fn secret() -> String {
    "webhook".to_owned()
}

fn tolerance() -> u64 {
    300
}

fn everything() -> Vec<String> {
    vec!["/".to_owned()]
}

struct WebhookVerify {
    config: Config,
    key: Vec<u8>,
}

/// What the head said, until the body is there.
#[derive(Serialize, Deserialize, Default)]
struct Claim {
    /// Goes before the body into the signature.
    prefix: String,
    /// Any one of them is enough: keys are rotated.
    signatures: Vec<[u8; 32]>,
}

#[guest_sdk::plugin]
impl Plugin for WebhookVerify {
    type Config = Config;
    type State = Claim;

    fn new(config: Config) -> Result<Self> {
        if config.paths.is_empty() || config.paths.iter().any(|path| !path.starts_with('/')) {
            return Err(Fault::new(
                "paths: name at least one, each beginning with /, or leave them out for all",
            ));
        }
        let key = secrets::text(&config.secret)?.trim_end().to_owned().into_bytes();
        if key.is_empty() {
            return Err(Fault::new(format!(
                "the secret {:?} is empty: anybody could sign with that; give it the sender's key",
                config.secret
            )));
        }
        Ok(Self { config, key })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict<Claim>> {
        let path = request.path();
        if !self.config.paths.iter().any(|below| path::may_be_below(&path, below)) {
            return Forward::new().into();
        }
        // An upgrade has no body, so that nobody would be asked about its signature.
        if request.is_websocket() {
            return refused().into();
        }
        let claim = match self.config.sender {
            Sender::GitHub => {
                request.header_text("x-hub-signature-256").and_then(|text| signature::github(&text))
            }
            Sender::Stripe => request
                .header_text("stripe-signature")
                .and_then(|text| signature::stripe(&text, clock::unix_seconds(), self.config.tolerance)),
        };
        match claim {
            Some(claim) => Forward::new().whole_body().state(claim).into(),
            None => refused().into(),
        }
    }

    fn on_request_body(&self, request: &Request, body: Piece, claim: &mut Claim) -> Result<BodyVerdict> {
        if !signature::holds(claim, &body.bytes, &self.key) {
            return refused().into();
        }
        request.set_note("webhook", "verified")?;
        Body::keep().into()
    }
}

/// The same words whatever was wrong: whoever guesses learns nothing.
fn refused() -> Respond {
    warn!("refused a webhook");
    metrics::count("webhooks_refused", &[]);
    Respond::new(401).text("The signature is missing, too old or wrong.\n")
}

#[cfg(test)]
mod tests;
