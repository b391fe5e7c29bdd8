//! The origin's side of an exchange: TLS, and that it learns when a visitor has gone.

use crate::harness::{Origin, Setup, Tunnel, origin};

#[tokio::test]
async fn an_origin_with_a_certificate_of_its_own_making_is_refused_in_words() {
    let origin = Origin::start_tls().await.answering(|_| origin::ok("secret"));
    let target = format!("https://localhost:{}", origin.address().port());
    let tunnel = Tunnel::to(&target).await;
    let reply = tunnel.get("/").await;
    assert_eq!((reply.status(), reply.error().as_deref()), (502, Some("origin-unreachable")));
    let text = reply.text().to_lowercase();
    assert!(text.contains("certificate"), "{text}");
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn an_origin_with_a_certificate_of_its_own_making_works_when_its_owner_says_so() {
    let origin = Origin::start_tls().await.answering(|request| origin::ok(request.head.target()));
    let target = format!("https://localhost:{}", origin.address().port());
    let tunnel = Setup::new().client(&["--insecure-origin"]).start(&target).await;
    assert_eq!(tunnel.get("/over/tls").await.text(), "/over/tls");
    assert_eq!(tunnel.post("/again", &[7; 100_000]).await.text(), "/again");
    assert_eq!(origin.seen()[1].body, [7; 100_000]);
}

#[tokio::test]
async fn a_visitor_that_hangs_up_before_the_answer_cancels_the_request() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let visitor = tunnel.ask("GET /slow", &[]).await;
    let (mut answers, _) = origin.request().await;
    drop(visitor);
    assert_eq!(answers.closed().await, b"");
}

#[tokio::test]
async fn a_visitor_that_hangs_up_in_the_body_cancels_the_request() {
    let origin = Origin::start().await;
    let tunnel = Setup::new().proxy(&["--max-body", "unlimited"]).start(&origin.url()).await;
    let mut visitor = tunnel.ask("GET /endless", &[]).await;
    let (mut answers, _) = origin.request().await;
    answers.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    visitor.head().await;
    assert_eq!(visitor.chunked(3).await, b"abc");
    drop(visitor);
    assert_eq!(answers.closed().await, b"");
    // The tunnel itself is as well as before.
    let mut visitor = tunnel.ask("GET /next", &[]).await;
    let (mut answers, _) = origin.request().await;
    answers.send(origin::ok("next")).await;
    assert_eq!(visitor.reply("GET").await.text(), "next");
}

#[tokio::test]
async fn an_origin_that_closes_idle_connections_is_not_a_failure() {
    // A pooled connection may die between two requests; the next one must not pay for it.
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    for round in 0..10 {
        let mut visitor = tunnel.ask(&format!("GET /{round}"), &[]).await;
        let (mut answers, _) = origin.request().await;
        answers.send(origin::ok("fine")).await;
        let reply = visitor.reply("GET").await;
        assert_eq!((reply.status(), reply.text().as_str()), (200, "fine"), "round {round}");
        // Idle now, and closed by the origin; the client has seen it when it closes its own half. A request that
        // crosses the close on its way fails.
        answers.finish().await;
        answers.closed().await;
    }
}

/// Where such an answer ends, two programs may see differently: nothing that follows it is the answer to anybody.
#[tokio::test]
async fn an_answer_with_two_ends_is_refused_and_its_connection_with_it() {
    let origin = Origin::start().await.answering(|request| {
        let framing = match request.head.target() {
            "/length-and-chunks" => "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "/chunks-and-length" => "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
            "/two-lengths" => "Content-Length: 0\r\nContent-Length: 5\r\n\r\nfalse",
            "/list" => "Content-Length: 0, 5\r\n\r\nfalse",
            "/sign" => "Content-Length: +5\r\n\r\nfalse",
            "/coding" => "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "/coding-alone" => "Transfer-Encoding: gzip\r\n\r\n",
            "/twice" => "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            _ => "Content-Length: 4\r\n\r\nfine",
        };
        let false_answer = if request.head.target() == "/fine" {
            ""
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse"
        };
        format!("HTTP/1.1 200 OK\r\n{framing}{false_answer}").into_bytes()
    });
    let tunnel = Tunnel::to(&origin.url()).await;
    for target in [
        "/length-and-chunks",
        "/chunks-and-length",
        "/two-lengths",
        "/list",
        "/sign",
        "/coding",
        "/coding-alone",
        "/twice",
    ] {
        assert_eq!(tunnel.get("/fine").await.text(), "fine", "before {target}");
        let connections = origin.connections();
        tunnel.get(target).await.explained(502, "origin-failed");
        assert_eq!(tunnel.get("/fine").await.text(), "fine", "after {target}");
        assert_eq!(origin.connections(), connections + 1, "after {target}");
    }
}

#[tokio::test]
async fn an_answer_in_bad_chunks_breaks_off_and_its_connection_with_it() {
    let origin = Origin::start().await.answering(|request| {
        let chunks = match request.head.target() {
            "/fine" => "4\r\nfine\r\n0\r\n\r\n",
            "/size" => "4\r\nfine\r\n0x5\r\nfalse\r\n0\r\n\r\n",
            "/end" => "4\r\nfine0\r\n\r\n",
            _ => "4\r\nfine\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse",
        };
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}").into_bytes()
    });
    let tunnel = Tunnel::to(&origin.url()).await;
    for target in ["/size", "/end", "/response"] {
        assert_eq!(tunnel.get("/fine").await.text(), "fine", "before {target}");
        let connections = origin.connections();
        let mut visitor = tunnel.ask(&format!("GET {target}"), &[]).await;
        let seen = visitor.closed().await;
        assert!(!seen.ends_with(b"0\r\n\r\n"), "{target}: {}", String::from_utf8_lossy(&seen));
        assert_eq!(tunnel.get("/fine").await.text(), "fine", "after {target}");
        assert_eq!(origin.connections(), connections + 1, "after {target}");
    }
}

#[tokio::test]
async fn the_client_tells_of_each_exchange() {
    let origin = Origin::start().await.answering(|request| origin::ok(&request.body));
    let mut tunnel = Tunnel::to(&origin.url()).await;
    assert_eq!(tunnel.post("/told?q", b"four").await.text(), "four");
    let event = tunnel.client.process.event("exchange").await;
    assert_eq!(event["method"], "POST", "{event}");
    assert_eq!(event["path"], "/told?q", "{event}");
    assert_eq!(event["status"], 200, "{event}");
}
