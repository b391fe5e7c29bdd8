//! Handshakes with the origin, against tungstenite and against raw sockets.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::HeaderName;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request as Handshake, Response as HandshakeResponse},
    },
};

use super::*;
use crate::{
    client::tests::{
        TestOrigin, http, read_body, read_head, read_to_end, request, serve_once, websocket_request,
    },
    exchange::{
        Forward,
        websocket::{Close, Event},
    },
};

fn accepted(answer: Answer) -> Accepted {
    match answer {
        Answer::WebSocket(accepted) => accepted,
        Answer::Http(response) => panic!("refused with {}", response.status),
    }
}

#[tokio::test]
async fn a_whole_websocket() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let mut request = websocket_request("/chat?room=%2F1");
    for (name, value) in [
        ("origin", "https://page.example"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("sec-websocket-protocol", "v1, v2"),
        ("sec-websocket-extensions", "permessage-deflate"),
    ] {
        request.head.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let mut seen = None;
    let serving = async {
        let stream = origin.accept().await;
        #[expect(clippy::result_large_err, reason = "the library's own type")]
        let callback = |handshake: &Handshake, mut response: HandshakeResponse| {
            seen = Some((handshake.uri().to_string(), handshake.headers().clone()));
            let headers = response.headers_mut();
            headers.insert("sec-websocket-protocol", HeaderValue::from_static("v2"));
            headers.append("set-cookie", HeaderValue::from_static("x=1"));
            headers.append("set-cookie", HeaderValue::from_static("y=2"));
            Ok(response)
        };
        accept_hdr_async(stream, callback).await.unwrap()
    };
    let (answer, mut server) = tokio::join!(stage.forward(request), serving);
    let mut accepted = accepted(answer.unwrap());

    let (uri, headers) = seen.unwrap();
    assert_eq!(uri, "/chat?room=%2F1");
    assert_eq!(headers["origin"], "https://page.example");
    assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!(headers["sec-websocket-protocol"], "v1, v2");
    assert_eq!(headers["host"], "visited.example");
    assert!(!headers.contains_key("sec-websocket-extensions"));
    let names: Vec<_> = accepted.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["sec-websocket-protocol", "set-cookie"]);
    assert_eq!(accepted.headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["x=1", "y=2"]);

    let duplex = &mut accepted.duplex;
    duplex.outgoing.send(Event::Text(Bytes::from_static(b"hello"))).await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("hello"));
    server.send(Message::binary(vec![0, 255])).await.unwrap();
    assert_eq!(duplex.incoming.next().await, Some(Event::Binary(Bytes::from_static(&[0, 255]))));
    duplex.outgoing.send(Event::Close(Close::new(4000, "bye"))).await.unwrap();
    assert!(matches!(server.next().await, Some(Ok(Message::Close(Some(close)))) if close.reason == "bye"));
    assert!(server.next().await.is_none());
    assert_eq!(duplex.incoming.next().await, Some(Event::Close(Close::new(4000, "bye"))));
    drop((accepted, server));

    // The connection is not one for HTTP any more: the next exchange opens its own.
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (answer, _) = tokio::join!(stage.forward(request_http()), serve_once(&origin, response));
    assert_eq!(read_body(http(answer.unwrap()).body).await, b"ok");
}

fn request_http() -> Request {
    request("GET", "/")
}

#[tokio::test]
async fn a_refusal_comes_with_its_body() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let response =
        b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic\r\nContent-Length: 9\r\n\r\nlog in, p";
    let (answer, _) = tokio::join!(stage.forward(websocket_request("/")), serve_once(&origin, response));
    let response = http(answer.unwrap());
    assert_eq!(response.status, 401);
    assert_eq!(response.headers["www-authenticate"], "Basic");
    assert_eq!(read_body(response.body).await, b"log in, p");
}

#[tokio::test]
async fn a_wrong_handshake_fails_and_closes_the_connection() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let upgrade = "upgrade: websocket\r\nconnection: upgrade\r\n";
    for (headers, what) in [
        (format!("{upgrade}sec-websocket-accept: AAAA\r\n"), "wrong Sec-WebSocket-Accept"),
        (upgrade.to_owned(), "wrong Sec-WebSocket-Accept"),
        (
            "upgrade: h2c\r\nconnection: upgrade\r\nsec-websocket-accept: KEY\r\n".to_owned(),
            "another protocol",
        ),
        (
            format!("{upgrade}sec-websocket-accept: KEY\r\nsec-websocket-extensions: x\r\n"),
            "extension that was not offered",
        ),
        (
            format!("{upgrade}sec-websocket-accept: KEY\r\nsec-websocket-protocol: v3\r\n"),
            "subprotocol that was not offered",
        ),
    ] {
        let serving = async {
            let mut stream = origin.accept().await;
            let head = String::from_utf8(read_head(&mut stream).await).unwrap();
            let key = head.split_once("sec-websocket-key: ").unwrap().1.split_once("\r\n").unwrap().0;
            let headers = headers.replace("KEY", &derive_accept_key(key.as_bytes()));
            let response = format!("HTTP/1.1 101 Switching Protocols\r\n{headers}\r\n");
            stream.write_all(response.as_bytes()).await.unwrap();
            stream
        };
        let (answer, stream) = tokio::join!(stage.forward(websocket_request("/")), serving);
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OriginFailed);
        assert!(error.detail().contains(what), "{}", error.detail());
        read_to_end(stream).await;
    }
}

#[tokio::test]
async fn frames_sent_together_with_the_101_are_not_lost() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let serving = async {
        let mut stream = origin.accept().await;
        let head = String::from_utf8(read_head(&mut stream).await).unwrap();
        let key = head.split_once("sec-websocket-key: ").unwrap().1.split_once("\r\n").unwrap().0;
        let accept = derive_accept_key(key.as_bytes());
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: {accept}\r\n\r\n\u{1}\u{1}a\0\u{1}b"
        );
        let mut bytes = response.into_bytes();
        // The last frame of the two becomes final.
        let last = bytes.len() - 3;
        bytes[last] = 0x80;
        stream.write_all(&bytes).await.unwrap();
        stream
    };
    let (answer, stream) = tokio::join!(stage.forward(websocket_request("/")), serving);
    let mut accepted = accepted(answer.unwrap());
    assert_eq!(accepted.duplex.incoming.next().await, Some(Event::Text(Bytes::from_static(b"ab"))));
    // Dropping the duplex breaks the connection off.
    drop(accepted);
    read_to_end(stream).await;
}

#[tokio::test]
async fn a_websocket_over_tls() {
    let mut origin = TestOrigin::bind().await;
    origin.config.scheme = http::uri::Scheme::HTTPS;
    origin.config.insecure = true;
    let stage = origin.stage();
    let serving = async {
        let acceptor = crate::client::connect::tests::acceptor();
        let stream = acceptor.accept(origin.accept().await).await.unwrap();
        tokio_tungstenite::accept_async(stream).await.unwrap()
    };
    let (answer, mut server) = tokio::join!(stage.forward(websocket_request("/")), serving);
    let mut accepted = accepted(answer.unwrap());
    accepted.duplex.outgoing.send(Event::Text(Bytes::from_static(b"hidden"))).await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("hidden"));
}
