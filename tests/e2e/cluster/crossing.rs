//! A visitor at one node, the client at another: everything crosses between them as if there were one node.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt, stream};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Client, Cluster, Door, Frame, Opcode, Origin, Wire, load, origin, websocket, within};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A cluster with a client at its first node, and the door of the second.
async fn across(target: &str) -> (Cluster, Client, Door) {
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client_at(0, target).await;
    let door = cluster.door_at(1, &client);
    (cluster, client, door)
}

#[tokio::test]
async fn a_visitor_at_any_node_reaches_the_client_as_soon_as_it_has_registered() {
    let origin = load::echoing().await;
    let (cluster, client, _) = across(&origin.url()).await;
    let mut doors: Vec<Door> = (0..3).map(|node| cluster.door_at(node, &client)).collect();
    doors.push(cluster.door(&client));
    for door in &doors {
        let reply = door.get("/a?b=%2f").await;
        assert_eq!((reply.status(), reply.text().as_str()), (200, "/a?b=%2f"));
        let body: Vec<u8> = (0_u32..100_000).flat_map(u32::to_le_bytes).collect();
        let reply = door.post("/", &body).await;
        assert_eq!(reply.status(), 200, "{}", reply.text());
        assert!(reply.body == body, "the body comes back as it was sent");
    }
    // By path too, where there is no wildcard DNS.
    let mut visitor = doors[2].visit().await;
    let path = format!("/proxy/request/{}/by-path", client.label());
    visitor.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", doors[2].address)).await;
    assert_eq!(visitor.reply("GET").await.status(), 200);
}

#[tokio::test]
async fn the_origin_sees_the_same_of_a_visitor_whichever_node_it_came_to() {
    let origin = Origin::start().await.answering(|_| origin::ok("seen"));
    let (cluster, client, _) = across(&origin.url()).await;
    for door in [cluster.door_at(0, &client), cluster.door_at(1, &client)] {
        let fields =
            ["X-Many: 1", "x-many: 2", "Cookie: a=b; c=d", "X-Forwarded-Host: forged", "Te: trailers"];
        assert_eq!(door.ask("GET /seen?q", &fields).await.reply("GET").await.status(), 200);
    }
    let mut seen = origin.seen().into_iter().map(|request| {
        let mut fields = request.head.fields;
        // Of one name the order counts, of different names it doesn't.
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        (request.head.start, fields)
    });
    let (local, remote) = (seen.next().expect("two requests"), seen.next().expect("two requests"));
    assert!(
        local.1.iter().any(|(name, value)| name == "x-forwarded-for" && value == b"127.0.0.1"),
        "{local:?}"
    );
    assert_eq!(local, remote);
}

#[tokio::test]
async fn both_bodies_stream_at_once_and_end_with_trailers() {
    let origin = Origin::start().await;
    let (_cluster, _client, door) = across(&origin.url()).await;
    let fields = ["Transfer-Encoding: chunked", "TE: trailers", "Trailer: X-Sum"];
    let mut visitor = door.ask("POST /talk", &fields).await;
    let mut answers = origin.accept().await;
    let head = answers.head().await;
    answers.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Two\r\n\r\n").await;
    let reply = visitor.head().await;
    for round in 0..50 {
        let (ping, pong) = (format!("ping {round}"), format!("pong {round}"));
        visitor.send_chunk(&ping).await;
        assert_eq!(answers.chunked(ping.len()).await, ping.as_bytes());
        answers.send_chunk(&pong).await;
        assert_eq!(visitor.chunked(pong.len()).await, pong.as_bytes());
    }
    visitor.send("0\r\nX-Sum: 1\r\n\r\n").await;
    let (rest, trailers) = answers.rest_of_request(&head).await;
    assert_eq!((rest.len(), trailers[0].1.as_slice()), (0, &b"1"[..]));
    answers.send("0\r\nX-Two: a\r\nX-Two: b\r\n\r\n").await;
    let (rest, trailers) = visitor.rest_of_reply("POST", &reply).await.expect("the body is whole");
    let values: Vec<&[u8]> = trailers.iter().map(|(_, value)| &value[..]).collect();
    assert_eq!((rest.len(), values), (0, vec![&b"a"[..], b"b"]));
}

#[tokio::test]
async fn server_sent_events_arrive_one_by_one() {
    let origin = Origin::start().await;
    let (cluster, client, remote) = across(&origin.url()).await;
    for door in [remote, cluster.door(&client)] {
        let mut visitor = door.ask("GET /events", &["Accept: text/event-stream"]).await;
        let (mut answers, _) = origin.request().await;
        let kind = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        answers.send(kind).await;
        assert_eq!(visitor.head().await.texts("content-type"), ["text/event-stream"]);
        for number in 0..20 {
            let event = format!("id: {number}\ndata: tick\n\n");
            answers.send_chunk(&event).await;
            assert_eq!(visitor.chunked(event.len()).await, event.as_bytes());
        }
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_their_content_length() {
    let origin = Origin::start().await.answering(|request| {
        let status = request.head.target().trim_start_matches('/').replace('-', " ");
        format!("HTTP/1.1 {status}\r\nContent-Length: 12345\r\n\r\n").into_bytes()
    });
    let (_cluster, _client, door) = across(&origin.url()).await;
    let mut visitor = door.visit().await;
    for (method, status) in [("HEAD", "200-OK"), ("GET", "304-Not-Modified"), ("HEAD", "404-Not-Found")] {
        visitor.send(door.head(&format!("{method} /{status}"), &[])).await;
        let reply = visitor.reply(method).await;
        assert!(status.starts_with(&reply.status().to_string()), "{}", reply.status());
        assert_eq!(reply.head.text("content-length").as_deref(), Some("12345"), "{method} {status}");
    }
}

#[tokio::test]
async fn interim_responses_arrive_when_they_are_sent() {
    let origin = Origin::start().await;
    let (_cluster, _client, door) = across(&origin.url()).await;
    let mut visitor = door.ask("POST /upload", &["Expect: 100-continue", "Content-Length: 5"]).await;
    let mut answers = origin.accept().await;
    let head = answers.head().await;
    answers.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nLink: </b.js>\r\n\r\n").await;
    let hints = visitor.head().await;
    assert_eq!((hints.status(), hints.texts("link").len()), (103, 2));
    assert_eq!(visitor.arrived().await, b"", "the 100 is the origin's to give");
    answers.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(visitor.head().await.status(), 100);
    visitor.send("hello").await;
    assert_eq!(answers.rest_of_request(&head).await.0, b"hello");
    answers.send(origin::ok("got it")).await;
    let reply = visitor.reply("POST").await;
    assert_eq!((reply.interim.len(), reply.text().as_str()), (0, "got it"));
}

#[tokio::test]
async fn websockets_keep_kinds_order_pings_and_codes() {
    let origin = Origin::start().await;
    let (cluster, client, remote) = across(&origin.url()).await;
    for door in [&remote, &cluster.door(&client)] {
        for (code, reason) in [(1000, ""), (1011, "\u{e9}"), (4999, "own")] {
            let (mut visitor, mut answers) = websocket::open(door, &origin, "/").await;
            for number in 0..50_u16 {
                let (kind, payload) = match number % 3 {
                    0 => (Opcode::Text, number.to_string().into_bytes()),
                    1 => (Opcode::Binary, vec![0xff; usize::from(number) * 1000]),
                    _ => (Opcode::Ping, number.to_be_bytes().to_vec()),
                };
                visitor.send(Frame::whole(kind, payload.clone())).await;
                assert_eq!(answers.message().await, Frame::whole(kind, payload.clone()));
                let back = if kind == Opcode::Ping { Opcode::Pong } else { kind };
                answers.send(Frame::whole(back, payload.clone())).await;
                assert_eq!(visitor.message().await, Frame::whole(back, payload));
            }
            answers.send(Frame::close(code, reason)).await;
            assert_eq!(visitor.next().await, Frame::close(code, reason));
            visitor.send(Frame::close(code, reason)).await;
            assert_eq!(answers.next().await, Frame::close(code, reason));
            visitor.ended().await;
        }
    }
    let (mut visitor, mut answers) = websocket::open(&remote, &origin, "/").await;
    visitor.send(Frame::close(4001, "bye")).await;
    assert_eq!(answers.next().await, Frame::close(4001, "bye"));
}

#[tokio::test]
async fn large_heads_and_large_messages_cross_whole() {
    let origin = Origin::start().await;
    let (_cluster, _client, door) = across(&origin.url()).await;
    let cookie = format!("Cookie: {}", "c".repeat(50_000));
    let mut visitor = door.ask("GET /", &[&cookie]).await;
    let (mut answers, request) = origin.request().await;
    assert_eq!(request.head.text("cookie").map(|value| value.len()), Some(50_000));
    let field = format!("X-Long: {}", "x".repeat(50_000));
    let close = "Connection: close";
    answers.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{close}\r\n{field}\r\n\r\n")).await;
    assert_eq!(visitor.reply("GET").await.head.text("x-long").map(|value| value.len()), Some(50_000));

    let (mut visitor, mut answers) = websocket::open_sockets(&door, &origin, "/").await;
    let message: Vec<u8> = (0_u32..3_000_000).flat_map(u32::to_le_bytes).collect();
    let message = Message::binary(message);
    for _ in 0..2 {
        let there = async {
            let heard = answers.next().await.expect("a message").expect("well-formed");
            assert!(heard == message, "the message arrives as it was sent");
            answers.send(heard).await.expect("taken");
        };
        let back = async {
            visitor.send(message.clone()).await.expect("taken");
            let heard = visitor.next().await.expect("a message").expect("well-formed");
            assert!(heard == message, "the message comes back as it was sent");
        };
        within("a message there and back", async { tokio::join!(there, back) }).await;
    }
}

#[tokio::test]
async fn a_refused_websocket_is_refused_in_the_origins_words() {
    let origin = Origin::start()
        .await
        .answering(|_| b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nX-Own: 1\r\n\r\nno".to_vec());
    let (_cluster, _client, door) = across(&origin.url()).await;
    let reply = websocket::ask(&door, "/", &[]).await.reply("GET").await;
    assert_eq!((reply.status(), reply.text().as_str()), (403, "no"));
    assert!(reply.head.has("x-own"));
}

#[tokio::test]
async fn a_visitor_that_hangs_up_is_gone_at_the_origin_too() {
    let origin = Origin::start().await;
    let (_cluster, _client, door) = across(&origin.url()).await;

    let visitor = door.ask("GET /waiting", &[]).await;
    let (mut answers, _) = origin.request().await;
    drop(visitor);
    assert_eq!(answers.closed().await, b"");

    let mut visitor = door.ask("GET /reading", &[]).await;
    let (mut answers, _) = origin.request().await;
    answers.send(CHUNKED).await;
    answers.send_chunk("begun").await;
    visitor.head().await;
    assert_eq!(visitor.chunked(5).await, b"begun");
    drop(visitor);
    assert_eq!(answers.closed().await, b"");

    let mut visitor = door.ask("POST /sending", &["Content-Length: 10"]).await;
    visitor.send("half").await;
    let mut answers = origin.accept().await;
    answers.head().await;
    assert_eq!(answers.exactly(4).await, b"half");
    drop(visitor);
    assert_eq!(answers.closed().await, b"", "what broke off is not passed off as whole");

    let (visitor, answers) = websocket::open(&door, &origin, "/").await;
    drop(visitor);
    answers.into_wire().closed().await;
}

/// A node that stops waits for what crosses it: nothing may be left of exchanges that are over.
#[tokio::test]
async fn hundreds_of_visitors_that_hang_up_leave_nothing_behind() {
    let origin = Origin::start().await.handling(|mut wire| async move {
        while let Ok(head) = wire.try_head().await {
            if head.has("sec-websocket-key") {
                return websocket::accept(&mut wire, &head, &[]).await;
            }
            let begun = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegun";
            if head.target() != "/silent" && wire.try_send(begun.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    let (mut cluster, client, door) = across(&origin.url()).await;
    let hang_up = async |number: usize| {
        let visitor = match number % 5 {
            0 => door.ask("GET /silent", &[]).await,
            1 => door.ask("GET /begins", &[]).await,
            2 => {
                let mut visitor = door.ask("GET /begins", &[]).await;
                visitor.head().await;
                visitor
            }
            3 => door.ask("POST /begins", &["Content-Length: 1000000"]).await,
            _ => websocket::ask(&door, "/", &[]).await,
        };
        drop(visitor);
    };
    stream::iter(0..500).map(hang_up).buffer_unordered(50).collect::<Vec<()>>().await;
    drop(client);
    for node in &mut cluster.nodes[..2] {
        let stopped = tokio::time::timeout(Duration::from_secs(10), node.stop());
        let exit = stopped.await.expect("well below the grace period of 30 s");
        assert_eq!(exit.code, Some(0), "{exit:?}");
    }
}

#[tokio::test]
async fn an_origin_that_breaks_off_is_seen_to_by_the_visitor() {
    let origin = Origin::start().await;
    let (_cluster, _client, door) = across(&origin.url()).await;
    for framing in ["Content-Length: 9\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut visitor = door.ask("GET /", &[]).await;
        let (mut answers, _): (Wire, _) = origin.request().await;
        answers.send(format!("HTTP/1.1 200 OK\r\n{framing}")).await;
        let head = visitor.head().await;
        drop(answers);
        let broken = visitor.rest_of_reply("GET", &head).await.expect_err("the visitor has to see that");
        assert!(b"abc".starts_with(&broken.got), "{broken:?}");
    }
}

#[tokio::test]
async fn failures_say_the_same_at_every_node() {
    let address = origin::vacant().await;
    let (cluster, client, remote) = across(&format!("http://{address}")).await;
    let sentences = [cluster.door_at(0, &client), remote].map(|door| async move {
        let reply = door.get("/").await;
        let text = reply.explained(502, "origin-unreachable");
        // All but the request's id.
        let id = reply.head.text("tunnel-request-id").expect("an id");
        text.replace(&id, "ID")
    });
    let [local, remote] = sentences;
    assert_eq!(local.await, remote.await);
}

#[tokio::test]
async fn an_origin_that_never_answers_is_given_up_across_nodes_too() {
    let origin = Origin::start().await;
    let cluster = Cluster::start(&["--answer-timeout", "500ms"]).await;
    let client = cluster.client_at(0, &origin.url()).await;
    let mut visitor = cluster.door_at(1, &client).ask("GET /never", &[]).await;
    let (mut answers, _) = origin.request().await;
    visitor.reply("GET").await.explained(504, "timed-out");
    assert_eq!(answers.closed().await, b"", "the request is cancelled at the origin too");
}
