//! Every hook through the glue, under `guest_sdk::testing`.

use std::time::Duration;

use guest_sdk::{
    prelude::*,
    testing::{Host, answer, get, post},
};
use serde::{Deserialize, Serialize};

/// Counts what it sees in the state of the exchange, and says so in headers.
#[derive(Default)]
struct Counter;

#[derive(Default, Serialize, Deserialize)]
struct Seen {
    pieces: usize,
    bytes: usize,
}

#[guest_sdk::plugin]
impl Plugin for Counter {
    type State = Seen;

    fn on_request(&self, request: &Request) -> Result<Verdict<Seen>> {
        let forward = Forward::new().state(Seen::default());
        match request.path().as_str() {
            "/whole" => forward.whole_body().into(),
            "/pieces" => forward.body_in_pieces().into(),
            "/late" => forward.body_in_pieces().into(),
            "/abort" => Abort::new("not today").into(),
            "/fault" => Err(Fault::new("no idea")),
            "/forbidden" => Forward::new().set_header("content-length", "1").into(),
            "/status" => Forward::new().set_status(200).into(),
            _ => Forward::new().into(),
        }
    }

    fn on_request_body(&self, request: &Request, piece: Piece, seen: &mut Seen) -> Result<BodyVerdict> {
        seen.pieces += 1;
        seen.bytes += piece.bytes.len();
        match request.path().as_str() {
            "/late" => Respond::new(400).into(),
            "/whole" => Body::replace(piece.bytes.to_ascii_uppercase())
                .set_header("x-bytes", seen.bytes.to_string())
                .into(),
            _ => Body::keep().into(),
        }
    }

    fn on_response(&self, response: &Response, seen: Seen) -> Result<Verdict<Seen>> {
        let line = format!("{} pieces, {} bytes of {}", seen.pieces, seen.bytes, response.request().path());
        Forward::new().set_header("x-seen", line).set_status(http::StatusCode::ACCEPTED).into()
    }
}

use guest_sdk::http;

#[test]
fn a_whole_body_is_one_piece_and_its_head_waits() {
    let exchange = Host::new().load::<Counter>("").request(post("/whole").pieces(["ab", "cd"])).forwarded();
    assert_eq!((exchange.text().as_str(), exchange.header("x-bytes")), ("ABCD", Some("4")));
    let response = exchange.response(answer(200)).forwarded();
    assert_eq!((response.status, response.header("x-seen")), (202, Some("1 pieces, 4 bytes of /whole")));
}

#[test]
fn pieces_come_one_by_one_and_the_last_says_so() {
    let plugin = Host::new().load::<Counter>("");
    let exchange = plugin.request(post("/pieces").pieces(["ab", "cd"])).forwarded();
    assert_eq!(exchange.pieces, [b"ab", b"cd"]);
    let seen = exchange.response(answer(200)).forwarded();
    assert_eq!(seen.header("x-seen"), Some("3 pieces, 4 bytes of /pieces"));
    // Without a body there is nothing to see.
    let seen = plugin.request(get("/pieces")).forwarded().response(answer(200)).forwarded();
    assert_eq!(seen.header("x-seen"), Some("0 pieces, 0 bytes of /pieces"));
}

#[test]
fn what_the_host_refuses_fails() {
    let plugin = Host::new().load::<Counter>("");
    let fault = |path| plugin.request(post(path).body("x")).failed().to_string();
    assert_eq!(fault("/fault"), "no idea");
    assert!(fault("/forbidden").contains("content-length"));
    assert!(fault("/status").contains("set_status is for responses"));
    assert!(fault("/late").contains("its head has gone ahead"));
    assert_eq!(plugin.request(get("/abort")).aborted(), "not today");
}

#[test]
fn who_takes_no_configuration_says_so() {
    let fault = Host::new().try_load::<Counter>("a = 1").err().expect("there is no `a`");
    assert!(fault.message().starts_with("config: unknown field `a`"), "{fault}");
}

/// Uses every capability.
#[derive(Default)]
struct Lent;

#[guest_sdk::plugin]
impl Plugin for Lent {
    fn on_request(&self, request: &Request) -> Result<Verdict> {
        let visits = kv::open()?.increment("visits", 1, Some(Duration::from_secs(60)))?;
        let key = secrets::text("key")?;
        let random: [u8; 8] = random::bytes();
        assert_ne!(random, [0; 8]);
        debug!(visits, key = key.len(); "seen at {}", clock::unix_seconds());
        metrics::observe("visits", &[("role", "any")], 2.5);
        request.set_note("visits", &visits.to_string())?;
        Forward::new().into()
    }

    fn on_tick(&self) -> Result<()> {
        let keys = http_client::get("https://idp.example.com/keys").send()?.ok()?;
        kv::open()?.set("keys", keys.body(), None)?;
        Ok(())
    }
}

#[test]
fn capabilities_are_those_of_the_test() {
    let host = Host::new().secret("key", "abc").at(1_700_000_000);
    let plugin = host.load::<Lent>("");
    for expected in ["1", "2"] {
        assert_eq!(plugin.request(get("/")).forwarded().note("visits").as_deref(), Some(expected));
    }
    host.advance(Duration::from_secs(60));
    assert_eq!(plugin.request(get("/")).forwarded().note("visits").as_deref(), Some("1"));
    assert_eq!(host.lines()[0].message, "seen at 1700000000");
    assert_eq!(host.lines()[0].fields["key"], "3");
    assert_eq!(host.metric("visits", &[("role", "any")]), 7.5);
    // Another host knows nothing of it.
    let other = Host::new().secret("key", "abc").load::<Lent>("");
    assert_eq!(other.request(get("/")).forwarded().note("visits").as_deref(), Some("1"));
}

#[test]
fn what_isnt_lent_is_a_fault_that_says_what_to_write() {
    let fault = Host::new().load::<Lent>("").request(get("/")).failed();
    assert_eq!(
        fault.message(),
        "no secret \"key\": grant it with grant = { secrets = [\"key\"] } and give it a value"
    );
    let fault = Host::new().without_kv().load::<Lent>("").request(get("/")).failed();
    assert_eq!(fault.message(), "the kv bucket isn't granted: grant = { kv = true }");
}

#[test]
fn a_tick_fetches_from_where_the_test_says() {
    let url = "https://idp.example.com/keys";
    let host = Host::new().answers(url, answer(503)).answers(url, answer(200).body("{}"));
    let plugin = host.load::<Lent>("");
    let fault = plugin.tick().expect_err("503");
    assert_eq!(fault.message(), "https://idp.example.com/keys answered 503");
    plugin.tick().expect("the second answer is a good one");
    let kept = host.run(|| kv::open().expect("granted").get("keys"));
    assert_eq!(kept.expect("it is there").as_deref(), Some(&b"{}"[..]));
    assert_eq!(host.calls().len(), 2);
}

#[test]
#[should_panic(expected = "which no answer was given for")]
fn a_url_that_the_test_doesnt_know_fails_it() {
    let _ = Host::new().load::<Lent>("").tick();
}

/// Greets, and counts what the visitor says.
#[derive(Default)]
struct Socket;

#[guest_sdk::plugin]
impl Plugin for Socket {
    type Connection = u32;

    fn on_open(&self, request: &Request, (): ()) -> Result<Accept<u32>> {
        let start = request.query().and_then(|query| query.parse().ok()).unwrap_or(0);
        Accept::nothing().text_from(Side::Visitor).connection(start).into()
    }

    fn on_message(&self, from: Side, message: Message, count: &mut u32) -> Result<Relay> {
        *count += 1;
        match message.as_text() {
            Some("bye") => Relay::close(1000, format!("{count} messages")).into(),
            Some("psst") => Relay::discard().send(from, "heard").into(),
            Some(text) => Relay::replace(format!("{count}: {text}")).into(),
            None => Err(Fault::new("binary messages weren't asked for")),
        }
    }

    fn on_close(&self, by: Side, code: u16, reason: &str, count: u32) {
        info!("{by:?} {code} {reason} {count}");
    }
}

#[test]
fn a_connection_keeps_its_state() {
    let host = Host::new();
    let plugin = host.load::<Socket>("");
    let mut socket = plugin.websocket(get("/?10"));
    assert_eq!(socket.visitor_sends("a").to_origin, ["11: a".into()]);
    assert_eq!(socket.visitor_sends(vec![1]).to_origin, [vec![1].into()]);
    assert_eq!(socket.origin_sends("b").to_visitor, ["b".into()]);
    let heard = socket.visitor_sends("psst");
    assert_eq!((heard.to_origin.len(), heard.to_visitor), (0, vec!["heard".into()]));
    assert_eq!(socket.visitor_sends("bye").closed, Some((1000, "13 messages".to_owned())));
    assert_eq!(host.lines()[0].message, "Visitor 1000 13 messages 13");
    plugin.websocket(get("/")).ends(Side::Origin, 1006, "");
    assert_eq!(host.lines()[1].message, "Origin 1006  0");
}
