//! Lets in who brings the right token.

#![forbid(unsafe_code)]

use guest_sdk::prelude::*;
use serde::Deserialize;

/// What stands in the plugin's configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    token: String,
}

struct Auth(Config);

#[guest_sdk::plugin]
impl Plugin for Auth {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if config.token.len() < 8 {
            return Err(Fault::new("token: give it 8 characters or more"));
        }
        Ok(Self(config))
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        match request.bearer_token() {
            Some(token) if token == self.0.token => Forward::new().remove_header("authorization").into(),
            _ => Respond::new(401).header("www-authenticate", "Bearer").text("A token is needed here.\n").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use guest_sdk::testing::{Host, get};

    use super::*;

    #[test]
    fn the_token_opens_the_door() {
        let auth = Host::new().load::<Auth>("token = 'open sesame'");
        let passed = auth.request(get("/").header("authorization", "Bearer open sesame")).forwarded();
        assert_eq!(passed.header("authorization"), None);
        assert_eq!(auth.request(get("/")).answered().status, 401);
        assert_eq!(auth.request(get("/").header("authorization", "Bearer abc")).answered().status, 401);
    }
}
