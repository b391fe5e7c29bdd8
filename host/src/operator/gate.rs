//! Who may ask what: a token where one is wanted, and no page of a browser, whatever it got hold of.
//!
//! A page that an operator looks at can make his browser send requests to his own machine, and by rebinding its name in DNS
//! also read the answers. Such requests name the page (`Origin`, `Sec-Fetch-Site`), or a host that isn't ours.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts, uri::Authority};
use sha2::{Digest, Sha256};

use super::{PLAIN, answer};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Whether the process lives, and takes exchanges. Says nothing about anybody.
    Health,
    /// Numbers.
    Metrics,
    /// All else.
    Api,
}

/// Doors that stand open to whoever reaches the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// [`Door::Health`].
    pub health: bool,
    /// [`Door::Metrics`].
    pub metrics: bool,
    /// [`Door::Api`].
    pub api: bool,
}

impl Open {
    /// Every door: for a listener that only this machine reaches.
    pub const ALL: Self = Self { health: true, metrics: true, api: true };
}

/// What an operator's program has to show. Only its digest is kept: two digests are compared, so that the time this takes
/// says nothing about the token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// The token with these bytes.
    pub fn new(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    fn is(&self, shown: &[u8]) -> bool {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        self.0.iter().zip(shown).fold(0, |differ, (own, other)| differ | (own ^ other)) == 0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Who may ask what.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Opens every door.
    pub token: Option<Token>,
    /// Doors that need none.
    pub open: Open,
    /// Only this machine reaches the listener. Then a request that shows no token has to name this machine or an address.
    pub loopback: bool,
}

impl Gate {
    /// A gate for a listener that only this machine reaches.
    pub fn local() -> Self {
        Self { token: None, open: Open::ALL, loopback: true }
    }

    /// Whether this request may pass.
    ///
    /// # Errors
    /// The answer that it gets instead.
    // It is taken apart where it arrives.
    #[expect(clippy::result_large_err)]
    pub fn admits(&self, door: Door, request: &Parts) -> Result<(), Response<String>> {
        let headers = &request.headers;
        if comes_from_a_page(headers) {
            return Err(forbidden("pages of browsers have no business here\n"));
        }
        if self.token.as_ref().is_some_and(|token| shown(headers).is_some_and(|shown| token.is(shown))) {
            return Ok(());
        }
        let open = match door {
            Door::Health => self.open.health,
            Door::Metrics => self.open.metrics,
            Door::Api => self.open.api,
        };
        if !open && self.token.is_none() {
            return Err(forbidden("this is shut: the settings name no token that would open it\n"));
        }
        if !open {
            let text = "show the token: Authorization: Bearer TOKEN\n".to_owned();
            let mut response = answer(StatusCode::UNAUTHORIZED, PLAIN, text);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Err(response);
        }
        if self.loopback && door != Door::Health && !names_an_address(request) {
            return Err(forbidden("ask for this by an address or as localhost, or show a token\n"));
        }
        Ok(())
    }
}

fn forbidden(text: &str) -> Response<String> {
    answer(StatusCode::FORBIDDEN, PLAIN, text.to_owned())
}

/// There are no pages here, so that whoever comes from one comes from another's. What a user typed into the address bar
/// (`none`) may be seen.
fn comes_from_a_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    headers.contains_key(header::ORIGIN) || site.is_some_and(|site| site.as_bytes() != b"none")
}

/// The token that is shown (RFC 6750 section 2.1).
fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    let (scheme, token) = (value.get(..7)?, value.get(7..)?);
    (values.next().is_none() && scheme.eq_ignore_ascii_case(b"bearer ")).then(|| token.trim_ascii())
}

/// Whether the request's host is one that no rebinding can make: an address, or a name that means this machine by itself.
fn names_an_address(request: &Parts) -> bool {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = match (request.uri.authority(), hosts.next()) {
        (Some(authority), _) => Some(authority.clone()),
        (None, Some(host)) => host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()),
        (None, None) => None,
    };
    let Some(host) = host.filter(|_| hosts.next().is_none()) else { return false };
    let host = host.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost") || host.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn status(gate: &Gate, door: Door, lines: &[(&str, &str)]) -> u16 {
        let mut request = Request::get("/");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        gate.admits(door, &parts).map_or_else(|response| response.status().as_u16(), |()| 200)
    }

    #[test]
    fn without_a_token_only_this_machine_by_its_own_names() {
        let gate = Gate::local();
        for (host, expected) in [
            ("127.0.0.1:6520", 200),
            ("[::1]:6520", 200),
            ("10.0.0.1", 200),
            ("localhost:6520", 200),
            ("a.localhost", 200),
            ("rebound.example:6520", 403),
            ("localhost.example", 403),
            ("", 403),
        ] {
            assert_eq!(status(&gate, Door::Api, &[("host", host)]), expected, "{host}");
            assert_eq!(status(&gate, Door::Metrics, &[("host", host)]), expected, "{host}");
            assert_eq!(status(&gate, Door::Health, &[("host", host)]), 200, "{host}");
        }
        assert_eq!(status(&gate, Door::Api, &[]), 403);
        assert_eq!(status(&gate, Door::Api, &[("host", "localhost"), ("host", "localhost")]), 403);
    }

    #[test]
    fn no_page_passes_whatever_it_has() {
        let token = Some(Token::new(b"secret"));
        for gate in [Gate::local(), Gate { token, ..Gate::local() }] {
            let with = |name, value| {
                let bearer = ("authorization", "Bearer secret");
                status(&gate, Door::Api, &[("host", "localhost"), bearer, (name, value)])
            };
            assert_eq!(with("origin", "https://evil.example"), 403);
            assert_eq!(with("origin", "null"), 403);
            assert_eq!(with("sec-fetch-site", "cross-site"), 403);
            assert_eq!(with("sec-fetch-site", "same-site"), 403);
            assert_eq!(with("sec-fetch-site", "none"), 200);
        }
    }

    #[test]
    fn a_token_is_asked_for_where_a_door_is_not_open() {
        let open = Open { health: true, metrics: false, api: false };
        let gate = Gate { token: Some(Token::new(b"secret")), open, loopback: false };
        let with = |door, value| status(&gate, door, &[("host", "any.example"), ("authorization", value)]);
        assert_eq!(status(&gate, Door::Health, &[]), 200);
        for door in [Door::Metrics, Door::Api] {
            assert_eq!(status(&gate, door, &[("host", "127.0.0.1")]), 401);
            assert_eq!(with(door, "Bearer secret"), 200);
            assert_eq!(with(door, "bearer secret"), 200);
            for wrong in ["Bearer secre", "Bearer secrets", "Bearer ", "Basic secret", "secret", "Bearer"] {
                assert_eq!(with(door, wrong), 401, "{wrong}");
            }
        }
        let twice = [("authorization", "Bearer secret"), ("authorization", "Bearer secret")];
        assert_eq!(status(&gate, Door::Api, &twice), 401);
        let shut = Gate { token: None, ..gate };
        assert_eq!(status(&shut, Door::Api, &[("authorization", "Bearer secret")]), 403);
    }
}
