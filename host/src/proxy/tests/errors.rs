//! What visitors see when there is no answer, and what the proxy says of itself.

use super::*;

async fn echo_body(request: Request) -> Answered {
    ok(collect(request.body).await?.0)
}

fn limited(max_body: u64) -> Config {
    let mut config = config();
    config.limits.max_body = Some(max_body);
    config
}

#[tokio::test]
async fn unknown_and_offline_tunnels_are_told_apart_in_the_visitors_form() {
    let mut node = Node::start(config()).await;
    let mut visitor = node.connect().await;
    visitor.get("/", "Accept: application/json\r\n").await;
    let (head, body) = visitor.response().await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    assert_eq!(header(&head, "tunnel-error"), Some("no-such-tunnel"));
    assert_eq!(header(&head, "content-type"), Some("application/json"));
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(json["error"], "no-such-tunnel");
    assert_eq!(json["request_id"].as_str(), header(&head, "tunnel-request-id"));

    node.seats.push(node.shared.bus.register(name(), Fake::new(async |_| ok("here"))).unwrap());
    visitor.get("/", "").await;
    assert_eq!(visitor.response().await.1, b"here");

    node.seats.clear();
    visitor.get("/", "Accept: text/html,*/*;q=0.8\r\n").await;
    let (head, body) = visitor.response().await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(header(&head, "retry-after"), Some("5"));
    assert!(String::from_utf8(body).unwrap().contains("<h1>The service is offline</h1>"));
}

#[tokio::test]
async fn an_error_for_head_has_the_length_and_no_body() {
    let node = Node::start(config()).await;
    let mut visitor = node.connect().await;
    for _ in 0..2 {
        visitor.send(format!("HEAD / HTTP/1.1\r\nHost: {}\r\n\r\n", host())).await;
        let head = visitor.head().await;
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        assert_ne!(header(&head, "content-length"), Some("0"));
    }
}

#[tokio::test]
async fn unroutable_requests_are_refused() {
    let node = Node::with(config(), echo_body).await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400"),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "400"),
        ("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", "405"),
        ("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", "404"),
        ("GET / HTTP/1.1\r\nHost: www.localhost\r\n\r\n", "404"),
    ] {
        let mut visitor = node.connect().await;
        visitor.send(request).await;
        let (head, body) = visitor.response().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request} {head}");
        assert!(header(&head, "tunnel-error").is_some() && !body.is_empty(), "{head}");
    }
}

#[tokio::test]
async fn an_announced_body_over_the_limit_is_refused_before_anything_is_forwarded() {
    let node = Node::with(limited(10), async |_| panic!("must not be forwarded")).await;
    let mut visitor = node.connect().await;
    let head = format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 11\r\n", host());
    visitor.send(head + "Expect: 100-continue\r\n\r\n").await;
    let (head, body) = visitor.response().await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_eq!(header(&head, "tunnel-error"), Some("request-too-large"));
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains("10 B") && text.contains("--max-body"), "{text}");
}

/// The answer arrives although the visitor sends much more than anyone reads.
#[tokio::test]
async fn a_body_found_too_large_on_the_way_gets_413_even_in_mid_upload() {
    let node = Node::with(limited(100_000), async |request: Request| {
        // A stage that doesn't tell why the body broke off must not hide it.
        let _ = collect(request.body).await;
        std::future::pending().await
    })
    .await;
    let mut visitor = node.connect().await;
    visitor.send(format!("POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", host())).await;
    // More than the kernels' buffers hold.
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..300 {
        visitor.send(&chunk).await;
    }
    let answer = visitor.rest().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

/// Whatever the proxy refuses by itself, it refuses audibly: a reset would take the answer with it.
#[tokio::test]
async fn an_answer_of_the_proxys_own_arrives_in_mid_upload() {
    let node = Node::with(config(), echo_body).await;
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (head, status) in [
        ("POST / HTTP/1.1\r\nHost: example.com\r\n".to_owned(), "404"),
        ("POST / HTTP/1.1\r\nHost: www.localhost\r\n".to_owned(), "404"),
        ("POST / HTTP/1.1\r\nHost: a b\r\n".to_owned(), "400"),
        ("POST / HTTP/1.1\r\nHost: localhost\r\n".to_owned(), "405"),
        ("POST /other HTTP/1.1\r\nHost: localhost\r\n".to_owned(), "404"),
        ("POST /proxy/subscribe HTTP/1.1\r\nHost: localhost\r\n".to_owned(), "426"),
        (format!("GET / HTTP/1.1\r\nHost: {}\r\n{websocket}", host()), "426"),
    ] {
        let mut visitor = node.connect().await;
        visitor.send(head.clone() + "Transfer-Encoding: chunked\r\n\r\n").await;
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        for _ in 0..100 {
            visitor.send(&chunk).await;
        }
        let answer = visitor.rest().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head} {answer}");
    }
}

#[tokio::test]
async fn bodies_up_to_the_limit_pass() {
    let node = Node::with(limited(10), echo_body).await;
    let mut visitor = node.connect().await;
    visitor
        .send(format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 10\r\n\r\n0123456789", host()))
        .await;
    assert_eq!(visitor.response().await.1, b"0123456789");
    let head = format!("POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", host());
    visitor.send(head + "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n").await;
    assert_eq!(visitor.response().await.1, b"0123456789");
}

#[tokio::test]
async fn a_response_announced_over_the_limit_is_502() {
    let node = Node::with(limited(10), async |_| response(200, &[("content-length", "11")], fed().1)).await;
    let mut visitor = node.connect().await;
    visitor.send(format!("HEAD / HTTP/1.1\r\nHost: {}\r\n\r\n", host())).await;
    assert!(visitor.head().await.starts_with("HTTP/1.1 200 "), "no body, no limit");
    visitor.get("/", "").await;
    let (head, body) = visitor.response().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert_eq!(header(&head, "tunnel-error"), Some("response-too-large"));
    assert!(String::from_utf8(body).unwrap().contains("--max-body"));
}

#[tokio::test]
async fn a_response_found_too_large_on_the_way_is_a_reset() {
    let (feed, body) = fed();
    let body = Mutex::new(Some(body));
    let node = Node::with(limited(10), move |_| {
        std::future::ready(response(200, &[], body.lock().unwrap().take().unwrap()))
    })
    .await;
    let mut visitor = node.connect().await;
    visitor.get("/", "").await;
    feed.send(piece("0123456789")).await.unwrap();
    visitor.until(b"0123456789\r\n").await;
    feed.send(piece("x")).await.unwrap();
    let error = visitor.socket.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn responses_that_cannot_be_sent_are_502() {
    let node = Node::with(config(), async |request: Request| match request.head.target.path() {
        "/101" => response(101, &[], Body::empty()),
        "/999" => response(999, &[], Body::empty()),
        "/short" => response(200, &[("content-length", "5")], Body::full("1234")),
        "/none" => response(200, &[("content-length", "5")], Body::empty()),
        "/two" => response(200, &[("content-length", "5"), ("content-length", "6")], fed().1),
        "/junk" => response(200, &[("content-length", "+5")], fed().1),
        "/same" => response(200, &[("content-length", "2, 2"), ("content-length", "2")], Body::full("ok")),
        _ => unreachable!(),
    })
    .await;
    let mut visitor = node.connect().await;
    for path in ["/101", "/999", "/short", "/none", "/two", "/junk"] {
        visitor.get(path, "").await;
        let (head, _) = visitor.response().await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{path} {head}");
    }
    visitor.get("/same", "").await;
    assert_eq!(visitor.response().await.1, b"ok");
}

/// RFC 9112 section 6.1. The origin would take compressed bytes for what they are not.
#[tokio::test]
async fn transfer_codings_beside_chunked_are_501() {
    let node = Node::with(config(), echo_body).await;
    let body = "3\r\nabc\r\n0\r\n\r\n";
    for codings in ["gzip, chunked", "gzip\r\nTransfer-Encoding: chunked", "x , Chunked"] {
        let mut visitor = node.connect().await;
        let head = format!("POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: {codings}\r\n\r\n", host());
        visitor.send(head + body).await;
        let (head, body) = visitor.response().await;
        assert!(head.starts_with("HTTP/1.1 501 "), "{codings} {head}");
        assert_eq!(header(&head, "tunnel-error"), Some("unknown-transfer-coding"));
        assert!(String::from_utf8(body).unwrap().contains("chunked only"));
    }
    for codings in ["chunked, chunked", ", chunked"] {
        let mut visitor = node.connect().await;
        let head = format!("POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: {codings}\r\n\r\n", host());
        visitor.send(head + body).await;
        assert!(visitor.rest().await.starts_with("HTTP/1.1 400 "), "{codings}");
    }
    for coding in ["chunked", "Chunked"] {
        let mut visitor = node.connect().await;
        let head = format!("POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: {coding}\r\n\r\n", host());
        visitor.send(head + body).await;
        assert_eq!(visitor.response().await.1, b"abc", "{coding}");
    }
}

#[tokio::test]
async fn a_malformed_chunk_is_the_visitors_fault() {
    let node = Node::with(config(), echo_body).await;
    let head = format!("POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", host());
    let mut visitor = node.connect().await;
    visitor.send(head + "xyz\r\n").await;
    let (head, body) = visitor.response().await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains("size of a chunk"), "{text}");
}

#[tokio::test]
async fn over_the_rate_is_429_with_the_time_to_wait() {
    let mut config = config();
    let one = 1.try_into().unwrap();
    config.limits.rate = Some(crate::proxy::Rate::per_second(one, one));
    let node = Node::with(config, async |_| ok("here")).await;
    let mut visitor = node.connect().await;
    visitor.get("/", "").await;
    visitor.get("/", "").await;
    assert!(visitor.response().await.0.starts_with("HTTP/1.1 200 "));
    let (head, _) = visitor.response().await;
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    assert_eq!(header(&head, "retry-after"), Some("1"));
}

#[tokio::test]
async fn heads_that_are_too_large_are_431() {
    let mut config = config();
    config.limits.max_header_bytes = 8192;
    config.limits.max_headers = 10;
    let node = Node::with(config, echo_body).await;
    let long = format!("GET / HTTP/1.1\r\nHost: {}\r\nA: {}\r\n\r\n", host(), "x".repeat(9000));
    let many = format!("GET / HTTP/1.1\r\nHost: {}\r\n{}\r\n", host(), "A: x\r\n".repeat(10));
    for request in [long, many] {
        let mut visitor = node.connect().await;
        visitor.send(request).await;
        assert!(visitor.head().await.starts_with("HTTP/1.1 431 "));
    }
}

#[tokio::test]
async fn the_proxy_says_what_it_is() {
    let node = Node::start(config()).await;
    let mut visitor = node.connect().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    visitor.send(get("/")).await;
    let (head, body) = visitor.response().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let text = String::from_utf8(body).unwrap();
    let url = format!("http://localhost:{}", node.address.port());
    assert!(text.contains(&format!("tunnel 3000 --proxy {url}\n")), "{text}");
    for (path, status) in [("/healthz", "200"), ("/favicon.ico", "404"), ("/proxy/subscribe", "426")] {
        visitor.send(get(path)).await;
        let (head, _) = visitor.response().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {head}");
        let marks = [header(&head, "tunnel-error"), header(&head, "tunnel-request-id")];
        assert!(marks.iter().all(|mark| mark.is_some() == (status != "200")), "{path} {head}");
        if status == "426" {
            assert_eq!(header(&head, "upgrade"), Some("websocket"));
            assert_eq!(header(&head, "connection"), Some("upgrade"));
        }
    }
    visitor.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").await;
    let (head, _) = visitor.response().await;
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    assert_eq!(header(&head, "tunnel-error"), Some("method-not-allowed"));
}

#[tokio::test]
async fn an_upload_that_stalls_is_408_and_the_end() {
    let mut config = config();
    config.answer_timeout = Duration::from_millis(100);
    let node = Node::with(config, echo_body).await;
    let mut visitor = node.connect().await;
    visitor.send(format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 2\r\n\r\n1", host())).await;
    let (head, _) = visitor.response().await;
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert_eq!(header(&head, "tunnel-error"), Some("request-timed-out"));
    assert_eq!(header(&head, "connection"), Some("close"));
}
