//! Nothing is lost or added on the way.

use super::*;

/// Answers with what arrived: method, authority, target, then header lines, then the body.
async fn echo(request: Request) -> Answered {
    let head = request.head;
    let mut seen = format!("{} {} {}\n", head.method, head.authority, head.target).into_bytes();
    for (name, value) in &head.headers {
        seen.extend_from_slice(name.as_str().as_bytes());
        seen.extend_from_slice(b": ");
        seen.extend_from_slice(value.as_bytes());
        seen.push(b'\n');
    }
    seen.push(b'\n');
    seen.extend_from_slice(&collect(request.body).await?.0);
    ok(seen)
}

async fn echoed(visitor: &mut Visitor) -> String {
    String::from_utf8_lossy(&visitor.response().await.1).into_owned()
}

#[tokio::test]
async fn targets_arrive_byte_for_byte() {
    let node = Node::with(config(), echo).await;
    let mut visitor = node.connect().await;
    for path in
        ["/a%2Fb%2f", "//x//", "/../y/./", "/a;b=1,2", "/?", "/a?", "/?a=%20+b&&", "/%zz", "/{\"}|^~é?^`é"]
    {
        visitor.get(path, "").await;
        let expected = format!("GET {} {path}\n", host());
        assert!(echoed(&mut visitor).await.starts_with(&expected), "{path}");
    }
    visitor.send(format!("OPTIONS * HTTP/1.1\r\nHost: {}\r\n\r\n", host())).await;
    assert!(echoed(&mut visitor).await.starts_with(&format!("OPTIONS {} *\n", host())));
    visitor.send(format!("GET http://{0}:1//a?b HTTP/1.1\r\nHost: {0}:1\r\n\r\n", host())).await;
    assert!(echoed(&mut visitor).await.starts_with(&format!("GET {}:1 //a?b\n", host())));
}

#[tokio::test]
async fn methods_arrive_as_sent() {
    let node = Node::with(config(), echo).await;
    let mut visitor = node.connect().await;
    for method in ["PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get", "M-SEARCH", "!#$%&'*+-.^_`|~1"] {
        visitor.send(format!("{method} / HTTP/1.1\r\nHost: {}\r\n\r\n", host())).await;
        assert!(echoed(&mut visitor).await.starts_with(&format!("{method} ")), "{method}");
    }
}

#[tokio::test]
async fn request_headers_keep_order_repeats_and_bytes() {
    let node = Node::with(config(), echo).await;
    let mut visitor = node.connect().await;
    visitor.send(format!("GET / HTTP/1.1\r\nB: 1\r\nHost: {}\r\n", host())).await;
    visitor.send(b"A: \xff\xfe\r\nb: 2\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nC:\r\n\r\n").await;
    let (_, body) = visitor.response().await;
    let expected =
        b"b: 1\nb: 2\na: \xff\xfe\nc: \nx-forwarded-for: 127.0.0.1\nforwarded: for=127.0.0.1;host=";
    let headers = body.splitn(2, |&byte| byte == b'\n').nth(1).unwrap();
    assert!(headers.starts_with(expected), "{}", String::from_utf8_lossy(headers));
}

#[tokio::test]
async fn response_headers_keep_order_repeats_bytes_and_their_date() {
    let node = Node::with(config(), async |_| {
        let Ok(Answer::Http(mut answer)) = response(
            299,
            &[
                ("b", "1"),
                ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
                ("connection", "x-hop"),
                ("set-cookie", "x=1"),
                ("x-hop", "1"),
                ("set-cookie", "y=2"),
                ("keep-alive", "timeout=5"),
                ("tunnel-error", "forged"),
                ("a", "3"),
            ],
            Body::full("x"),
        ) else {
            unreachable!()
        };
        answer.headers.append("a", http::HeaderValue::from_bytes(b"\xff").unwrap());
        Ok(Answer::Http(answer))
    })
    .await;
    let mut visitor = node.connect().await;
    visitor.get("/", "").await;
    let head = visitor.until(b"\r\n\r\n").await;
    let expected = b"HTTP/1.1 299 \r\nb: 1\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nset-cookie: x=1\r\n\
        set-cookie: y=2\r\na: 3\r\na: \xff\r\ncontent-length: 1\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&head), String::from_utf8_lossy(expected));
    assert_eq!(head, expected);
}

#[tokio::test]
async fn head_204_and_304_have_no_body_and_the_connection_goes_on() {
    let node = Node::with(config(), async |request: Request| {
        let status = request.head.target.path()[1..].parse().unwrap();
        // What a body would be here, a careless client may still send.
        response(status, &[("content-length", "12345"), ("etag", "\"x\"")], fed().1)
    })
    .await;
    let mut visitor = node.connect().await;
    for (method, status, length) in [
        ("HEAD", 200, Some("12345")),
        ("GET", 304, Some("12345")),
        ("HEAD", 304, Some("12345")),
        ("GET", 204, None),
    ] {
        visitor.send(format!("{method} /{status} HTTP/1.1\r\nHost: {}\r\n\r\n", host())).await;
        let head = visitor.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(header(&head, "content-length"), length, "{method} {status}");
        assert_eq!(header(&head, "transfer-encoding"), None);
        assert_eq!(header(&head, "etag"), Some("\"x\""));
    }
}

#[tokio::test]
async fn a_304_without_a_length_gets_none() {
    let node = Node::with(config(), async |_| response(304, &[], Body::empty())).await;
    let mut visitor = node.connect().await;
    for _ in 0..2 {
        visitor.get("/", "").await;
        let head = visitor.head().await;
        assert_eq!(header(&head, "content-length"), None);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let node = Node::with(config(), echo).await;
    let mut visitor = node.connect().await;
    let one = |n| format!("POST /{n} HTTP/1.1\r\nHost: {}\r\nContent-Length: 2\r\n\r\n{n}{n}", host());
    visitor.send([one(1), one(2), one(3)].concat()).await;
    for n in 1..=3 {
        let seen = echoed(&mut visitor).await;
        assert!(seen.starts_with(&format!("POST {} /{n}\n", host())), "{seen}");
        assert!(seen.ends_with(&format!("\n\n{n}{n}")), "{seen}");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let node = Node::with(config(), async |request: Request| {
        assert_eq!(request.head.headers["te"], "trailers");
        assert_eq!(request.head.headers["trailer"], "sum, x-forwarded-for");
        let (body, trailers) = collect(request.body).await?;
        let trailers = trailers.unwrap();
        assert_eq!((&body[..], trailers.len()), (&b"abcdef"[..], 1), "nothing but `sum` is left");
        let (feed, body) = fed();
        feed.try_send(piece("done")).unwrap();
        feed.try_send(Ok(Frame::trailers(trailers))).unwrap();
        response(200, &[("trailer", "sum")], body)
    })
    .await;
    let mut visitor = node.connect().await;
    let head = format!("POST / HTTP/1.1\r\nHost: {}\r\nTE: trailers\r\nConnection: TE\r\n", host());
    visitor.send(head + "Trailer: sum, x-forwarded-for\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    visitor.send("3\r\nabc\r\n3\r\ndef\r\n0\r\nsum: 1\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n").await;
    let head = visitor.head().await;
    assert_eq!(header(&head, "trailer"), Some("sum"));
    let body = visitor.until(b"\r\n\r\n").await;
    assert_eq!(String::from_utf8_lossy(&body), "4\r\ndone\r\n0\r\nsum: 1\r\n\r\n");
}

#[tokio::test]
async fn an_http_10_visitor_is_served_and_let_go() {
    let node = Node::with(config(), async |_| {
        let (feed, body) = fed();
        feed.try_send(piece("all of it")).unwrap();
        response(200, &[], body)
    })
    .await;
    let answer = node.once(&format!("GET / HTTP/1.0\r\nHost: {}\r\n\r\n", host())).await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nall of it"), "{answer}");
    assert!(!answer.contains("chunked"));
}

#[tokio::test]
async fn a_trusted_proxy_tells_who_the_visitor_is() {
    let mut config = config();
    config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let node = Node::with(config, async |request: Request| {
        ok(format!("{} {}", request.head.scheme.as_str(), request.context.visitor.as_ref().unwrap()))
    })
    .await;
    let mut visitor = node.connect().await;
    visitor.get("/", "X-Forwarded-For: 9.9.9.9, 203.0.113.7\r\nX-Forwarded-Proto: https\r\n").await;
    assert_eq!(echoed(&mut visitor).await, "https 203.0.113.7:0");
}

/// Hyper would write `<none>`.
#[tokio::test]
async fn a_status_without_a_usual_reason_has_none() {
    let node = Node::with(config(), async |_| response(299, &[], Body::full("ok"))).await;
    let mut visitor = node.connect().await;
    visitor.get("/", "").await;
    let (head, body) = visitor.response().await;
    assert!(head.starts_with("HTTP/1.1 299 \r\n"), "{head}");
    assert_eq!(body, b"ok");
}

#[tokio::test]
async fn a_tunnel_is_reached_by_path_too() {
    let node = Node::with(config(), echo).await;
    let mut visitor = node.connect().await;
    visitor.send(format!("GET /proxy/request/{}//a%2Fb? HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", name())).await;
    assert!(echoed(&mut visitor).await.starts_with("GET 127.0.0.1 //a%2Fb?\n"));
}

#[tokio::test]
async fn each_exchange_has_an_id_of_its_own() {
    let node = Node::with(config(), async |request: Request| ok(request.context.exchange.to_string())).await;
    let mut visitor = node.connect().await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        visitor.get("/", "").await;
        assert!(seen.insert(echoed(&mut visitor).await));
    }
}
