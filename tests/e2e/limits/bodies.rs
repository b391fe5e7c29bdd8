//! The limit of bodies: what is over it is refused as early as it can be known, and the answer names the setting.

use crate::harness::{Origin, Reply, Setup, Tunnel, origin};

const LIMIT: usize = 100_000;

async fn limited(target: &str) -> Tunnel {
    Setup::new().proxy(&["--max-body", "100kB"]).start(target).await
}

#[track_caller]
fn names_limit_and_setting(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status(), reply.error().as_deref()), (status, Some(code)), "{}", reply.text());
    let text = reply.text();
    assert!(text.contains("max_body") || text.contains("--max-body"), "no setting in: {text}");
    let plain: String =
        text.chars().filter(|character| !matches!(character, ',' | '_' | ' ' | '\u{a0}')).collect();
    assert!(plain.contains("100000") || plain.contains("100kB"), "no limit in: {text}");
}

#[tokio::test]
async fn an_announced_request_over_the_limit_never_reaches_the_origin() {
    let origin = Origin::start().await.answering(|request| origin::ok(request.body.len().to_string()));
    let tunnel = limited(&origin.url()).await;
    assert_eq!(tunnel.post("/", &[1; LIMIT]).await.text(), LIMIT.to_string());
    let mut visitor = tunnel.ask("POST /over", &["Content-Length: 100001"]).await;
    names_limit_and_setting(&visitor.reply("POST").await, 413, "request-too-large");
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_visitor_that_waits_for_100_gets_413_instead() {
    let origin = Origin::start().await.answering(|_| origin::ok("never"));
    let tunnel = limited(&origin.url()).await;
    let mut visitor = tunnel.ask("PUT /over", &["Content-Length: 100001", "Expect: 100-continue"]).await;
    let reply = visitor.reply("PUT").await;
    assert!(reply.interim.is_empty(), "{reply:?}");
    names_limit_and_setting(&reply, 413, "request-too-large");
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_request_found_too_large_on_the_way_is_cut_off() {
    let origin = Origin::start().await;
    let tunnel = limited(&origin.url()).await;
    let mut visitor = tunnel.ask("POST /over", &["Transfer-Encoding: chunked"]).await;
    visitor.send_chunk([1; 50_000]).await;
    let mut answers = origin.accept().await;
    answers.head().await;
    assert_eq!(answers.chunked(50_000).await.len(), 50_000);
    visitor.send_chunk([1; 50_001]).await;
    names_limit_and_setting(&visitor.reply("POST").await, 413, "request-too-large");
    let left = answers.closed().await;
    assert!(!left.ends_with(b"0\r\n\r\n"), "the origin must not take it for whole");
}

#[tokio::test]
async fn an_announced_response_over_the_limit_is_not_begun() {
    let origin = Origin::start().await.answering(|request| match request.head.target() {
        "/over" => origin::ok([2; LIMIT + 1]),
        _ => origin::ok([2; LIMIT]),
    });
    let tunnel = limited(&origin.url()).await;
    assert_eq!(tunnel.get("/just").await.body.len(), LIMIT);
    names_limit_and_setting(&tunnel.get("/over").await, 502, "response-too-large");
    // What has no body has none that is too large.
    let reply = tunnel.ask("HEAD /over", &[]).await.reply("HEAD").await;
    assert_eq!((reply.status(), reply.head.text("content-length")), (200, Some((LIMIT + 1).to_string())));
}

#[tokio::test]
async fn a_response_found_too_large_on_the_way_is_cut_off() {
    let origin = Origin::start().await;
    let tunnel = limited(&origin.url()).await;
    let mut visitor = tunnel.ask("GET /over", &[]).await;
    let (mut answers, _) = origin.request().await;
    answers.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    answers.send_chunk([2; 50_000]).await;
    let head = visitor.head().await;
    assert_eq!(visitor.chunked(50_000).await.len(), 50_000);
    answers.send_chunk([2; 50_001]).await;
    let broken = visitor.rest_of_reply("GET", &head).await.expect_err("a reset, not an end");
    assert!(broken.got.len() <= 50_000, "{} bytes over", broken.got.len() - 50_000);
    answers.closed().await;
}

#[tokio::test]
async fn the_default_is_500_kilobytes() {
    let origin = Origin::start().await.answering(|request| origin::ok(&request.body));
    let tunnel = Tunnel::to(&origin.url()).await;
    assert_eq!(tunnel.post("/", &[3; 500_000]).await.body.len(), 500_000);
    let mut visitor = tunnel.ask("POST /over", &["Content-Length: 500001"]).await;
    assert_eq!(visitor.reply("POST").await.status(), 413);
}
