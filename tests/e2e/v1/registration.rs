//! Who registers in the original's dialect, and who is told why not.

use serde_json::Value;

use crate::harness::{OldClient, Proxy, Wire, path_text, tunnel::Home};

/// The name of the key of RFC 8037, and that of its session `abc`, as the original gave them out.
const ED25519: &str = "sd5mv7vjwfkwngcub5ymael2elvdppk46pwtyryjhqlqokbljoeq";
const ED25519_ABC: &str = "lsecyuya75eoayzvixepivoeudaz5qr44hv4izv7m3pnf7xts36q";

fn start(proxy: &Proxy, arguments: &[&str]) -> OldClient {
    OldClient::start(proxy.address, arguments)
}

/// Waits until the client was told why it isn't registered, and gives the words.
async fn refused(client: &mut OldClient) -> String {
    let text = client.process.event("text").await;
    let closed = client.process.event("closed").await;
    assert_eq!(closed["code"], 1008, "{closed}");
    text["text"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn a_key_of_either_kind_gets_its_name() {
    let mut proxy = Proxy::start(&[]).await;
    let mut client = start(&proxy, &["--key", "eddsa"]);
    assert_eq!(client.registered().await.host, format!("{ED25519}.localhost"));
    assert_eq!(proxy.process.event("registered").await["tunnel"], ED25519);
    let mut client = start(&proxy, &["--key", "es256"]);
    let door = client.registered().await;
    assert_eq!(door.get("/").await.status(), 200);
    client.process.kill().await;
    let name = door.host.strip_suffix(".localhost").expect("a name under the domain");
    proxy.process.event_where("unregistered", |event| event["tunnel"] == name).await;
}

#[tokio::test]
async fn one_connection_may_have_several_names() {
    let mut proxy = Proxy::start(&[]).await;
    let mut client = start(&proxy, &["--key", "eddsa", "--session", "abc", "--session", "b"]);
    let (one, other) = (client.registered().await, client.registered().await);
    assert_eq!(one.host, format!("{ED25519_ABC}.localhost"));
    assert_ne!(one.host, other.host);
    for door in [&one, &other] {
        assert_eq!(door.get("/").await.status(), 200, "{}", door.host);
    }
    client.process.kill().await;
    for _ in 0..2 {
        proxy.process.event("unregistered").await;
    }
    for door in [one, other] {
        door.get("/").await.explained(503, "tunnel-offline");
    }
}

#[tokio::test]
async fn a_token_registers_once() {
    let proxy = Proxy::start(&[]).await;
    let mut client = start(&proxy, &[]);
    client.registered().await;
    let event = client.process.event("token").await;
    let token = event["token"].as_str().expect("a token");
    let mut thief = start(&proxy, &["--token", token]);
    assert!(refused(&mut thief).await.contains("has registered before"));
    // On the connection that has it too, and there it costs the connection.
    let mut twice = start(&proxy, &["--key", "eddsa", "--session", "a", "--session", "b", "--token", token]);
    assert!(refused(&mut twice).await.contains("has registered before"));
}

#[tokio::test]
async fn a_token_is_for_one_proxy_and_its_time() {
    let proxy = Proxy::start(&[]).await;
    for (arguments, says) in [
        (&["--uri", "http://127.0.0.1:1"][..], "isn't known as http://127.0.0.1:1"),
        (&["--uri", "http://127.0.0.1.example"], "isn't known as"),
        (&["--age", "91"], "seconds old"),
        (&["--age", "-31"], "ahead of the proxy's clock"),
        (&["--age", "331", "--ttl", "100000"], "seconds old"),
        (&["--token", "a.b.c"], "can't be read"),
    ] {
        let words = refused(&mut start(&proxy, arguments)).await;
        assert!(words.contains(says), "{arguments:?}: {words}");
    }
    start(&proxy, &["--age", "89"]).registered().await;
    start(&proxy, &["--age", "329", "--ttl", "100000", "--key", "eddsa"]).registered().await;
}

#[tokio::test]
async fn a_later_registration_that_fails_ends_the_connection_with_its_reason() {
    let proxy = Proxy::start(&["--config", "/dev/null"]).await;
    let mut client = start(&proxy, &["--session", "a", "--session", &"x".repeat(129)]);
    client.registered().await;
    assert!(refused(&mut client).await.contains("128 bytes at most"));
}

#[tokio::test]
async fn pages_may_register_in_this_dialect_alone_and_an_operator_may_turn_it_off() {
    let home = Home::new();
    let file = home.write("proxy.toml", "[registration]\nopen = true\npages = ['https://page.example']\n");
    let proxy = Proxy::start(&["--config", path_text(&file)]).await;
    start(&proxy, &["--origin", "https://page.example"]).registered().await;
    let mut other = start(&proxy, &["--origin", "https://other.example"]);
    assert_eq!(other.process.event("refused").await["status"], 403);
    let proxy = Proxy::start(&["--dialects", "v2"]).await;
    let mut client = start(&proxy, &[]);
    let event: Value = client.process.event("refused").await;
    assert_eq!(event["status"], 400);
    assert!(event["body"].as_str().is_some_and(|body| body.contains("tunnel.v2.cbor")), "{event}");
}

#[tokio::test]
async fn who_does_not_register_is_told_and_may_not_send_much() {
    let proxy = Proxy::start(&[]).await;
    for (frame, ends) in [
        // A text frame with an empty object, and a binary one, masked with zeros.
        (&[0x81, 0x82, 0, 0, 0, 0, b'{', b'}'][..], "@type"),
        (&[0x82, 0x81, 0, 0, 0, 0, 0], "a text frame"),
    ] {
        let mut wire = subscribe(&proxy).await;
        wire.send(frame).await;
        let told = wire.closed().await;
        assert!(String::from_utf8_lossy(&told).contains(ends), "{told:?}");
    }
    // A frame of a megabyte: no more of it is read than a registration has.
    let mut wire = subscribe(&proxy).await;
    wire.send([0x81, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0]).await;
    let mut sent = 0;
    while sent < 1 << 20 && wire.try_send(&[b' '; 4096]).await.is_ok() {
        sent += 4096;
    }
    wire.closed().await;
}

async fn subscribe(proxy: &Proxy) -> Wire {
    let mut wire = Wire::connect(proxy.address).await;
    wire.send(format!(
        "GET /proxy/subscribe HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        proxy.address
    ))
    .await;
    let head = wire.head().await;
    assert_eq!(head.status(), 101, "{head:?}");
    assert!(!head.has("sec-websocket-protocol") && !head.has("tunnel-nonce"), "{head:?}");
    wire
}
