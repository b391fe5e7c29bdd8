//! Each user may send so many requests in a window of time; then 429 with `Retry-After`. The count lives in `kv`: all instances,
//! and with a shared store all proxies, count together.

use std::time::Duration;

use guest_sdk::prelude::*;
use serde::Deserialize;

/// What the operator writes under `config`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    requests: i64,
    /// The window, in seconds.
    seconds: u64,
    /// The note in which an earlier plugin left the user's name. Without one, visitors are told apart by address.
    #[serde(default = "note")]
    note: String,
}

fn note() -> String {
    "user".to_owned()
}

struct RateByUser(Config);

#[guest_sdk::plugin]
impl Plugin for RateByUser {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if config.requests < 1 || config.seconds < 1 {
            return Err(Fault::new("requests and seconds are at least 1"));
        }
        Ok(Self(config))
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        let Config { requests, seconds, .. } = self.0;
        // Windows begin at the same time for everybody, so that the number of this one can be part of the key.
        let now = clock::unix_seconds();
        let (window, left) = (now / seconds, seconds - now % seconds);
        let key = format!("{window}/{}", self.who(request));
        let count = kv::open()?.increment(&key, 1, Some(Duration::from_secs(left)))?;
        if count <= requests {
            return Forward::new().into();
        }
        metrics::count("rate_exceeded", &[]);
        Respond::new(429)
            .header("retry-after", left.to_string())
            .text(format!("That is more than {requests} requests in {seconds} s. Come again in {left} s.\n"))
            .into()
    }
}

impl RateByUser {
    fn who(&self, request: &Request) -> String {
        let user = request.note(&self.0.note).map(|user| format!("user/{user}"));
        let mut who = user.unwrap_or_else(|| {
            // A name can't be taken for an address, nor an address for a name.
            request.visitor_address().map_or("nobody".to_owned(), |address| format!("address/{address}"))
        });
        // A key has 256 bytes at most.
        who.truncate(who.floor_char_boundary(200));
        who
    }
}

#[cfg(test)]
mod tests {
    use guest_sdk::testing::{Host, get};

    use super::*;

    const TWO: &str = "requests = 2\nseconds = 60";

    #[test]
    fn who_sends_too_much_waits_for_the_next_window() {
        let host = Host::new().at(1_700_000_040 - 20);
        let plugin = host.load::<RateByUser>(TWO);
        for _ in 0..2 {
            let _ = plugin.request(get("/")).forwarded();
        }
        let answer = plugin.request(get("/")).answered();
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("20")));
        assert_eq!(host.metric("rate_exceeded", &[]), 1.0);
        host.advance(Duration::from_secs(20));
        let _ = plugin.request(get("/")).forwarded();
    }

    #[test]
    fn users_and_addresses_are_counted_apart() {
        let plugin = Host::new().load::<RateByUser>("requests = 1\nseconds = 60");
        for request in [
            get("/"),
            get("/").from("192.0.2.1"),
            get("/").note("user", "anna"),
            get("/").note("user", "192.0.2.1"),
            get("/").note("user", &"x".repeat(1000)),
        ] {
            let _ = plugin.request(request.clone()).forwarded();
            assert_eq!(plugin.request(request).answered().status, 429);
        }
    }

    #[test]
    fn it_needs_a_store() {
        let fault = Host::new().without_kv().load::<RateByUser>(TWO).request(get("/")).failed();
        assert!(fault.message().contains("grant = { kv = true }"));
    }
}
