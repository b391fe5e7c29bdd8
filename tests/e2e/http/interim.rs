//! Responses with 1xx, and what goes by `Expect: 100-continue`.

use crate::harness::{Origin, Tunnel, origin};

const EXPECTS: [&str; 2] = ["Expect: 100-continue", "Content-Length: 5"];

#[tokio::test]
async fn early_hints_arrive_early() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.ask("GET /page", &[]).await;
    let (mut answers, _) = origin.request().await;
    answers.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>\r\n\r\n").await;
    let hints = visitor.head().await;
    assert_eq!(hints.status(), 103);
    assert_eq!(hints.texts("link"), ["</a.css>; rel=preload", "</b.js>"]);
    answers.send("HTTP/1.1 103 Early Hints\r\nLink: </c.css>\r\n\r\n").await;
    assert_eq!(visitor.head().await.texts("link"), ["</c.css>"]);
    answers.send(origin::ok("page")).await;
    let reply = visitor.reply("GET").await;
    assert_eq!((reply.interim.len(), reply.text().as_str()), (0, "page"));
    assert!(!reply.head.has("link"), "hints are not part of the answer: {:?}", reply.head);

    visitor.send(tunnel.head("GET /again", &[])).await;
    origin.request_again(&mut answers).await;
    answers.send(origin::ok("again")).await;
    assert_eq!(visitor.reply("GET").await.text(), "again");
}

#[tokio::test]
async fn a_visitor_of_http_1_0_gets_no_early_hints() {
    // RFC 9110 section 15.2: no 1xx to a 1.0 client.
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.visit().await;
    visitor.send(format!("GET / HTTP/1.0\r\nHost: {}\r\n\r\n", tunnel.host())).await;
    let (mut answers, _) = origin.request().await;
    answers.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
    answers.send(origin::ok("page")).await;
    let reply = visitor.reply("GET").await;
    assert_eq!((reply.interim.len(), reply.text().as_str()), (0, "page"));
}

#[tokio::test]
async fn an_expected_continue_is_the_origins_to_give() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.ask("POST /upload", &EXPECTS).await;
    let mut answers = origin.accept().await;
    let head = answers.head().await;
    assert_eq!(head.text("expect").as_deref(), Some("100-continue"));
    assert_eq!(head.text("content-length").as_deref(), Some("5"));
    // The origin hasn't said anything, so the visitor hasn't heard anything.
    assert_eq!(visitor.arrived().await, b"");
    answers.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(visitor.head().await.status(), 100);
    visitor.send("hello").await;
    assert_eq!(answers.rest_of_request(&head).await.0, b"hello");
    answers.send(origin::ok("got it")).await;
    let reply = visitor.reply("POST").await;
    assert_eq!((reply.interim.len(), reply.text().as_str()), (0, "got it"));
}

#[tokio::test]
async fn a_body_that_the_origin_refuses_is_never_asked_for() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.ask("POST /upload", &EXPECTS).await;
    let mut answers = origin.accept().await;
    answers.head().await;
    answers.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\nX-Own: 1\r\n\r\nno").await;
    let reply = visitor.reply("POST").await;
    assert_eq!((reply.status(), reply.text().as_str(), reply.interim.len()), (417, "no", 0));
    assert_eq!((reply.head.text("x-own").as_deref(), reply.error()), (Some("1"), None));
    drop(visitor);
    assert_eq!(answers.closed().await, b"", "no byte of a body came");
}

#[tokio::test]
async fn an_answer_may_come_before_the_body_is_over() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.ask("POST /upload", &["Transfer-Encoding: chunked"]).await;
    visitor.send_chunk("begin").await;
    let mut answers = origin.accept().await;
    answers.head().await;
    assert_eq!(answers.chunked(5).await, b"begin");
    answers.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
    let reply = visitor.reply("POST").await;
    assert_eq!((reply.status(), reply.text().as_str()), (401, "no"));
}

#[tokio::test]
async fn hints_may_come_before_the_continue() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.ask("POST /upload", &EXPECTS).await;
    let mut answers = origin.accept().await;
    let head = answers.head().await;
    answers.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
    assert_eq!(visitor.head().await.status(), 103);
    answers.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(visitor.head().await.status(), 100);
    visitor.send("hello").await;
    assert_eq!(answers.rest_of_request(&head).await.0, b"hello");
    answers.send(origin::ok("got it")).await;
    assert_eq!(visitor.reply("POST").await.text(), "got it");
}
