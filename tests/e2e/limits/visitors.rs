//! What one visitor may use: requests a second, header fields, time, places.

use crate::harness::{Origin, Setup, Tunnel, origin};

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_back() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let tunnel = Setup::new().proxy(&["--rate", "1/s,burst=3"]).start(&origin.url()).await;
    let mut passed = 0;
    let refused = loop {
        let reply = tunnel.get("/").await;
        if reply.status() != 200 {
            break reply;
        }
        passed += 1;
        assert!(passed < 50, "the limiter never limits");
    };
    assert!(passed >= 3, "only {passed} passed of a burst of 3");
    assert_eq!((refused.status(), refused.error().as_deref()), (429, Some("too-many-requests")));
    let seconds: u32 = refused.head.text("retry-after").expect("a time").parse().expect("in seconds");
    assert!((1..=3).contains(&seconds), "{seconds}");
    assert_eq!(origin.seen().len(), passed, "what is refused doesn't reach the origin");
}

#[tokio::test]
async fn one_tunnels_rate_is_not_anothers() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let tunnel = Setup::new().proxy(&["--rate", "1/s,burst=1"]).start(&origin.url()).await;
    let key = tunnel.proxy.home.file("other.pem");
    let other = crate::harness::Client::start(&tunnel.proxy.url(), &origin.url(), &key, &[]).await;
    while tunnel.get("/").await.status() == 200 {}
    let mut visitor = tunnel.visit().await;
    visitor.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", other.host())).await;
    assert_eq!(visitor.reply("GET").await.status(), 200);
}

#[tokio::test]
async fn too_many_header_fields_are_431() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let tunnel = Setup::new().proxy_file("[limits]\nmax_headers = 20").start(&origin.url()).await;
    let fields: Vec<String> = (0..30).map(|number| format!("X-{number}: 1")).collect();
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    assert_eq!(tunnel.ask("GET /", &fields[..10]).await.reply("GET").await.status(), 200);
    let refused = tunnel.ask("GET /", &fields).await.reply("GET").await;
    let text = refused.explained(431, "request-head-too-large");
    assert!(text.contains("too many header fields") && text.contains("max_headers"), "{text}");
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let tunnel = Setup::new().proxy_file("[limits]\nmax_header_bytes = '16KiB'").start(&origin.url()).await;
    let fits = format!("Cookie: {}", "c".repeat(12_000));
    assert_eq!(tunnel.ask("GET /", &[&fits]).await.reply("GET").await.status(), 200);
    let over = format!("Cookie: {}", "c".repeat(17_000));
    let refused = tunnel.ask("GET /", &[&over]).await.reply("GET").await;
    let text = refused.explained(431, "request-head-too-large");
    assert!(text.contains("too large") && text.contains("max_header_bytes"), "{text}");
    assert_eq!(origin.seen().len(), 1);
}

/// Much more than the kernels' buffers hold: a reset would take the answer with it.
#[tokio::test]
async fn the_answer_to_a_head_without_an_end_arrives() {
    let tunnel = Tunnel::to("http://127.0.0.1:9").await;
    let mut visitor = tunnel.visit().await;
    visitor.send("GET / HTTP/1.1\r\nCookie: ").await;
    // The proxy closes in the end, however much is left to send.
    let endless = vec![b'c'; 64 * 1024];
    for _ in 0..200 {
        if visitor.try_send(&endless).await.is_err() {
            break;
        }
    }
    visitor.reply("GET").await.explained(431, "request-head-too-large");
}

#[tokio::test]
async fn a_head_that_never_ends_is_not_waited_for() {
    let tunnel =
        Setup::new().proxy_file("[limits]\nheader_timeout = '300ms'").start("http://127.0.0.1:9").await;
    let mut visitor = tunnel.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: ").await;
    let reply = visitor.reply("GET").await;
    reply.explained(408, "request-timed-out");
    assert!(reply.head.has("date"), "{:?}", reply.head);
    visitor.finish().await;
    assert_eq!(visitor.closed().await, b"");
    // Who has said nothing is told nothing: it could be taken for the answer to a request on its way.
    let mut silent = tunnel.visit().await;
    assert_eq!(silent.closed().await, b"");
}

#[tokio::test]
async fn what_is_not_http_is_told_so_and_harms_nobody() {
    let origin = Origin::start().await.answering(|_| origin::ok("fine"));
    let tunnel = Tunnel::to(&origin.url()).await;
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"NONSENSE\r\n\r\n",
        b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n\r\nX\r\n\r\n",
    ] {
        let mut visitor = tunnel.visit().await;
        visitor.send(nonsense).await;
        let reply = visitor.reply("GET").await;
        let text = reply.explained(400, "bad-request");
        assert!(text.contains("What happened: "), "{nonsense:?} gets {text}");
        assert_eq!(reply.head.text("connection").as_deref(), Some("close"));
        assert!(reply.head.has("date"), "{:?}", reply.head);
        assert_eq!(visitor.closed().await, b"", "nothing follows {nonsense:?}");
    }
    // Without Host (RFC 9112 section 3.2), and with two.
    for fields in ["", "Host: a.localhost\r\nHost: b.localhost\r\n"] {
        let mut visitor = tunnel.visit().await;
        visitor.send(format!("GET / HTTP/1.1\r\n{fields}\r\n")).await;
        visitor.reply("GET").await.explained(400, "bad-request");
    }
    // Behind a good request, at once.
    let mut visitor = tunnel.visit().await;
    visitor.send([tunnel.head("GET /", &[]), b"NONSENSE\r\n\r\n".to_vec()].concat()).await;
    assert_eq!(visitor.reply("GET").await.text(), "fine");
    visitor.reply("GET").await.explained(400, "bad-request");
    assert_eq!(tunnel.get("/").await.text(), "fine");
}

/// An origin's own bare 400 is an answer like any other.
#[tokio::test]
async fn an_origin_that_answers_as_hyper_would_is_heard() {
    let origin = Origin::start().await.answering(|_| {
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.visit().await;
    for _ in 0..2 {
        visitor.send(tunnel.head("GET /", &[])).await;
        let reply = visitor.reply("GET").await;
        assert_eq!((reply.status(), reply.error(), reply.text().as_str()), (400, None, ""));
    }
}

#[tokio::test]
async fn a_session_takes_so_many_exchanges_and_no_more() {
    let origin = Origin::start().await;
    let tunnel = Setup::new().proxy(&["--max-exchanges", "2"]).start(&origin.url()).await;
    let mut first = tunnel.ask("GET /1", &[]).await;
    let (mut first_origin, _) = origin.request().await;
    let _second = tunnel.ask("GET /2", &[]).await;
    let (_second_origin, _) = origin.request().await;
    let reply = tunnel.get("/3").await;
    assert_eq!((reply.status(), reply.error().as_deref()), (503, Some("too-many-exchanges")));
    assert!(reply.head.has("retry-after"), "{:?}", reply.head);
    // A place that is free again is given again.
    first_origin.send(origin::ok("1")).await;
    assert_eq!(first.reply("GET").await.text(), "1");
    let mut fourth = tunnel.ask("GET /4", &[]).await;
    let request = origin.request_again(&mut first_origin).await;
    assert_eq!(request.head.target(), "/4");
    first_origin.send(origin::ok("4")).await;
    assert_eq!(fourth.reply("GET").await.text(), "4");
}

#[tokio::test]
async fn an_origin_with_too_many_header_fields_is_blamed() {
    let origin = Origin::start().await.answering(|request| {
        let (count, length) = match request.head.target() {
            "/some" => (90, 1),
            "/many" => (110, 1),
            "/long" => (1, 1_000_000),
            _ => (0, 0),
        };
        let value = "x".repeat(length);
        let fields: String = (0..count).map(|number| format!("X-{number}: {value}\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 4\r\n\r\nfine").into_bytes()
    });
    let tunnel = Tunnel::to(&origin.url()).await;
    let some = tunnel.get("/some").await;
    assert_eq!((some.status(), some.head.text("x-89").as_deref()), (200, Some("x")), "{}", some.text());
    for path in ["/many", "/long"] {
        let text = tunnel.get(path).await.explained(502, "origin-failed");
        assert!(text.contains("too large: over 64 kB, or over 100 header fields"), "{text}");
    }
    assert_eq!(tunnel.get("/").await.text(), "fine");
}
