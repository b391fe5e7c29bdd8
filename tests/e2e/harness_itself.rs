//! The harness against itself, without the program between: both ends of its wire understand each other.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{
    Door, Frame, Frames, Nginx, Opcode, Origin, Pattern, Redis, Relay, Wire, load, nginx, origin, websocket,
};

async fn pair() -> (Wire, Wire) {
    let origin = Origin::start().await;
    let visitor = Wire::connect(origin.address()).await;
    (visitor, origin.accept().await)
}

#[tokio::test]
async fn requests_and_responses_are_read_to_the_last_byte() {
    let (mut visitor, mut origin) = pair().await;
    visitor.send(b"M-X /a?b HTTP/1.1\r\nX-A: 1\r\nx-a: \xff\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    visitor.send_chunk("one").await;
    visitor.send_chunk("two").await;
    visitor.send("0\r\nX-Sum: 6\r\n\r\nGET / HTTP/1.1\r\n\r\n").await;

    let request = origin.request().await;
    assert_eq!((request.head.method(), request.head.target()), ("M-X", "/a?b"));
    assert_eq!(request.head.all("X-A"), [&b"1"[..], b"\xff"]);
    assert_eq!(request.body, b"onetwo");
    assert_eq!(request.trailers, [("X-Sum".to_owned(), b"6".to_vec())]);
    assert_eq!(origin.request().await.head.raw, b"GET / HTTP/1.1\r\n\r\n");

    origin.send("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").await;
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;ext\r\nab\r\n0\r\n\r\n").await;
    let reply = visitor.reply("GET").await;
    assert_eq!((reply.interim[0].status(), reply.status()), (103, 200));
    assert_eq!(reply.body, b"ab");

    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(visitor.reply("HEAD").await.head.text("content-length").as_deref(), Some("5"));
    assert_eq!(visitor.reply("GET").await.status(), 204);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_taken_for_a_whole_one() {
    for body in ["Content-Length: 5\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let (mut visitor, mut origin) = pair().await;
        origin.send(format!("HTTP/1.1 200 OK\r\n{body}")).await;
        drop(origin);
        let head = visitor.head().await;
        let broken = visitor.rest_of_reply("GET", &head).await.expect_err("broke off");
        assert_eq!(broken.got, b"abc");
    }
    let (mut visitor, mut origin) = pair().await;
    origin.send("HTTP/1.0 200 OK\r\n\r\nabc").await;
    drop(origin);
    assert_eq!(visitor.reply("GET").await.body, b"abc");
}

#[tokio::test]
async fn an_answering_origin_records_what_it_got() {
    let origin = Origin::start().await.answering(|request| origin::ok(request.head.target()));
    let mut visitor = Wire::connect(origin.address()).await;
    visitor.send("GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(visitor.reply("GET").await.text(), "/1");
    assert_eq!(visitor.reply("POST").await.text(), "/2");
    let seen = origin.seen();
    assert_eq!(seen[0].head.raw, b"GET /1 HTTP/1.1\r\n\r\n");
    assert_eq!(seen[1].body, b"hi");
}

#[tokio::test]
async fn what_has_arrived_can_be_looked_at_without_waiting() {
    let (mut visitor, mut origin) = pair().await;
    origin.send("x").await;
    assert_eq!(visitor.exactly(1).await, b"x");
    assert!(visitor.arrived().await.is_empty());
    origin.send("yz").await;
    assert_eq!(visitor.exactly(1).await, b"y");
    assert_eq!(visitor.arrived().await, b"z");
}

#[tokio::test]
async fn frames_by_hand_and_a_library_agree() {
    let (visitor, origin) = pair().await;
    let mut visitor = Frames::of_visitor(visitor);
    let mut origin = websocket::origin_socket(origin).await;
    visitor.send_fragments(Opcode::Text, &[b"a", b"", b"b"]).await;
    assert_eq!(origin.next().await.unwrap().unwrap(), Message::text("ab"));
    let long = vec![7; 70_000];
    visitor.send(Frame::whole(Opcode::Binary, long.clone())).await;
    assert_eq!(origin.next().await.unwrap().unwrap(), Message::binary(long));
    origin.send(Message::text("x".repeat(300))).await.unwrap();
    assert_eq!(visitor.message().await, Frame::whole(Opcode::Text, "x".repeat(300)));
    visitor.send(Frame::close(4000, "why")).await;
    let Some(Ok(Message::Close(Some(close)))) = origin.next().await else { panic!("no close") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (4000, "why"));
    origin.flush().await.unwrap();
    assert_eq!(visitor.next().await.code(), Some(4000));

    let (visitor, origin) = pair().await;
    let mut visitor = websocket::visitor_socket(visitor).await;
    let mut origin = Frames::of_origin(origin);
    visitor.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(origin.next().await, Frame::whole(Opcode::Binary, [1, 2, 3]));
    drop(visitor);
    origin.ended().await;
}

#[tokio::test]
async fn a_relay_carries_goes_silent_and_is_cut() {
    let origin = Origin::start().await;
    let relay = Relay::start().await;
    relay.lead_to(origin.address());
    let mut silent = Wire::connect(relay.address()).await;
    let mut silent_origin = origin.accept().await;
    silent.send("a").await;
    assert_eq!(silent_origin.exactly(1).await, b"a");
    relay.silence();
    silent.send("vanishes").await;
    silent_origin.send("vanishes").await;

    let mut fresh = Wire::connect(relay.address()).await;
    let mut fresh_origin = origin.accept().await;
    fresh.send("b").await;
    assert_eq!(fresh_origin.exactly(1).await, b"b");
    fresh_origin.send("c").await;
    assert_eq!(fresh.exactly(1).await, b"c");
    assert!(silent.arrived().await.is_empty());
    assert!(silent_origin.arrived().await.is_empty());

    relay.cut();
    assert!(fresh.closed().await.is_empty());
    assert!(fresh_origin.closed().await.is_empty());
    assert_eq!(relay.accepted(), 2);
}

#[tokio::test]
async fn a_relay_holds_back_without_a_word_and_loses_nothing() {
    let origin = Origin::start().await;
    let relay = Relay::start().await;
    relay.lead_to(origin.address());
    let mut visitor = Wire::connect(relay.address()).await;
    let mut answers = origin.accept().await;
    relay.hold();
    visitor.send("late").await;
    let mut later = Wire::connect(relay.address()).await;
    later.send("later").await;
    assert!(answers.arrived().await.is_empty());
    relay.release();
    assert_eq!(answers.exactly(4).await, b"late");
    assert_eq!(origin.accept().await.exactly(5).await, b"later");
    drop(visitor);
    assert!(answers.closed().await.is_empty());
}

#[tokio::test]
async fn a_slow_relay_keeps_the_order() {
    let origin = Origin::start().await;
    let relay = Relay::start().await;
    relay.lead_to(origin.address());
    let delay = Duration::from_millis(20);
    relay.slow(delay, 2 * delay);
    let begin = Instant::now();
    let mut visitor = Wire::connect(relay.address()).await;
    let mut answers = origin.accept().await;
    for number in 0..50_u8 {
        visitor.send([number]).await;
        answers.send([number]).await;
    }
    let all: Vec<u8> = (0..50).collect();
    assert_eq!(answers.exactly(50).await, all);
    assert_eq!(visitor.exactly(50).await, all);
    assert!(begin.elapsed() >= delay);
}

#[tokio::test]
async fn redis_comes_back_on_its_port_and_has_forgotten() {
    let mut redis = Redis::start().await;
    for kill in [true, false] {
        assert_eq!(redis.say("SET key value").await, "+OK");
        assert_eq!(redis.say("DBSIZE").await, ":1");
        if kill {
            redis.kill().await
        } else {
            redis.stop().await
        }
        assert!(tokio::net::TcpStream::connect(redis.address()).await.is_err());
        redis.start_again().await;
        assert_eq!(redis.say("DBSIZE").await, ":0");
    }
}

#[tokio::test]
async fn nginx_serves_what_the_documentation_says_and_takes_changes_over() {
    let (one, two) = (load::echoing().await, Origin::start().await.answering(|_| origin::ok("two")));
    let listen = origin::vacant().await;
    let mut nginx = Nginx::start(listen, &nginx::documented(listen, &[one.address()])).await;
    let door = Door { address: nginx.address(), host: "any.localhost".to_owned() };
    let load = load::Load::start(&door, 4);
    load.reaches(100).await;
    load.finish().await.all_well();
    let sockets = load::Sockets::open(&door, 3).await;
    nginx.reload(&nginx::documented(listen, &[two.address()])).await;
    assert_eq!(door.get("/").await.text(), "two");
    assert_eq!(sockets.finish().await, vec![load::End::Alive; 3], "a reload leaves what is open alone");
    nginx.stop().await;
    assert!(tokio::net::TcpStream::connect(listen).await.is_err());
}

#[test]
fn a_pattern_tells_a_lost_byte_a_lost_block_and_a_repeated_one() {
    let (mut sent, mut bytes) = (Pattern::default(), Vec::new());
    while bytes.len() < 3_000_000 {
        bytes.extend_from_slice(sent.next(100_000));
    }
    Pattern::default().check(&bytes);
    let without = |range: std::ops::Range<usize>| [&bytes[..range.start], &bytes[range.end..]].concat();
    let twice = [&bytes[..65_536], &bytes[..]].concat();
    for wrong in [without(5_000..5_001), without(65_536..131_072), without(0..1 << 20), twice] {
        assert!(std::panic::catch_unwind(|| Pattern::default().check(&wrong)).is_err());
    }
}

#[tokio::test]
async fn a_vacant_address_refuses() {
    let address = origin::vacant().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    assert_ne!(address, origin::vacant().await);
}
