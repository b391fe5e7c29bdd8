//! From HTTP to WebSocket: the origin decides, the visitor hears only what it decided.

use crate::harness::{Frame, Frames, Opcode, Origin, Tunnel, origin, websocket};

#[tokio::test]
async fn the_visitor_waits_for_the_origins_yes() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = websocket::ask(&tunnel, "/socket?a=%2F&b", &["Origin: https://app.example"]).await;
    let (mut answers, request) = origin.request().await;
    assert_eq!(request.head.start, "GET /socket?a=%2F&b HTTP/1.1");
    assert_eq!(request.head.texts("origin"), ["https://app.example"]);
    assert_eq!(request.head.texts("sec-websocket-version"), ["13"]);
    assert_eq!(
        request.head.text("upgrade").map(|text| text.to_ascii_lowercase()).as_deref(),
        Some("websocket")
    );
    assert_eq!(request.head.texts("x-forwarded-for"), ["127.0.0.1"]);

    // A whole exchange goes there and back while the origin thinks; the visitor has still heard nothing.
    let mut other = tunnel.ask("GET /other", &[]).await;
    let (mut other_answers, _) = origin.request().await;
    other_answers.send(origin::ok("other")).await;
    assert_eq!(other.reply("GET").await.text(), "other");
    assert_eq!(visitor.arrived().await, b"");

    websocket::accept(&mut answers, &request.head, &["X-Own: 1", "Set-Cookie: a=1", "Set-Cookie: b=2"]).await;
    let head = websocket::accepted(&mut visitor).await;
    assert_eq!(head.texts("x-own"), ["1"]);
    assert_eq!(head.texts("set-cookie"), ["a=1", "b=2"]);
    assert!(!head.has("sec-websocket-protocol") && !head.has("sec-websocket-extensions"), "{head:?}");
}

#[tokio::test]
async fn the_origin_chooses_the_subprotocol() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let offer = ["Sec-WebSocket-Protocol: chat, superchat", "Sec-WebSocket-Protocol: mqtt"];
    let mut visitor = websocket::ask(&tunnel, "/", &offer).await;
    let (mut answers, request) = origin.request().await;
    let offered = request.head.texts("sec-websocket-protocol").join(", ");
    assert_eq!(offered, "chat, superchat, mqtt");
    websocket::accept(&mut answers, &request.head, &["Sec-WebSocket-Protocol: superchat"]).await;
    let head = websocket::accepted(&mut visitor).await;
    assert_eq!(head.texts("sec-websocket-protocol"), ["superchat"]);
}

#[tokio::test]
async fn an_extension_that_nobody_on_the_way_speaks_is_not_agreed_on() {
    // Messages are taken apart on the way, so that compression can't pass; offering it to the origin would let
    // the origin send what nobody here can read.
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = websocket::ask(&tunnel, "/", &["Sec-WebSocket-Extensions: permessage-deflate"]).await;
    let (mut answers, request) = origin.request().await;
    assert!(!request.head.has("sec-websocket-extensions"), "{:?}", request.head);
    websocket::accept(&mut answers, &request.head, &[]).await;
    assert!(!websocket::accepted(&mut visitor).await.has("sec-websocket-extensions"));
}

#[tokio::test]
async fn the_origins_no_reaches_the_visitor_whole() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    for status in [401, 403, 404, 426, 500] {
        let mut visitor = websocket::ask(&tunnel, "/private", &[]).await;
        let (mut answers, _) = origin.request().await;
        let head = format!("HTTP/1.1 {status} No\r\nWWW-Authenticate: Basic\r\nX-Own: a\r\nX-Own: b\r\n");
        answers.send(format!("{head}Content-Length: 7\r\n\r\nnot you")).await;
        let reply = visitor.reply("GET").await;
        assert_eq!((reply.status(), reply.text().as_str(), reply.error()), (status, "not you", None));
        assert_eq!(reply.head.texts("x-own"), ["a", "b"]);
        assert_eq!(reply.head.texts("www-authenticate"), ["Basic"]);
    }
}

#[tokio::test]
async fn an_ordinary_answer_to_an_upgrade_is_an_answer() {
    // RFC 9110 section 7.8: a server may ignore Upgrade.
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = websocket::ask(&tunnel, "/", &[]).await;
    let (mut answers, _) = origin.request().await;
    answers.send(origin::ok("just a page")).await;
    let reply = visitor.reply("GET").await;
    assert_eq!((reply.status(), reply.text().as_str()), (200, "just a page"));
}

#[tokio::test]
async fn an_origin_that_does_not_listen_is_named() {
    let address = origin::vacant().await;
    let tunnel = Tunnel::to(&format!("http://{address}")).await;
    let reply = websocket::ask(&tunnel, "/", &[]).await.reply("GET").await;
    assert_eq!((reply.status(), reply.error().as_deref()), (502, Some("origin-unreachable")));
    let text = reply.text().to_lowercase();
    assert!(text.contains(&format!("nothing answers at http://{address}")), "{text}");
}

#[tokio::test]
async fn a_broken_handshake_is_refused_before_the_origin_hears_of_it() {
    let origin = Origin::start().await.answering(|_| origin::ok("never"));
    let tunnel = Tunnel::to(&origin.url()).await;
    for fields in [
        &["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"][..],
        &[
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 8",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ],
    ] {
        let reply = tunnel.ask("GET /", fields).await.reply("GET").await;
        assert!(matches!(reply.status(), 400 | 426), "{fields:?}: {}", reply.status());
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
}

#[tokio::test]
async fn what_either_side_sends_right_behind_its_handshake_is_kept() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    // The visitor's first message travels in the same segment as its request ...
    let mut visitor = tunnel.visit().await;
    let request = websocket::request(&tunnel, "/", &[]);
    visitor.send([&request[..], b"\x81\x82\0\0\0\0hi"].concat()).await;
    let (mut answers, request) = origin.request().await;
    // ... and the origin's first message in the same segment as its 101.
    let key = request.head.text("sec-websocket-key").expect("a key");
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    answers.send([head.as_bytes(), b"\x81\x05hello"].concat()).await;
    websocket::accepted(&mut visitor).await;
    let mut visitor = Frames::of_visitor(visitor);
    assert_eq!(visitor.next().await, Frame::whole(Opcode::Text, "hello"));
    assert_eq!(Frames::of_origin(answers).next().await, Frame::whole(Opcode::Text, "hi"));
}

#[tokio::test]
async fn the_door_by_path_takes_websockets_too() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let target = format!("/proxy/request/{}/socket?x", tunnel.client.label());
    let request = websocket::request(&tunnel, &target, &[]);
    let request = String::from_utf8(request).expect("text").replace(tunnel.host(), "127.0.0.1:1");
    let mut visitor = tunnel.visit().await;
    visitor.send(request).await;
    let (mut answers, request) = origin.request().await;
    assert_eq!(request.head.target(), "/socket?x");
    websocket::accept(&mut answers, &request.head, &[]).await;
    websocket::accepted(&mut visitor).await;
    let (mut visitor, mut answers) = (Frames::of_visitor(visitor), Frames::of_origin(answers));
    visitor.send(Frame::whole(Opcode::Text, "through")).await;
    assert_eq!(answers.message().await, Frame::whole(Opcode::Text, "through"));
}
