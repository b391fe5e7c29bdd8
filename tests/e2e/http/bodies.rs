//! Bodies: streamed both ways at once, framed as they were, whole or seen to be broken.

use crate::harness::{Origin, Setup, Tunnel, origin};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn both_bodies_of_one_exchange_stream_at_once() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.ask("POST /talk", &["Transfer-Encoding: chunked"]).await;
    let mut answers = origin.accept().await;
    assert_eq!(answers.head().await.texts("transfer-encoding"), ["chunked"]);
    answers.send(CHUNKED).await;
    assert_eq!(visitor.head().await.texts("transfer-encoding"), ["chunked"]);
    for round in 0..50 {
        let (ping, pong) = (format!("ping {round}"), format!("pong {round}"));
        visitor.send_chunk(&ping).await;
        assert_eq!(answers.chunked(ping.len()).await, ping.as_bytes());
        answers.send_chunk(&pong).await;
        assert_eq!(visitor.chunked(pong.len()).await, pong.as_bytes());
    }
    // The response ends first; the request still goes on, and ends well.
    answers.send("0\r\n\r\n").await;
    assert_eq!(visitor.chunk().await, None);
}

#[tokio::test]
async fn a_known_length_stays_known() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.ask("PUT /a", &["Content-Length: 10"]).await;
    visitor.send("01234").await;
    let mut answers = origin.accept().await;
    let head = answers.head().await;
    assert_eq!((head.text("content-length").as_deref(), head.has("transfer-encoding")), (Some("10"), false));
    assert_eq!(answers.exactly(5).await, b"01234");
    visitor.send("56789").await;
    assert_eq!(answers.exactly(5).await, b"56789");
    answers.send("HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\nabcde").await;
    let head = visitor.head().await;
    assert_eq!((head.text("content-length").as_deref(), head.has("transfer-encoding")), (Some("10"), false));
    assert_eq!(visitor.exactly(5).await, b"abcde");
    answers.send("fghij").await;
    assert_eq!(visitor.exactly(5).await, b"fghij");
}

#[tokio::test]
async fn no_body_stays_no_body() {
    let origin = Origin::start().await.answering(|_| origin::ok(""));
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.visit().await;
    for (line, fields, length) in
        [("GET /", &[][..], None), ("DELETE /", &[], None), ("POST /", &["Content-Length: 0"], Some("0"))]
    {
        visitor.send(tunnel.head(line, fields)).await;
        let reply = visitor.reply("GET").await;
        assert_eq!((reply.head.text("content-length").as_deref(), reply.body.len()), (Some("0"), 0));
        let request = origin.seen().pop().expect("one request");
        assert_eq!(request.head.text("content-length").as_deref(), length, "{line}");
        assert!(!request.head.has("transfer-encoding"), "{line}: {:?}", request.head);
    }
}

#[tokio::test]
async fn a_get_may_have_a_body() {
    let origin = Origin::start().await.answering(|request| origin::ok(&request.body));
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.ask("GET /search", &["Content-Length: 5"]).await;
    visitor.send("query").await;
    assert_eq!(visitor.reply("GET").await.text(), "query");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let fields = ["Transfer-Encoding: chunked", "TE: trailers", "Trailer: X-Sum, X-Two"];
    let mut visitor = tunnel.ask("POST /", &fields).await;
    visitor.send("4\r\nbody\r\n0\r\nX-Sum: 1\r\nX-Two: a\r\nX-Two: b\r\n\r\n").await;
    let (mut answers, request) = origin.request().await;
    let sorted = |trailers: &[(String, Vec<u8>)]| {
        let lower = trailers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        let mut all: Vec<_> = lower.collect();
        all.sort();
        all
    };
    let expected = [("x-sum", "1"), ("x-two", "a"), ("x-two", "b")].map(|(n, v)| (n.to_owned(), v.into()));
    assert_eq!(request.body, b"body");
    assert_eq!(sorted(&request.trailers), expected);
    answers.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Two\r\n\r\n").await;
    answers.send("4\r\nydob\r\n0\r\nX-Sum: 1\r\nX-Two: a\r\nX-Two: b\r\n\r\n").await;
    let reply = visitor.reply("POST").await;
    assert_eq!(reply.body, b"ydob");
    assert_eq!(sorted(&reply.trailers), expected);
}

#[tokio::test]
async fn answers_without_a_body_keep_their_content_length() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.ask("GET /", &[]).await;
    let (mut answers, _) = origin.request().await;
    answers.send(origin::ok("first")).await;
    assert_eq!(visitor.reply("GET").await.text(), "first");
    for (method, status, length) in [
        ("HEAD", "200 OK", Some("12345")),
        ("GET", "304 Not Modified", Some("12345")),
        ("HEAD", "404 Not Found", None),
        ("GET", "204 No Content", None),
        ("HEAD", "204 No Content", None),
    ] {
        visitor.send(tunnel.head(&format!("{method} /"), &[])).await;
        origin.request_again(&mut answers).await;
        let line = length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
        answers.send(format!("HTTP/1.1 {status}\r\nETag: \"x\"\r\n{line}\r\n")).await;
        let reply = visitor.reply(method).await;
        assert_eq!(reply.head.text("content-length").as_deref(), length, "{method} {status}");
        assert_eq!(reply.head.text("etag").as_deref(), Some("\"x\""));
    }
    // Nothing but heads came: the connection is still in step.
    visitor.send(tunnel.head("GET /", &[])).await;
    origin.request_again(&mut answers).await;
    answers.send(origin::ok("in step")).await;
    assert_eq!(visitor.reply("GET").await.text(), "in step");
}

#[tokio::test]
async fn ranges_pass() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.ask("GET /film", &["Range: bytes=2-4", "If-Range: \"v1\""]).await;
    let (mut answers, request) = origin.request().await;
    assert_eq!(request.head.texts("range"), ["bytes=2-4"]);
    assert_eq!(request.head.texts("if-range"), ["\"v1\""]);
    answers.send("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/10\r\n").await;
    answers.send("Content-Length: 3\r\n\r\ncde").await;
    let reply = visitor.reply("GET").await;
    assert_eq!((reply.status(), reply.text().as_str()), (206, "cde"));
    assert_eq!(reply.head.texts("content-range"), ["bytes 2-4/10"]);
}

#[tokio::test]
async fn an_encoded_body_passes_as_it_is() {
    let gzip: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x04\x00\x43\xbe\xb7\xe8\x01\x00\x00\x00";
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.ask("GET /", &["Accept-Encoding: gzip, br;q=0.5"]).await;
    let (mut answers, request) = origin.request().await;
    assert_eq!(request.head.texts("accept-encoding"), ["gzip, br;q=0.5"]);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", gzip.len());
    answers.send([head.as_bytes(), gzip].concat()).await;
    let reply = visitor.reply("GET").await;
    assert_eq!((&reply.body[..], reply.head.texts("content-encoding")), (gzip, vec!["gzip".to_owned()]));
}

#[tokio::test]
async fn server_sent_events_arrive_one_by_one() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.ask("GET /events", &["Accept: text/event-stream"]).await;
    let (mut answers, _) = origin.request().await;
    answers
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert_eq!(visitor.head().await.texts("content-type"), ["text/event-stream"]);
    for number in 0..20 {
        let event = format!("id: {number}\ndata: tick\n\n");
        answers.send_chunk(&event).await;
        assert_eq!(visitor.chunked(event.len()).await, event.as_bytes());
    }
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_whole() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.ask("GET /", &[]).await;
    let (mut answers, _) = origin.request().await;
    answers.send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end").await;
    drop(answers);
    assert_eq!(visitor.reply("GET").await.text(), "until the end");
}

#[tokio::test]
async fn a_body_that_the_origin_breaks_off_is_not_passed_off_as_whole() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    for framing in ["Content-Length: 9\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut visitor = tunnel.ask("GET /", &[]).await;
        let (mut answers, _) = origin.request().await;
        answers.send(format!("HTTP/1.1 200 OK\r\n{framing}")).await;
        let head = visitor.head().await;
        drop(answers);
        let broken = visitor.rest_of_reply("GET", &head).await.expect_err("the visitor has to see that");
        assert!(b"abc".starts_with(&broken.got), "{broken:?}");
    }
}

#[tokio::test]
async fn a_body_that_the_visitor_breaks_off_is_not_passed_off_as_whole() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    for (framing, bytes) in [("Content-Length: 9", "abc"), ("Transfer-Encoding: chunked", "3\r\nabc\r\n")] {
        let mut visitor = tunnel.ask("POST /", &[framing]).await;
        visitor.send(bytes).await;
        let mut answers = origin.accept().await;
        answers.head().await;
        drop(visitor);
        let got = answers.closed().await;
        assert!(!got.ends_with(b"0\r\n\r\n"), "{got:?}");
        assert!(got.len() < 9, "{got:?}");
    }
}

#[tokio::test]
async fn four_hundred_kilobytes_pass_whole_in_pieces_of_any_size() {
    let origin = Origin::start().await.answering(|request| origin::ok(&request.body));
    let tunnel = Setup::new().start(&origin.url()).await;
    let body: Vec<u8> = (0_u32..100_000).flat_map(u32::to_le_bytes).collect();
    for piece in [1_000, 65_535, 65_536, 65_537, 400_000] {
        let mut visitor = tunnel.ask("POST /", &["Transfer-Encoding: chunked"]).await;
        for part in body.chunks(piece) {
            visitor.send_chunk(part).await;
        }
        visitor.send("0\r\n\r\n").await;
        assert!(visitor.reply("POST").await.body == body, "in pieces of {piece}");
    }
}
