//! HTTP/2 to visitors, by prior knowledge; the origin speaks HTTP/1.1 and sees what it would see otherwise.

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue};

use crate::harness::{
    Origin, Setup, Signal, Tunnel,
    h2::{DATA, Frames, HEADERS, RESET, Visitor, data, field, frame, whole},
    origin,
    secured::Secured,
    within,
};

#[tokio::test]
async fn the_origin_sees_the_request_that_http1_would_bring() {
    let origin = Origin::start().await.answering(|request| origin::ok(&request.body));
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = Visitor::connect(&tunnel.door()).await;
    let request = visitor
        .request("POST", "/a%2Fb//c?q=%")
        .header("cookie", "a=1")
        .header("x-many", "1")
        .header("cookie", "b=2")
        .header("x-many", "2")
        .header("x-forwarded-host", "forged")
        .header("expect", "100-continue")
        .body(())
        .expect("a request");
    let (response, mut body) = visitor.send(request, false).await;
    body.send_data(Bytes::from_static(b"body"), true).expect("an open stream");
    let reply = whole(response).await.expect("an answer");
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "body"));
    for name in ["connection", "keep-alive", "transfer-encoding"] {
        assert!(!reply.headers.contains_key(name), "{name}");
    }
    let seen = &origin.seen()[0].head;
    assert_eq!(seen.start, "POST /a%2Fb//c?q=% HTTP/1.1");
    assert_eq!(seen.texts("host"), [tunnel.host()]);
    assert_eq!(seen.texts("cookie"), ["a=1; b=2"]);
    assert_eq!(seen.texts("x-many"), ["1", "2"]);
    assert_eq!(seen.texts("x-forwarded-host"), [tunnel.host()]);
    assert_eq!(seen.texts("x-forwarded-for"), ["127.0.0.1"]);
    assert!(!seen.has("expect"));
}

#[tokio::test]
async fn many_requests_share_a_connection_and_none_waits_for_another() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = Visitor::connect(&tunnel.door()).await;
    let mut waiting = Vec::new();
    for number in 0..50 {
        let request = visitor.request("GET", &format!("/{number}")).body(()).expect("a request");
        let (response, _) = visitor.send(request, true).await;
        waiting.push((number, response, origin.request().await));
    }
    // Answered in the reverse order.
    for (number, response, (mut answers, request)) in waiting.into_iter().rev() {
        answers.send(origin::ok(request.head.target())).await;
        assert_eq!(whole(response).await.expect("an answer").text(), format!("/{number}"));
    }
}

#[tokio::test]
async fn both_bodies_stream_at_once_and_end_with_trailers() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = Visitor::connect(&tunnel.door()).await;
    let request = visitor.request("POST", "/talk").header("te", "trailers").header("trailer", "x-sum");
    let (response, mut upload) = visitor.send(request.body(()).expect("a request"), false).await;
    let mut answers = origin.accept().await;
    let head = answers.head().await;
    assert_eq!(head.texts("te"), ["trailers"]);
    answers.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Two\r\n\r\n").await;
    let mut body = within("an answer", response).await.expect("an answer").into_body();
    for round in 0..20 {
        let (ping, pong) = (format!("ping {round}"), format!("pong {round}"));
        upload.send_data(Bytes::from(ping.clone()), false).expect("an open stream");
        assert_eq!(answers.chunked(ping.len()).await, ping.as_bytes());
        answers.send_chunk(&pong).await;
        assert_eq!(data(&mut body).await.expect("more").expect("a part"), pong.as_bytes());
    }
    let trailers = HeaderMap::from_iter([("x-sum".parse().expect("a name"), HeaderValue::from_static("42"))]);
    upload.send_trailers(trailers).expect("an open stream");
    let (rest, trailers) = answers.rest_of_request(&head).await;
    assert_eq!((rest.len(), trailers[0].0.as_str(), trailers[0].1.as_slice()), (0, "x-sum", &b"42"[..]));
    answers.send("0\r\nX-Two: two\r\n\r\n").await;
    assert!(data(&mut body).await.is_none());
    let trailers = within("trailers", body.trailers()).await.expect("a regular end").expect("trailers");
    assert_eq!(trailers["x-two"], "two");
}

#[tokio::test]
async fn a_stream_that_is_given_up_cancels_its_request_and_no_other() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = Visitor::connect(&tunnel.door()).await;
    let request = visitor.request("GET", "/slow").body(()).expect("a request");
    let (response, _) = visitor.send(request, true).await;
    let (mut slow, _) = origin.request().await;
    let request = visitor.request("GET", "/other").body(()).expect("a request");
    let (other, _) = visitor.send(request, true).await;
    let (mut answers, _) = origin.request().await;
    drop(response);
    assert_eq!(slow.closed().await, b"");
    answers.send(origin::ok("other")).await;
    assert_eq!(whole(other).await.expect("an answer").text(), "other");
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_ends_as_if_it_were_whole() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = Visitor::connect(&tunnel.door()).await;
    for head in ["Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "Content-Length: 8\r\n\r\nhalf"] {
        let request = visitor.request("GET", "/broken").body(()).expect("a request");
        let (response, _) = visitor.send(request, true).await;
        let (mut answers, _) = origin.request().await;
        answers.send(format!("HTTP/1.1 200 OK\r\n{head}")).await;
        drop(answers);
        let error = whole(response).await.expect_err("a whole answer");
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{error:?}");
    }
}

#[tokio::test]
async fn what_has_no_body_has_none_and_keeps_its_length() {
    let origin = Origin::start().await.answering(|request| match request.head.target() {
        "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n".to_vec(),
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 55\r\n\r\n".to_vec(),
    });
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = Visitor::connect(&tunnel.door()).await;
    for (method, target, status, length) in
        [("HEAD", "/", 200, Some("55")), ("GET", "/304", 304, Some("77")), ("GET", "/204", 204, None)]
    {
        let request = visitor.request(method, target).body(()).expect("a request");
        let reply = visitor.answer(request).await.expect("an answer");
        let announced = reply.headers.get("content-length").map(|value| value.to_str().expect("text"));
        assert_eq!((reply.status.as_u16(), announced, reply.body.len()), (status, length, 0), "{target}");
    }
}

#[tokio::test]
async fn errors_are_explained_as_ever() {
    let tunnel = Tunnel::to(&format!("http://{}", origin::vacant().await)).await;
    let mut visitor = Visitor::connect(&tunnel.door()).await;
    let reply = visitor.get("/").await;
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["tunnel-error"]),
        (502, &HeaderValue::from_static("origin-unreachable"))
    );
    assert!(reply.text().contains("nothing answers"), "{}", reply.text());
    let mut many = visitor.request("GET", "/");
    for number in 0..150 {
        many = many.header(format!("x-{number}"), "1");
    }
    let reply = visitor.answer(many.body(()).expect("a request")).await.expect("an answer");
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["tunnel-error"]),
        (431, &HeaderValue::from_static("request-head-too-large"))
    );
    let large = visitor.request("GET", "/").header("x", "y".repeat(100_000)).body(()).expect("a request");
    // The library says this by itself, without a sentence.
    assert_eq!(visitor.answer(large).await.expect("an answer").status, 431);
    let twice = visitor.request("POST", "/").header("content-length", "0").header("content-length", "0");
    assert_eq!(visitor.answer(twice.body(()).expect("a request")).await.expect("an answer").status, 400);
}

#[tokio::test]
async fn what_is_of_one_connection_makes_a_request_malformed_and_leaves_the_others_alone() {
    let origin = Origin::start().await.answering(|_| origin::ok("fine"));
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut raw = Frames::connect(&tunnel.door(), &[]).await;
    let bad = [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("keep-alive", "1"),
        ("te", "gzip"),
    ];
    for (number, (name, value)) in (0_u32..).zip(bad) {
        let stream = number * 2 + 1;
        let head = [raw.head("GET", "/"), field(name, value)].concat();
        assert!(raw.send(&frame(HEADERS, 5, stream, &head)).await);
        let reset = raw.next_of(RESET).await;
        let reason = u32::from_be_bytes(reset.payload[..4].try_into().expect("four bytes"));
        assert_eq!((reset.stream, Reason::from(reason)), (stream, Reason::PROTOCOL_ERROR), "{name}");
    }
    let good = raw.get(101, "/");
    assert!(raw.send(&good).await);
    assert_eq!(raw.next_of(HEADERS).await.stream, 101);
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_length_that_is_not_the_bodys_ends_the_stream() {
    let origin = Origin::start().await.answering(|_| origin::ok("fine"));
    let tunnel = Tunnel::to(&origin.url()).await;
    for (announced, sent) in [("3", "longer"), ("9", "short")] {
        let mut raw = Frames::connect(&tunnel.door(), &[]).await;
        let head = [raw.head("POST", "/length"), field("content-length", announced)].concat();
        assert!(raw.send(&[frame(HEADERS, 4, 1, &head), frame(DATA, 1, 1, sent.as_bytes())].concat()).await);
        let reset = raw.next_of(RESET).await;
        assert_eq!(reset.payload, u32::from(Reason::PROTOCOL_ERROR).to_be_bytes(), "{announced} {sent}");
    }
    // What was longer goes no further than it said; an origin that saw the beginning sees no regular end.
    assert_eq!(origin.seen().len(), 0);
    assert_eq!(tunnel.get("/other").await.text(), "fine");
}

#[tokio::test]
async fn a_host_that_is_not_the_authority_is_refused() {
    let origin = Origin::start().await.answering(|_| origin::ok("fine"));
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = Visitor::connect(&tunnel.door()).await;
    for (host, status) in [("elsewhere.localhost", 400), (tunnel.host(), 200)] {
        let request = visitor.request("GET", "/").header("host", host).body(()).expect("a request");
        assert_eq!(visitor.answer(request).await.expect("an answer").status, status, "{host}");
    }
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn by_tls_both_versions_are_offered_and_the_origin_hears_of_https() {
    let origin = Origin::start().await.answering(|_| origin::ok("hello"));
    let tunnel = Secured::start(&origin.url(), "", &[]).await;
    for (flag, version) in [("--http2", "HTTP/2 200"), ("--http1.1", "HTTP/1.1 200")] {
        let answer = tunnel.curl(&[flag]).await;
        assert!(answer.starts_with(version) && answer.ends_with("hello"), "{answer}");
    }
    for request in origin.seen() {
        assert_eq!(request.head.text("x-forwarded-proto").as_deref(), Some("https"));
    }
}

#[tokio::test]
async fn an_operator_may_switch_it_off() {
    let origin = Origin::start().await.answering(|_| origin::ok("hello"));
    let tunnel = Setup::new().proxy_file("http2 = false").start(&origin.url()).await;
    let mut raw = Frames::connect(&tunnel.door(), &[]).await;
    assert_eq!(raw.wire.head().await.status(), 400);
    assert_eq!(tunnel.get("/").await.text(), "hello");
}

#[tokio::test]
async fn an_upgrade_to_h2c_is_not_taken() {
    // Proxies that take it, or pass it on, can be made to smuggle; RFC 9113 has dropped it.
    let origin = Origin::start().await.answering(|_| origin::ok("plain"));
    let tunnel = Tunnel::to(&origin.url()).await;
    let fields = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"];
    let reply = tunnel.ask("GET /", &fields).await.reply("GET").await;
    assert_eq!((reply.status(), reply.text().as_str()), (200, "plain"));
    let seen = &origin.seen()[0].head;
    assert!(!seen.has("upgrade") && !seen.has("http2-settings"), "{seen:?}");
}

#[tokio::test]
async fn a_websocket_has_a_stream_of_its_own() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = Visitor::connect(&tunnel.door()).await;
    // An answer means that the settings are here, of which one allows this (RFC 8441 section 3).
    let request = http::Request::get("http://localhost/healthz").body(()).expect("a request");
    assert_eq!(
        visitor.answer(request).await.expect("an answer").text(),
        "ok
"
    );
    let mut request = visitor
        .request("CONNECT", "/chat")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "one, two")
        .body(())
        .expect("a request");
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (response, mut upload) = visitor.send(request, false).await;
    let mut answers = origin.accept().await;
    let head = answers.head().await;
    assert_eq!((head.method(), head.target()), ("GET", "/chat"));
    let key = head.text("sec-websocket-key").expect("a key");
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    answers
        .send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: two\r\n\r\n"
        ))
        .await;
    let response = within("an answer", response).await.expect("an answer");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["sec-websocket-protocol"]),
        (200, &HeaderValue::from_static("two"))
    );
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let mut body = response.into_body();
    answers.send(b"\x81\x05hello").await;
    assert_eq!(data(&mut body).await.expect("more").expect("a part"), &b"\x81\x05hello"[..]);
    // Masked with zeroes.
    upload.send_data(Bytes::from_static(b"\x81\x82\0\0\0\0hi"), false).expect("an open stream");
    let frame = answers.exactly(8).await;
    let text: Vec<u8> = (0..2).map(|at| frame[6 + at] ^ frame[2 + at]).collect();
    assert_eq!((&frame[..2], text.as_slice()), (&b"\x81\x82"[..], &b"hi"[..]));
}

#[tokio::test]
async fn a_proxy_that_stops_lets_streams_end_and_takes_no_more() {
    let origin = Origin::start().await;
    let mut tunnel = Setup::new().start(&origin.url()).await;
    let mut visitor = Visitor::connect(&tunnel.door()).await;
    let request = visitor.request("GET", "/waiting").body(()).expect("a request");
    let (waiting, _) = visitor.send(request, true).await;
    let (mut answers, _) = origin.request().await;
    tunnel.proxy.process.signal(Signal::TERM);
    tunnel.proxy.process.event("draining").await;
    answers.send(origin::ok("waited")).await;
    assert_eq!(whole(waiting).await.expect("an answer").text(), "waited");
    visitor.ended().await.expect("a farewell without a reason");
    let exit = tunnel.proxy.process.exit().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[tokio::test]
async fn whoever_reads_slowly_holds_up_nobody_on_the_same_connection() {
    let endless = Origin::start().await;
    let tunnel = Setup::new().proxy(&["--max-body", "unlimited"]).start(&endless.url()).await;
    // With room for more than the one stream.
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(64 * 1024).initial_connection_window_size(1024 * 1024);
    let mut visitor = Visitor::with(&tunnel.door(), &builder).await;
    let request = visitor.request("GET", "/endless").body(()).expect("a request");
    let (slow, _) = visitor.send(request, true).await;
    let (mut answers, _) = endless.request().await;
    answers.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").await;
    let slow = within("an answer", slow).await.expect("an answer");
    // More than all windows on the way; the socket takes no more when they are full.
    let filling = tokio::spawn(async move { while answers.try_send(&[0; 65536]).await.is_ok() {} });
    for round in 0..20 {
        let request = visitor.request("GET", &format!("/{round}")).body(()).expect("a request");
        let (quick, _) = visitor.send(request, true).await;
        let (mut answers, _) = endless.request().await;
        answers.send(origin::ok("quick")).await;
        assert_eq!(whole(quick).await.expect("an answer").text(), "quick");
    }
    drop(slow);
    filling.await.expect("the origin hears that nobody reads any more");
}
