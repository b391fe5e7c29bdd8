//! The plugin against a fake host.

use guest_sdk::testing::{Host, Loaded, RequestBuilder, post};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::*;

const NOW: u64 = 1_700_000_000;

fn loaded(config: &str) -> Loaded<WebhookVerify> {
    // A file's last line ends with a newline that isn't part of the key.
    Host::new().at(NOW).secret("webhook", "It's a Secret to Everybody\n").load(config)
}

fn sign(text: &str) -> String {
    let key = Hmac::<Sha256>::new_from_slice(b"It's a Secret to Everybody").expect("any length will do");
    hex::encode(key.chain_update(text).finalize().into_bytes())
}

fn stripe(header: &str) -> RequestBuilder {
    post("/hook").header("stripe-signature", header).body("{}")
}

#[test]
fn githubs_own_example_holds() {
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let request = |body: &str| post("/hook").header("x-hub-signature-256", signature).body(body);
    let plugin = loaded("sender = 'github'");
    assert_eq!(plugin.request(request("Hello, World!")).forwarded().text(), "Hello, World!");
    assert_eq!(plugin.request(request("Hello, World?")).answered().status, 401);
}

#[test]
fn without_a_signature_the_body_isnt_even_read() {
    let plugin = loaded("sender = 'github'");
    for header in ["", "sha1=757107", "sha256=abc", "sha256="] {
        let request = post("/hook").header("x-hub-signature-256", header).body("Hello, World!");
        assert_eq!(plugin.request(request).answered().status, 401, "{header}");
    }
    assert_eq!(plugin.request(post("/hook")).answered().status, 401);
    assert_eq!(plugin.host().metric("webhooks_refused", &[]), 5.0);
}

#[test]
fn stripes_signature_holds_for_a_while() {
    let plugin = loaded("sender = 'stripe'");
    let header = |time: u64| format!("t={time},v1={},v0=00", sign(&format!("{time}.{{}}")));
    for time in [NOW, NOW - 300, NOW + 300] {
        let _ = plugin.request(stripe(&header(time))).forwarded();
    }
    assert_eq!(plugin.request(stripe(&header(NOW - 301))).answered().status, 401);
    // The time is part of what is signed.
    let moved = header(NOW - 1000).replace(&(NOW - 1000).to_string(), &NOW.to_string());
    assert_eq!(plugin.request(stripe(&moved)).answered().status, 401);
}

#[test]
fn one_of_several_signatures_is_enough() {
    let good = sign(&format!("{NOW}.{{}}"));
    let plugin = loaded("sender = 'stripe'");
    let _ = plugin.request(stripe(&format!("t={NOW}, v1={}, v1={good}", "0".repeat(64)))).forwarded();
    for header in [format!("t={NOW}"), format!("v1={good}"), format!("t=x,v1={good}")] {
        assert_eq!(plugin.request(stripe(&header)).answered().status, 401, "{header}");
    }
}

#[test]
fn a_missing_key_keeps_it_from_being_loaded() {
    let fault =
        Host::new().try_load::<WebhookVerify>("sender = 'github'\nsecret = 'k'").err().expect("no key");
    assert!(fault.message().contains("grant = { secrets = [\"k\"] }"), "{fault}");
}

#[test]
fn an_upgrade_has_no_body_that_could_be_signed() {
    // The host calls no body hook for it: a signature that only looks right must not do.
    let request = post("/hook").header("x-hub-signature-256", format!("sha256={}", "0".repeat(64)));
    assert_eq!(loaded("sender = 'github'").request(request.websocket()).answered().status, 401);
}

#[test]
fn what_was_verified_carries_a_note() {
    let signature = format!("sha256={}", sign("{}"));
    let request = post("/hook").header("x-hub-signature-256", signature).body("{}");
    assert_eq!(
        loaded("sender = 'github'").request(request).forwarded().note("webhook").as_deref(),
        Some("verified")
    );
}

#[test]
fn only_some_paths_may_need_a_signature() {
    let plugin = loaded("sender = 'github'\npaths = ['/hook', '/in/github/']");
    for path in ["/", "/hooks", "/in", "/in/gitlab", "/?/hook", "/a%20b"] {
        assert_eq!(plugin.request(post(path).body("{}")).forwarded().note("webhook"), None, "{path}");
    }
    // Also as another server might read them.
    for path in [
        "/hook",
        "/hook/1?x",
        "//hook",
        "/HOOK",
        "/%68ook",
        "/./hook",
        "/a/../hook",
        "/a/%2e%2e/hook",
        "/hook;a=b",
        "/in/github",
        "/in\\github/x",
    ] {
        assert_eq!(plugin.request(post(path).body("{}")).answered().status, 401, "{path}");
    }
}

#[test]
fn what_would_protect_nothing_is_refused() {
    let fault = |host: Host, config: &str| {
        host.try_load::<WebhookVerify>(config).err().expect("it is wrong").to_string()
    };
    let empty = fault(Host::new().secret("webhook", "\n"), "sender = 'github'");
    assert_eq!(
        empty,
        "the secret \"webhook\" is empty: anybody could sign with that; give it the sender's key"
    );
    let keyed = || Host::new().secret("webhook", "key");
    assert!(fault(keyed(), "sender = 'github'\npaths = []").starts_with("paths: "));
    assert!(fault(keyed(), "sender = 'github'\npaths = ['hook']").starts_with("paths: "));
}
