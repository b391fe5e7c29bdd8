//! Upgrades: the visitor's 101 comes after the origin's, and what the origin refuses is handed on.

use futures_util::{SinkExt, StreamExt, sink, stream};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::*;
use crate::exchange::{
    Accepted, RequestKind,
    websocket::{self, Duplex},
};

const KEY: &str =
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A far end that sends back what it gets.
fn echoing() -> Duplex {
    let (there, back) = mpsc::channel(8);
    let incoming = stream::unfold(back, async |mut back| Some((back.recv().await?, back)));
    let outgoing = sink::unfold(there, async |there, event| {
        there.send(event).await.map_err(|_| ForwardError::new(ErrorKind::Cancelled, "gone"))?;
        Ok(there)
    });
    Duplex { incoming: Box::pin(incoming), outgoing: Box::pin(outgoing) }
}

async fn accept(request: Request) -> Answered {
    assert_eq!(request.head.kind, RequestKind::WebSocket);
    let mut headers = HeaderMap::new();
    for name in ["sec-websocket-protocol", "origin"] {
        headers.insert(name, request.head.headers[name].clone());
    }
    for gone in
        ["sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "upgrade", "connection"]
    {
        assert!(!request.head.headers.contains_key(gone), "{gone}");
    }
    headers.insert("sec-websocket-extensions", "permessage-deflate".parse().unwrap());
    Ok(Answer::WebSocket(Accepted { headers, duplex: echoing() }))
}

#[tokio::test]
async fn the_example_of_rfc_6455_is_answered() {
    let node = Node::with(config(), accept).await;
    let mut visitor = node.connect().await;
    let browser = "Connection: keep-alive, Upgrade\r\nOrigin: http://a\r\nSec-WebSocket-Protocol: chat\r\n\
                   Sec-WebSocket-Extensions: permessage-deflate\r\n";
    visitor.get("/", &[KEY, browser].concat()).await;
    let head = visitor.head().await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert_eq!(header(&head, "sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(header(&head, "sec-websocket-protocol"), Some("chat"));
    assert_eq!(header(&head, "sec-websocket-extensions"), None);
    assert_eq!(header(&head, "upgrade"), Some("websocket"));
    assert_eq!(header(&head, "connection"), Some("upgrade"));
    // A masked "Hello" (RFC 6455 section 5.7), answered without a mask.
    visitor.send([0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]).await;
    assert_eq!(visitor.exactly(7).await, [&[0x81, 0x05], &b"Hello"[..]].concat());
}

#[tokio::test]
async fn messages_pass_until_the_close() {
    let node = Node::with(config(), accept).await;
    let socket = TcpStream::connect(node.address).await.unwrap();
    let mut request = format!("ws://{}/", host()).into_client_request().unwrap();
    request.headers_mut().insert("origin", "http://a".parse().unwrap());
    request.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
    let (mut visitor, _) = client_async(request, socket).await.unwrap();
    for message in [Message::text("text"), Message::binary(vec![0, 255, 1])] {
        visitor.send(message.clone()).await.unwrap();
        assert_eq!(visitor.next().await.unwrap().unwrap(), message);
    }
    visitor.close(None).await.unwrap();
    while visitor.next().await.is_some_and(|message| message.is_ok()) {}
    node.stop.cancel();
    node.running.await.unwrap();
}

#[tokio::test]
async fn a_refusal_of_the_origin_goes_out_as_it_is() {
    let node = Node::with(config(), async |_| {
        response(401, &[("www-authenticate", "Basic"), ("x-mine", "1")], Body::full("who are you?"))
    })
    .await;
    let mut visitor = node.connect().await;
    visitor.get("/", &[KEY, "Connection: upgrade\r\n"].concat()).await;
    let (head, body) = visitor.response().await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    assert_eq!(header(&head, "www-authenticate"), Some("Basic"));
    assert_eq!(body, b"who are you?");
    assert_eq!(header(&head, "tunnel-error"), None);
}

#[tokio::test]
async fn bad_handshakes_are_refused_by_the_proxy() {
    let node = Node::with(config(), async |_| panic!("must not be forwarded")).await;
    let base = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    for (headers, status) in [
        ([base, key, "Sec-WebSocket-Version: 8\r\n"], "426"),
        ([base, key, ""], "426"),
        ([base, version, ""], "400"),
        ([base, version, "Sec-WebSocket-Key: short\r\n"], "400"),
        ([base, version, "Sec-WebSocket-Key: not base64 at all!!!\r\n"], "400"),
    ] {
        let mut visitor = node.connect().await;
        visitor.get("/", &headers.concat()).await;
        let (head, _) = visitor.response().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{headers:?} {head}");
        if status == "426" {
            assert_eq!(header(&head, "sec-websocket-version"), Some("13"));
        }
    }
    let mut visitor = node.connect().await;
    visitor.get("/", &[base, key, version, "Content-Length: 3\r\n"].concat()).await;
    assert!(visitor.head().await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn other_upgrades_go_on_as_plain_http() {
    let node = Node::with(config(), async |request: Request| {
        assert_eq!(request.head.kind, RequestKind::Http);
        assert!(!request.head.headers.contains_key("upgrade"));
        ok("plain")
    })
    .await;
    let mut visitor = node.connect().await;
    for headers in
        ["Connection: Upgrade\r\nUpgrade: h2c\r\n", "Connection: keep-alive\r\nUpgrade: websocket\r\n"]
    {
        visitor.get("/", headers).await;
        assert_eq!(visitor.response().await.1, b"plain");
    }
}

#[tokio::test]
async fn what_is_left_after_the_grace_period_breaks_off_the_far_end() {
    let (far, mut seen) = mpsc::channel::<websocket::Event>(8);
    let far = Mutex::new(Some(far));
    let node = Node::with(config(), move |_| {
        let far = far.lock().unwrap().take().unwrap();
        let outgoing = sink::unfold(far, async |far, event| {
            far.send(event).await.map_err(|_| ForwardError::new(ErrorKind::Cancelled, "gone"))?;
            Ok(far)
        });
        let duplex = Duplex { incoming: Box::pin(stream::pending()), outgoing: Box::pin(outgoing) };
        std::future::ready(Ok(Answer::WebSocket(Accepted { headers: HeaderMap::new(), duplex })))
    })
    .await;
    let mut visitor = node.connect().await;
    visitor.get("/", &[KEY, "Connection: Upgrade\r\n"].concat()).await;
    visitor.head().await;
    // A masked "Hello" arrives, then the end.
    visitor.send([0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]).await;
    assert_eq!(seen.recv().await, Some(websocket::Event::Text("Hello".into())));
    node.shared.kill.cancel();
    assert_eq!(seen.recv().await, None);
}
