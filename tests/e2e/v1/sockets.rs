//! WebSockets through a client of the original's dialect.

use crate::harness::{Door, Frame, Frames, OldClient, Opcode, Proxy, websocket};

async fn tunnel() -> (Proxy, OldClient, Door) {
    let proxy = Proxy::start(&[]).await;
    let mut client = OldClient::start(proxy.address, &[]);
    let door = client.registered().await;
    (proxy, client, door)
}

async fn open(door: &Door) -> Frames {
    let mut wire = websocket::ask(door, "/ws?x=1", &[]).await;
    websocket::accepted(&mut wire).await;
    Frames::of_visitor(wire)
}

fn text(text: &str) -> Frame {
    Frame::whole(Opcode::Text, text)
}

#[tokio::test]
async fn text_passes_in_order_and_whole() {
    let (_proxy, mut client, door) = tunnel().await;
    let mut visitor = open(&door).await;
    let asked = client.process.event("ws-request").await;
    assert_eq!((&asked["url"], &asked["query"]), (&"/ws".into(), &"x=1".into()));
    let headers = asked["headers"].as_object().expect("an object");
    for gone in ["Connection", "Upgrade", "Sec-Websocket-Key", "Sec-Websocket-Version"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    for n in 0..100 {
        visitor.send(text(&format!("message {n}"))).await;
    }
    for n in 0..100 {
        assert_eq!(visitor.message().await, text(&format!("message {n}")));
    }
    visitor.send_fragments(Opcode::Text, &[b"price: ", b"\xe2\x82", b"", b"\xac 5"]).await;
    assert_eq!(visitor.message().await, text("price: \u{20ac} 5"));
    let long = "\u{e9}".repeat(200_000);
    visitor.send(text(&long)).await;
    assert_eq!(visitor.message().await, text(&long));
}

#[tokio::test]
async fn a_ping_is_answered() {
    let (_proxy, _client, door) = tunnel().await;
    let mut visitor = open(&door).await;
    visitor.send(Frame::whole(Opcode::Ping, "are you there")).await;
    assert_eq!(visitor.next().await, Frame::whole(Opcode::Pong, "are you there"));
}

#[tokio::test]
async fn binary_closes_with_1003_from_either_side() {
    let (_proxy, mut client, door) = tunnel().await;
    let mut visitor = open(&door).await;
    visitor.send(Frame::whole(Opcode::Binary, [0xff])).await;
    assert_eq!(visitor.next().await.code(), Some(1003));
    client.process.event("ws-teardown").await;
    let mut visitor = open(&door).await;
    visitor.send(text("binary")).await;
    assert_eq!(visitor.next().await.code(), Some(1003));
    client.process.event("ws-teardown").await;
    assert_eq!(door.get("/").await.status(), 200, "the session goes on");
}

#[tokio::test]
async fn either_side_closes() {
    let (_proxy, mut client, door) = tunnel().await;
    let mut visitor = open(&door).await;
    visitor.send(Frame::close(1000, "bye")).await;
    assert_eq!(visitor.next().await.code(), Some(1000));
    visitor.ended().await;
    client.process.event("ws-teardown").await;

    let mut visitor = open(&door).await;
    visitor.send(text("close")).await;
    assert_eq!(visitor.next().await, Frame::whole(Opcode::Close, ""), "without a code: the dialect has none");

    // A visitor whose connection breaks.
    drop(open(&door).await);
    client.process.event("ws-teardown").await;
}

#[tokio::test]
async fn a_service_that_takes_none_is_502_without_its_words() {
    let (_proxy, _client, door) = tunnel().await;
    let mut visitor = websocket::ask(&door, "/refuse", &[]).await;
    let text = visitor.reply("GET").await.explained(502, "origin-failed");
    assert!(!text.contains("10.0.0.7"), "{text}");
}
