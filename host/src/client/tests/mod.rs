//! Origins for the tests of this module: raw TCP, so that every byte is seen as it is sent.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method, uri::Scheme};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{HostHeader, Origin, OriginConfig};
use crate::exchange::{
    Answer, Body, Context, ExchangeId, ForwardError, Interim, Request, RequestHead, RequestKind, Response,
    Scheme as VisitorScheme,
};

pub(super) const MAX_MESSAGE: usize = 1024 * 1024;

/// A listening origin; the test plays its part.
pub(super) struct TestOrigin {
    listener: TcpListener,
    pub(super) config: OriginConfig,
}

impl TestOrigin {
    pub(super) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string().parse().unwrap();
        let config = OriginConfig {
            scheme: Scheme::HTTP,
            authority,
            host_header: HostHeader::Keep,
            insecure: false,
            connect_timeout: Duration::from_secs(10),
            protocol: Default::default(),
        };
        Self { listener, config }
    }

    pub(super) fn url(&self) -> String {
        format!("{}://{}", self.config.scheme, self.config.authority)
    }

    /// The stage under test, in front of this origin.
    pub(super) fn stage(&self) -> Arc<Origin> {
        Arc::new(Origin::new(&self.config, MAX_MESSAGE).unwrap())
    }

    pub(super) async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }
}

/// Reads up to and with the empty line that ends a head.
pub(super) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    read_until(stream, b"\r\n\r\n").await
}

pub(super) async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        read.push(stream.read_u8().await.expect("the connection ended too soon"));
    }
    read
}

/// Waits for the end of the connection; what still comes is dropped.
pub(super) async fn read_to_end(mut stream: TcpStream) {
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// Lets everything that can run, run, and what the kernel knows be noticed.
pub(super) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Accepts a connection, reads one head and writes `response`.
pub(super) async fn serve_once(origin: &TestOrigin, response: &[u8]) -> (TcpStream, Vec<u8>) {
    let mut stream = origin.accept().await;
    let head = read_head(&mut stream).await;
    stream.write_all(response).await.unwrap();
    (stream, head)
}

pub(super) fn request(method: &str, target: &str) -> Request {
    Request {
        head: RequestHead {
            kind: RequestKind::Http,
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            scheme: VisitorScheme::Http,
            authority: "visited.example".to_owned(),
            target: target.parse().unwrap(),
            headers: HeaderMap::new(),
        },
        body: Body::empty(),
        context: context(None),
    }
}

pub(super) fn websocket_request(target: &str) -> Request {
    let mut request = request("GET", target);
    request.head.kind = RequestKind::WebSocket;
    request
}

pub(super) fn context(interim: Option<Interim>) -> Context {
    let tunnel = "a".repeat(51) + "a";
    Context {
        exchange: ExchangeId(7),
        tunnel: tunnel.parse().unwrap(),
        visitor: None,
        tls: None,
        notes: Default::default(),
        interim,
        witness: None,
    }
}

/// A body that is sent from the test, and fails when told to.
pub(super) fn channel_body()
-> (tokio::sync::mpsc::Sender<Result<http_body::Frame<bytes::Bytes>, ForwardError>>, Body) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let stream = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (sender, Body::stream(http_body_util::StreamBody::new(stream)))
}

pub(super) fn http(answer: Answer) -> Response {
    match answer {
        Answer::Http(response) => response,
        Answer::WebSocket(_) => panic!("a WebSocket"),
    }
}

pub(super) async fn read_body(body: Body) -> Vec<u8> {
    body.collect().await.unwrap().to_bytes().to_vec()
}

/// Answers a TLS handshake as a plain HTTP server does.
pub(super) async fn serve_plain(origin: &TestOrigin) {
    let mut stream = origin.accept().await;
    stream.read_u8().await.unwrap();
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    read_to_end(stream).await;
}
