//! What someone may do who connects as a client and isn't one: little, and not for long.

use crate::harness::{Client, Frame, Frames, Opcode, Origin, Setup, Tunnel, Wire, origin};

/// Connects as a client does, without registering; the head is the proxy's answer.
async fn subscribe(tunnel: &Tunnel, protocol: &str) -> (Wire, crate::harness::Head) {
    let mut wire = tunnel.visit().await;
    let address = tunnel.proxy.address;
    wire.send(format!(
        "GET /proxy/subscribe HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
    ))
    .await;
    let head = wire.head().await;
    (wire, head)
}

const V2: &str = "tunnel.v2.cbor";

#[tokio::test]
async fn each_connection_gets_a_nonce_of_its_own() {
    let tunnel = Tunnel::to("http://127.0.0.1:9").await;
    let mut nonces = std::collections::HashSet::new();
    for _ in 0..10 {
        let (_, head) = subscribe(&tunnel, V2).await;
        assert_eq!(head.status(), 101, "{head:?}");
        assert_eq!(head.texts("sec-websocket-protocol"), [V2]);
        let nonce = head.text("tunnel-nonce").expect("a nonce");
        // 32 bytes in base64url without padding.
        assert_eq!(nonce.len(), 43, "{nonce}");
        assert!(nonces.insert(nonce));
    }
}

#[tokio::test]
async fn who_does_not_register_is_dropped() {
    let setup = Setup::new().proxy_file("[limits]\nregistration_timeout = '300ms'");
    let tunnel = setup.start("http://127.0.0.1:9").await;
    let (mut wire, head) = subscribe(&tunnel, V2).await;
    assert_eq!(head.status(), 101);
    wire.closed().await;
}

#[tokio::test]
async fn only_so_many_may_be_about_to_register() {
    let origin = Origin::start().await.answering(|_| origin::ok("fine"));
    let tunnel = Setup::new().proxy_file("[limits]\nmax_unregistered = 2").start(&origin.url()).await;
    // The client itself is registered and takes no place.
    let (first, head) = subscribe(&tunnel, V2).await;
    assert_eq!(head.status(), 101);
    let (_second, head) = subscribe(&tunnel, V2).await;
    assert_eq!(head.status(), 101);
    let (_third, head) = subscribe(&tunnel, V2).await;
    assert_eq!(head.status(), 503, "{head:?}");
    assert_eq!(tunnel.get("/").await.text(), "fine", "visitors are not held up");
    drop(first);
    // The place of one that has gone is free, as soon as the proxy knows.
    crate::harness::within("a free place", async {
        while subscribe(&tunnel, V2).await.1.status() != 101 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn nonsense_ends_the_connection_and_nothing_else() {
    let origin = Origin::start().await.answering(|_| origin::ok("fine"));
    let mut tunnel = Tunnel::to(&origin.url()).await;
    let nested = [vec![0x81; 100_000], vec![0]].concat();
    for (what, frame) in [
        ("an empty message", Frame::whole(Opcode::Binary, "")),
        ("random bytes", Frame::whole(Opcode::Binary, [0x5f, 0x13, 0x88, 0xff, 0x00, 0xc3])),
        (
            "an array said to be endless",
            Frame::whole(Opcode::Binary, [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
        (
            "a byte string said to be huge",
            Frame::whole(Opcode::Binary, [0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("a map that ends early", Frame::whole(Opcode::Binary, [0xa2, 0x00, 0x01])),
        ("a deep nest", Frame::whole(Opcode::Binary, nested)),
        ("text", Frame::whole(Opcode::Text, "{\"type\":\"RegistrationRequest\"}")),
    ] {
        let (wire, head) = subscribe(&tunnel, V2).await;
        assert_eq!(head.status(), 101);
        let mut frames = Frames::of_visitor(wire);
        frames.send(frame).await;
        // At most an answer that refuses, then the close with a code.
        let mut end = frames.next().await;
        if end.opcode == Opcode::Binary {
            end = frames.next().await;
        }
        let code = end.code();
        assert!(matches!(code, Some(1002 | 1003 | 1007 | 1008 | 1009 | 3000..=4999)), "{what}: {end:?}");
        assert_eq!(tunnel.get("/").await.text(), "fine", "after {what}");
    }
    assert!(tunnel.proxy.process.events("unregistered").is_empty());
    let exit = tunnel.proxy.process.stop().await;
    assert!(!exit.stderr.contains("panicked"), "{}", exit.stderr);
}

#[tokio::test]
async fn an_unknown_dialect_is_refused() {
    let tunnel = Tunnel::to("http://127.0.0.1:9").await;
    let (_, head) = subscribe(&tunnel, "tunnel.v9.xml").await;
    assert!((400..500).contains(&head.status()), "{head:?}");
    // Without an upgrade it is no place for visitors either.
    let mut visitor = tunnel.visit().await;
    visitor.send(format!("GET /proxy/subscribe HTTP/1.1\r\nHost: {}\r\n\r\n", tunnel.proxy.address)).await;
    assert!((400..500).contains(&visitor.reply("GET").await.status()));
}

#[tokio::test]
async fn only_so_many_sessions_hold_one_name() {
    let one = Origin::start().await.answering(|_| origin::ok("one"));
    let two = Origin::start().await.answering(|_| origin::ok("two"));
    let tunnel = Setup::new().proxy_file("[limits]\nmax_sessions_per_name = 1").start(&one.url()).await;
    let mut second = Client::spawn(&tunnel.proxy.url(), &two.url(), &tunnel.key, &[]);
    // Whether it gives up or tries again later, it says why.
    second.words("max_sessions_per_name").await;
    for _ in 0..10 {
        assert_eq!(tunnel.get("/").await.text(), "one");
    }
}
