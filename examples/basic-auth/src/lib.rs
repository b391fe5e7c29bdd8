//! Visitors need a user name and a password (HTTP Basic authentication, RFC 7617).
//!
//! The origin learns who came from the header `x-user`, later plugins from the note `user`; neither sees the password.

use std::collections::BTreeMap;

use guest_sdk::prelude::*;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What the operator writes under `config`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// What the browser shows when it asks.
    #[serde(default = "realm")]
    realm: String,
    /// User names, each with the SHA-256 of its password in hexadecimal digits.
    users: BTreeMap<String, String>,
}

fn realm() -> String {
    "restricted".to_owned()
}

struct BasicAuth {
    challenge: String,
    users: BTreeMap<String, [u8; 32]>,
}

#[guest_sdk::plugin]
impl Plugin for BasicAuth {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let mut users = BTreeMap::new();
        for (user, hash) in config.users {
            let mut digest = [0; 32];
            hex::decode_to_slice(hash, &mut digest).map_err(|_| {
                Fault::new(format!("users.{user}: give 64 hexadecimal digits: printf PASSWORD | sha256sum"))
            })?;
            users.insert(user, digest);
        }
        Ok(Self { challenge: format!("Basic realm={:?}, charset=\"UTF-8\"", config.realm), users })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        match request.basic_credentials() {
            Some((user, password)) if self.knows(&user, &password) => {
                request.set_note("user", &user)?;
                Forward::new().set_header("x-user", user).remove_header("authorization").into()
            }
            _ => Respond::new(401)
                .header("www-authenticate", &self.challenge)
                .text("A user name and a password are needed here.\n")
                .into(),
        }
    }
}

impl BasicAuth {
    /// Takes the same time for a wrong password, however much of it is right, and for an unknown user.
    fn knows(&self, user: &str, password: &str) -> bool {
        let known = self.users.get(user);
        let equal = known.unwrap_or(&[0; 32]).ct_eq(&Sha256::digest(password));
        known.is_some() & bool::from(equal)
    }
}

#[cfg(test)]
mod tests {
    use guest_sdk::testing::{Host, Loaded, get};

    use super::*;

    /// The password is `secret`.
    const ANNA: &str = "
        realm = 'staff'
        [users]
        anna = '2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b'
    ";

    fn anna() -> Loaded<BasicAuth> {
        Host::new().load(ANNA)
    }

    #[test]
    fn the_right_password_opens_and_stays_here() {
        let request = get("/").header("authorization", "Basic YW5uYTpzZWNyZXQ=").header("x-user", "admin");
        let forwarded = anna().request(request).forwarded();
        assert_eq!(forwarded.header("x-user"), Some("anna"));
        assert_eq!(forwarded.header("authorization"), None);
        assert_eq!(forwarded.note("user").as_deref(), Some("anna"));
    }

    #[test]
    fn everything_else_is_asked_for_a_password() {
        // Nothing; a wrong password; an unknown user; no base64; no colon; another scheme.
        for credentials in
            ["", "Basic YW5uYTp3cm9uZw==", "Basic Ym9iOnNlY3JldA==", "Basic !", "Basic YW5uYQ==", "Bearer x"]
        {
            let answer = anna().request(get("/").header("authorization", credentials)).answered();
            assert_eq!(answer.status, 401, "{credentials}");
            assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"staff\", charset=\"UTF-8\""));
        }
    }

    #[test]
    fn a_wrong_configuration_is_explained() {
        let fault =
            |config: &str| Host::new().try_load::<BasicAuth>(config).err().expect("it is wrong").to_string();
        assert_eq!(fault("realm = 'staff'"), "config: missing field `users`");
        assert_eq!(
            fault("users.anna = 'secret'"),
            "users.anna: give 64 hexadecimal digits: printf PASSWORD | sha256sum"
        );
    }
}
