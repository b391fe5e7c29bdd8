//! What goes to the origin and what comes back, against raw sockets.

use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::client::tests::{
    TestOrigin, channel_body, context, http, read_body, read_head, read_to_end, read_until, request,
    serve_once, settle,
};

const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// The head that the origin sees for `request`.
async fn head_seen(origin: &TestOrigin, request: Request) -> String {
    let stage = origin.stage();
    let (answer, (_, head)) = tokio::join!(stage.forward(request), serve_once(origin, EMPTY));
    answer.unwrap();
    String::from_utf8_lossy(&head).into_owned()
}

#[tokio::test]
async fn methods_and_targets_go_out_byte_for_byte() {
    let origin = TestOrigin::bind().await;
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/a%2Fb//c/../d/./;x=1?"),
        ("GET", "//evil.example/x"),
        ("GET", r#"/{"a"}|[b]~'^?{q:`v`}&?=%zz"#),
        ("GET", "/gr%c3%bc%C3%9F?q=%"),
        ("GET", "/?a=http://elsewhere.example/"),
        ("OPTIONS", "*"),
        ("PATCH", "/p"),
        ("PURGE!#$%&'*+-.^_`|~", "/x"),
    ] {
        let head = head_seen(&origin, request(method, target)).await;
        assert_eq!(head, format!("{method} {target} HTTP/1.1\r\nhost: visited.example\r\n\r\n"));
    }
}

#[tokio::test]
async fn headers_keep_order_repeats_and_bytes() {
    let origin = TestOrigin::bind().await;
    let mut request = request("GET", "/");
    for (name, value) in [
        ("x-first", &b"1"[..]),
        ("cookie", b"a=1"),
        ("x-bytes", b"caf\xe9 \xff"),
        ("cookie", b"b=2"),
        ("x-last", b""),
        ("te", b"gzip, trailers"),
        ("transfer-encoding", b"chunked"),
        ("host", b"smuggled.example"),
    ] {
        let name = http::HeaderName::from_static(name);
        request.head.headers.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    let stage = origin.stage();
    let (answer, (_, head)) = tokio::join!(stage.forward(request), serve_once(&origin, EMPTY));
    answer.unwrap();
    let expected = b"GET / HTTP/1.1\r\nhost: visited.example\r\nx-first: 1\r\ncookie: a=1\r\ncookie: b=2\r\n\
        x-bytes: caf\xe9 \xff\r\nx-last: \r\nte: trailers\r\nconnection: te\r\n\r\n";
    assert_eq!(head.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[tokio::test]
async fn host_as_configured() {
    let mut origin = TestOrigin::bind().await;
    let own = origin.config.authority.to_string();
    for (setting, expected) in [
        (HostHeader::Keep, "visited.example"),
        (HostHeader::Origin, own.as_str()),
        (HostHeader::Value(HeaderValue::from_static("set.example")), "set.example"),
    ] {
        origin.config.host_header = setting;
        let head = head_seen(&origin, request("GET", "/")).await;
        assert!(head.contains(&format!("\r\nhost: {expected}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn bodies_keep_the_visitors_length_or_go_in_chunks() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let piece = || Bytes::from_static(b"hello");

    let (sender, body) = channel_body();
    let mut with_length = request("POST", "/");
    with_length.head.headers.insert("content-length", 5.into());
    with_length.body = body;
    let serving = async {
        let mut stream = origin.accept().await;
        let head = read_head(&mut stream).await;
        // The head is here before any of the body was.
        sender.send(Ok(http_body::Frame::data(piece()))).await.unwrap();
        let body = read_until(&mut stream, b"hello").await;
        stream.write_all(EMPTY).await.unwrap();
        drop(sender);
        (stream, [head, body].concat())
    };
    let (answer, (stream, seen)) = tokio::join!(stage.forward(with_length), serving);
    answer.unwrap();
    assert!(seen.ends_with(b"content-length: 5\r\n\r\nhello"), "{}", seen.escape_ascii());
    drop(stream);

    // A GET too, and with trailers.
    let stage = origin.stage();
    let (sender, body) = channel_body();
    let mut chunked = request("GET", "/");
    chunked.head.headers.insert("trailer", HeaderValue::from_static("x-sum"));
    chunked.body = body;
    let serving = async {
        let mut stream = origin.accept().await;
        let head = read_head(&mut stream).await;
        sender.send(Ok(http_body::Frame::data(piece()))).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        sender.send(Ok(http_body::Frame::trailers(trailers))).await.unwrap();
        drop(sender);
        let body = read_until(&mut stream, b"\r\n\r\n").await;
        stream.write_all(EMPTY).await.unwrap();
        [head, body].concat()
    };
    let (answer, seen) = tokio::join!(stage.forward(chunked), serving);
    answer.unwrap();
    let expected =
        b"trailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n";
    assert!(seen.ends_with(expected), "{}", seen.escape_ascii());
}

#[tokio::test]
async fn an_announced_body_that_is_missing_never_reaches_the_origin() {
    let origin = TestOrigin::bind().await;
    let mut request = request("POST", "/");
    request.head.headers.insert("content-length", 5.into());
    let error = origin.stage().forward(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadRequest);
}

#[tokio::test]
async fn responses_keep_headers_bytes_and_trailers() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let response = b"HTTP/1.1 299 Odd\r\nset-cookie: a=1\r\nconnection: x-hop, keep-alive\r\nx-hop: 1\r\n\
        keep-alive: timeout=5\r\ncontent-encoding: gzip\r\nx-bytes: \xff\xe9\r\nset-cookie: b=2\r\n\
        transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\n\x1f\x8b\x00\r\n0\r\nx-sum: 42\r\n\r\n";
    let (answer, _) = tokio::join!(stage.forward(request("GET", "/")), serve_once(&origin, response));
    let response = http(answer.unwrap());
    assert_eq!(response.status.as_u16(), 299);
    let headers: Vec<_> =
        response.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let expected: [(&str, &[u8]); 5] = [
        ("set-cookie", b"a=1"),
        ("set-cookie", b"b=2"),
        ("content-encoding", b"gzip"),
        ("x-bytes", b"\xff\xe9"),
        ("trailer", b"x-sum"),
    ];
    assert_eq!(headers, expected);
    let body = response.body.collect().await.unwrap();
    assert_eq!(body.trailers().unwrap().get("x-sum").unwrap(), "42");
    assert_eq!(body.to_bytes(), &b"\x1f\x8b\x00"[..]);
}

#[tokio::test]
async fn responses_without_body_keep_their_content_length() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let mut stream = None;
    for (method, status, length) in
        [("HEAD", 200, Some("1234")), ("GET", 304, Some("99")), ("GET", 204, None)]
    {
        let mut response = format!("HTTP/1.1 {status} X\r\n");
        if let Some(length) = length {
            response += &format!("Content-Length: {length}\r\n");
        }
        let serving = async {
            // All of them on one connection: it is used again.
            let mut served = match stream.take() {
                Some(stream) => stream,
                None => origin.accept().await,
            };
            read_head(&mut served).await;
            served.write_all(format!("{response}\r\n").as_bytes()).await.unwrap();
            served
        };
        let (answer, served) = tokio::join!(stage.forward(request(method, "/")), serving);
        stream = Some(served);
        let response = http(answer.unwrap());
        assert_eq!(response.status.as_u16(), status);
        assert_eq!(response.headers.get("content-length").map(|value| value.to_str().unwrap()), length);
        assert!(read_body(response.body).await.is_empty());
    }
}

#[tokio::test]
async fn pieces_of_a_response_come_as_they_are_sent() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let (answer, (mut stream, _)) =
        tokio::join!(stage.forward(request("GET", "/")), serve_once(&origin, head));
    let mut body = http(answer.unwrap()).body;
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        stream.write_all(event.as_bytes()).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), event);
    }
    drop(stream);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn interim_responses_are_handed_on() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let mut request = request("GET", "/");
    request.context = context(Some(Arc::new(move |status, headers: HeaderMap| {
        sink.lock().unwrap().push((status.as_u16(), headers.get("link").cloned()));
    })));
    // A 100 that nobody asked for is nobody's business.
    let response = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (answer, _) = tokio::join!(stage.forward(request), serve_once(&origin, response));
    assert_eq!(read_body(http(answer.unwrap()).body).await, b"ok");
    assert_eq!(*seen.lock().unwrap(), [(103, Some(HeaderValue::from_static("</a>")))]);
}

#[tokio::test]
async fn dropping_the_future_closes_the_connection() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let forwarding = tokio::spawn(async move { stage.forward(request("GET", "/slow")).await });
    let mut stream = origin.accept().await;
    read_head(&mut stream).await;
    forwarding.abort();
    read_to_end(stream).await;
}

#[tokio::test]
async fn dropping_the_answer_closes_the_connection_and_ends_the_upload() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    // An upload that neither goes on nor ends would keep the connection open.
    for uploading in [false, true] {
        let (sender, body) = channel_body();
        let mut request = request("POST", "/");
        if uploading {
            request.body = body;
        }
        let head = b"HTTP/1.1 200 OK\r\n\r\nsome";
        let (answer, (stream, _)) = tokio::join!(stage.forward(request), serve_once(&origin, head));
        let mut body = http(answer.unwrap()).body;
        body.frame().await.unwrap().unwrap();
        drop(body);
        read_to_end(stream).await;
        if uploading {
            sender.closed().await;
        }
    }
}

#[tokio::test]
async fn failures_say_what_the_origin_did() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let url = origin.url();
    for (response, sentence) in [
        (&b"SSH-2.0-OpenSSH_9.9\r\n\r\n"[..], format!("{url} answered with something that is not HTTP")),
        (b"", format!("{url} closed the connection without an answer")),
        (b"HTTP/1.1 200 OK\r\ncontent-le", format!("{url} closed the connection without an answer")),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            format!("{url} switched protocols without being asked"),
        ),
    ] {
        let serving = async {
            drop(serve_once(&origin, response).await);
        };
        let (answer, ()) = tokio::join!(stage.forward(request("GET", "/")), serving);
        let error = answer.unwrap_err();
        assert_eq!((error.kind(), error.detail()), (ErrorKind::OriginFailed, sentence.as_str()));
    }
    drop(origin);
    let error = stage.forward(request("GET", "/")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OriginUnreachable);
    assert_eq!(error.detail(), format!("nothing answers at {url}"));
}

#[tokio::test]
async fn a_response_that_breaks_off_is_an_error() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let serving = async {
        drop(serve_once(&origin, response).await);
    };
    let (answer, ()) = tokio::join!(stage.forward(request("GET", "/")), serving);
    let error = http(answer.unwrap()).body.collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OriginFailed);
}

#[tokio::test]
async fn the_error_of_a_request_body_stays_the_reason() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let too_large = || ForwardError::new(ErrorKind::RequestTooLarge { limit: 3 }, "too large");
    for response in [&b""[..], b"HTTP/1.1 200 OK\r\n\r\nsome"] {
        let (sender, body) = channel_body();
        let mut request = request("POST", "/");
        request.body = body;
        let serving = async {
            let (stream, _) = serve_once(&origin, response).await;
            if response.is_empty() {
                sender.send(Err(too_large())).await.unwrap();
            }
            stream
        };
        let (answer, stream) = tokio::join!(stage.forward(request), serving);
        let error = match answer {
            Err(error) => error,
            Ok(answer) => {
                let mut body = http(answer).body;
                body.frame().await.unwrap().unwrap();
                sender.send(Err(too_large())).await.unwrap();
                body.collect().await.unwrap_err()
            }
        };
        assert_eq!(error.kind(), ErrorKind::RequestTooLarge { limit: 3 });
        read_to_end(stream).await;
    }
}

#[tokio::test]
async fn a_connection_that_the_origin_closed_is_replaced() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    for _ in 0..3 {
        let mut request = request("POST", "/");
        request.body = Body::full("body");
        let serving = async {
            let (mut stream, _) = serve_once(&origin, EMPTY).await;
            stream.read_exact(&mut [0; 4]).await.unwrap();
            stream
        };
        let (answer, mut stream) = tokio::join!(stage.forward(request), serving);
        answer.unwrap();
        // Idle now, and closed by the origin.
        stream.shutdown().await.unwrap();
        settle().await;
    }
}

/// Answers one request on a connection that is then kept, reads the next one, and closes without a word (or
/// with a reset, if the request has `X-Reset`).
async fn answer_then_close(
    origin: &TestOrigin,
    stage: &Origin,
    second: Request,
) -> Result<Answer, ForwardError> {
    let (first, (mut stream, _)) =
        tokio::join!(stage.forward(request("GET", "/1")), serve_once(origin, EMPTY));
    first.unwrap();
    let resets = second.head.headers.contains_key("x-reset");
    let closing = async move {
        read_head(&mut stream).await;
        if resets {
            stream.set_zero_linger().unwrap();
        }
        drop(stream);
    };
    let again = async {
        let (_stream, head) = serve_once(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain").await;
        assert!(String::from_utf8(head).unwrap().contains(" /2 HTTP/1.1\r\nhost: visited.example\r\n"));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = async { tokio::join!(stage.forward(second), closing).0 } => answer,
        () = again => unreachable!(),
    }
}

#[tokio::test]
async fn a_safe_request_is_sent_once_more_if_the_origin_closed_the_kept_connection_meanwhile() {
    let origin = TestOrigin::bind().await;
    for (method, resets) in [("GET", false), ("OPTIONS", false), ("GET", true)] {
        let mut second = request(method, "/2");
        if resets {
            second.head.headers.insert("x-reset", HeaderValue::from_static("1"));
        }
        let answer = answer_then_close(&origin, &origin.stage(), second).await.unwrap();
        assert_eq!(read_body(http(answer).body).await, b"again");
    }
    let head = answer_then_close(&origin, &origin.stage(), request("HEAD", "/2")).await.unwrap();
    assert_eq!(http(head).status, 200);
}

#[tokio::test]
async fn what_may_have_changed_something_is_never_sent_twice() {
    let origin = TestOrigin::bind().await;
    let mut with_body = request("GET", "/2");
    with_body.body = Body::full("body");
    for second in [request("POST", "/2"), request("DELETE", "/2"), with_body] {
        let error = answer_then_close(&origin, &origin.stage(), second).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OriginFailed);
    }
}

/// One that closes without an answer on a new connection does so again, and one that has begun to answer has acted.
#[tokio::test]
async fn a_first_request_and_one_with_half_an_answer_are_not_sent_again() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let (answer, ()) = tokio::join!(stage.forward(request("GET", "/")), async {
        drop(serve_once(&origin, b"").await);
    });
    answer.unwrap_err();
    let (answer, (mut stream, _)) =
        tokio::join!(stage.forward(request("GET", "/1")), serve_once(&origin, EMPTY));
    answer.unwrap();
    let (answer, ()) = tokio::join!(stage.forward(request("GET", "/2")), async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 2").await.unwrap();
    });
    answer.unwrap_err();
}

#[tokio::test]
async fn an_https_origin_is_served_like_any_other() {
    let mut origin = TestOrigin::bind().await;
    origin.config.scheme = Scheme::HTTPS;
    origin.config.insecure = true;
    let stage = origin.stage();
    let serving = async {
        let acceptor = crate::client::connect::tests::acceptor();
        let mut stream = acceptor.accept(origin.accept().await).await.unwrap();
        let head = read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await.unwrap();
        stream.flush().await.unwrap();
        (stream, head)
    };
    let (answer, (_stream, head)) = tokio::join!(stage.forward(request("GET", "/x")), serving);
    assert!(head.starts_with(b"GET /x HTTP/1.1\r\n"));
    assert_eq!(read_body(http(answer.unwrap()).body).await, b"secret");
}
