//! How often, and how many at once: for each address and each key.

use crate::harness::{
    Client, Origin, Proxy, Relay,
    applicant::{self, Applicant},
    path_text,
    tunnel::Home,
};

const FROM: &str = "X-Forwarded-For: 192.0.2.";

async fn start(text: &str) -> (Proxy, Home) {
    let home = Home::new();
    let settings = home.write(
        "proxy.toml",
        &format!("trusted_proxies = ['127.0.0.1']\n[registration]\nopen = true\n{text}"),
    );
    (Proxy::start(&["--config", path_text(&settings)]).await, home)
}

#[tokio::test]
async fn an_address_that_comes_too_often_is_told_when_to_come_again() {
    let (proxy, _home) = start("rate = '1/min,burst=2'").await;
    for _ in 0..2 {
        Applicant::connect_with(proxy.address, &format!("{FROM}1\r\n")).await;
    }
    let (_, head) = applicant::ask(proxy.address, &format!("{FROM}1\r\n")).await;
    assert_eq!(head.status(), 429, "{head:?}");
    assert_eq!(head.text("tunnel-error").as_deref(), Some("too-many-registrations"));
    let seconds: u64 =
        head.text("retry-after").and_then(|text| text.parse().ok()).expect("a number of seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    // What a visitor writes in front of what the trusted server adds is nobody's word.
    let (_, head) = applicant::ask(proxy.address, "X-Forwarded-For: 203.0.113.9, 192.0.2.1\r\n").await;
    assert_eq!(head.status(), 429, "{head:?}");
    Applicant::connect_with(proxy.address, &format!("{FROM}2\r\n")).await;
    for _ in 0..5 {
        // This machine itself: one address for everybody behind a server that isn't named.
        Applicant::connect(proxy.address).await;
    }
}

#[tokio::test]
async fn a_key_that_comes_too_often_is_told_too_and_its_client_waits() {
    let (proxy, home) = start("rate = '1/min,burst=1'").await;
    let (key, _) = home.key("key.pem").await;
    let origin = Origin::start().await;
    let mut first = Client::start(&proxy.url(), &origin.url(), &key, &[]).await;
    first.process.stop().await;
    let mut second = Client::spawn(&proxy.url(), &origin.url(), &key, &[]);
    let event = second.event("disconnected").await;
    assert!(event["reason"].as_str().is_some_and(|reason| reason.contains("registers too often")), "{event}");
    assert!(event["retry_in_ms"].as_u64().is_some_and(|wait| wait > 1000), "{event}");
    // Others aren't held up.
    let (other, _) = home.key("other.pem").await;
    Client::start(&proxy.url(), &origin.url(), &other, &[]).await;
}

#[tokio::test]
async fn a_client_waits_as_long_as_a_server_in_front_of_the_proxy_asks() {
    let relay = Relay::start().await;
    let server = Origin::start().await;
    relay.lead_to(server.address());
    let home = Home::new();
    let mut client = Client::spawn(&relay.url(), "http://127.0.0.1:9", &home.file("key.pem"), &[]);
    let (mut wire, _) = server.request().await;
    wire.send("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n").await;
    let event = client.event("disconnected").await;
    assert!(event["retry_in_ms"].as_u64().is_some_and(|wait| (7_000..8_000).contains(&wait)), "{event}");
}

#[tokio::test]
async fn keys_and_addresses_have_so_many_sessions_at_once() {
    let (proxy, _home) = start("max_sessions_per_key = 2\nmax_sessions_per_address = 3\n").await;
    let mut kept = Vec::new();
    for (key, place, session, expected) in [
        (1, 1, "a", None),
        (1, 2, "b", None),
        (1, 3, "c", Some("too-many-sessions-of-key")),
        (2, 1, "a", None),
        (3, 1, "a", None),
        (4, 1, "a", Some("too-many-sessions-of-address")),
        (4, 2, "a", None),
    ] {
        let mut applicant = Applicant::connect_with(proxy.address, &format!("{FROM}{place}\r\n")).await;
        let mut statement = applicant::statement(proxy.address, applicant.nonce);
        statement.session = Some(session.to_owned());
        let outcome = applicant.apply(statement.sign(&applicant::key(key))).await;
        if let Err(refusal) = &outcome {
            assert!(refusal.retry && refusal.retry_after.is_some(), "{refusal:?}");
        }
        assert_eq!(outcome.err().map(|refusal| refusal.code).as_deref(), expected, "key {key} from {place}");
        kept.push(applicant);
    }
}
