//! A client of the original's dialect at one node, its visitors at another.

use crate::harness::{Door, Frame, Frames, OldClient, Opcode, Proxy, Redis, websocket};

/// Two nodes over one Redis, and a client at the first; its door at the second.
async fn across(redis: &Redis) -> ([Proxy; 2], OldClient, Door) {
    let url = redis.url();
    let nodes = [Proxy::start(&["--bus", &url]).await, Proxy::start(&["--bus", &url]).await];
    let mut client = OldClient::start(nodes[0].address, &[]);
    let host = client.registered().await.host;
    let door = Door { address: nodes[1].address, host };
    (nodes, client, door)
}

#[tokio::test]
async fn requests_and_websockets_cross_between_nodes() {
    let redis = Redis::start().await;
    let (_nodes, _client, door) = across(&redis).await;
    let body = vec![7; 500_000];
    let reply = door.post("/echo-body", &body).await;
    assert_eq!((reply.status(), reply.body == body), (200, true));
    door.post("/echo-body", &vec![7; 500_001]).await.explained(413, "request-too-large");
    let mut wire = websocket::ask(&door, "/ws", &[]).await;
    websocket::accepted(&mut wire).await;
    let mut visitor = Frames::of_visitor(wire);
    visitor.send(Frame::whole(Opcode::Text, "hello")).await;
    assert_eq!(visitor.message().await, Frame::whole(Opcode::Text, "hello"));
    visitor.send(Frame::whole(Opcode::Binary, [1])).await;
    assert_eq!(visitor.next().await.code(), Some(1003));
}

#[tokio::test]
async fn a_token_registers_once_at_all_nodes() {
    let redis = Redis::start().await;
    // Both are known by the first one's address, as nodes behind one balancer are.
    let url = redis.url();
    let first = Proxy::start(&["--bus", &url]).await;
    let second = Proxy::start(&["--bus", &url, "--also-known-as", &first.url()]).await;
    let mut client = OldClient::start(first.address, &[]);
    client.registered().await;
    let event = client.process.event("token").await;
    let token = event["token"].as_str().expect("a token");
    let mut thief = OldClient::start(second.address, &["--token", token]);
    let told = thief.process.event("text").await;
    assert!(told["text"].as_str().is_some_and(|text| text.contains("has registered before")), "{told}");
}
