//! The public role over real sockets, with fakes in the seats.

mod admin;
mod drain;
mod errors;
mod flow;
mod http_details;
mod websocket;

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, StreamBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{Config, Dialects, Event, Limits, Shared, bind, door::DoorSettings};
use crate::{
    bus::{Registration, contract},
    exchange::{Answer, Body, ErrorKind, Forward, ForwardError, ForwardFuture, Request, Response},
    wire::TunnelName,
};

pub(crate) fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        door: DoorSettings::default(),
        domain: "localhost".to_owned(),
        public_url: None,
        also_known_as: Vec::new(),
        registration: super::Registration::open(),
        trusted_proxies: Vec::new(),
        policies: Vec::new(),
        dialects: Dialects::default(),
        redis: None,
        admin: None,
        answer_timeout: Duration::from_secs(30),
        grace_period: Duration::from_secs(30),
        limits: Limits::default(),
        cores: Default::default(),
        observe: Default::default(),
        report: Arc::new(|_| ()),
    }
}

/// The name that the fake under test holds.
pub(crate) fn name() -> TunnelName {
    contract::name(1)
}

fn host() -> String {
    format!("{}.localhost", name())
}

pub(crate) use contract::{Answered, Fake};

/// A running proxy.
struct Node {
    shared: Arc<Shared>,
    address: std::net::SocketAddr,
    admin: Option<std::net::SocketAddr>,
    stop: CancellationToken,
    running: JoinHandle<()>,
    events: Arc<Mutex<Vec<Event>>>,
    seats: Vec<Registration>,
}

impl Node {
    async fn start(mut config: Config) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = events.clone();
        config.report = Arc::new(move |event| seen.lock().unwrap().push(event));
        let proxy = bind(config).await.unwrap();
        let (shared, address, stop) = (proxy.shared.clone(), proxy.address(), CancellationToken::new());
        let admin = proxy.admin_address();
        let running = tokio::spawn(proxy.run(stop.clone()));
        Self { shared, address, admin, stop, running, events, seats: Vec::new() }
    }

    /// One tunnel, held by a function.
    async fn with<F, Fut>(config: Config, answer: F) -> Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answered> + Send + 'static,
    {
        let mut node = Self::start(config).await;
        node.seats.push(node.shared.bus.register(name(), Fake::new(answer)).unwrap());
        node
    }

    async fn connect(&self) -> Visitor {
        Visitor { socket: TcpStream::connect(self.address).await.unwrap(), read: Vec::new() }
    }

    /// One request on a connection of its own, to the end of the connection.
    async fn once(&self, request: &str) -> String {
        let mut visitor = self.connect().await;
        visitor.send(request).await;
        visitor.rest().await
    }
}

/// A visitor who sees every byte.
struct Visitor {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Visitor {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.unwrap();
    }

    /// A GET without a body to the fake's tunnel, with further header lines.
    async fn get(&mut self, path: &str, headers: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", host())).await;
    }

    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return self.read.drain(..at + end.len()).collect();
            }
            let n = self.socket.read_buf(&mut self.read).await.unwrap();
            assert!(n > 0, "the connection ended after {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// The next head, with its empty line.
    async fn head(&mut self) -> String {
        String::from_utf8_lossy(&self.until(b"\r\n\r\n").await).into_owned()
    }

    /// A head, and a body of the length it announces.
    async fn response(&mut self) -> (String, Vec<u8>) {
        let head = self.head().await;
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        (head, self.exactly(length).await)
    }

    async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(self.socket.read_buf(&mut self.read).await.unwrap() > 0, "the connection ended");
        }
        self.read.drain(..length).collect()
    }

    /// Everything to the end of the connection.
    async fn rest(mut self) -> String {
        self.socket.read_to_end(&mut self.read).await.unwrap();
        String::from_utf8_lossy(&self.read).into_owned()
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .find(|(key, _)| *key == name)
        .map(|(_, v)| v)
}

fn response(status: u16, headers: &[(&'static str, &str)], body: Body) -> Answered {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    Ok(Answer::Http(Response { status: StatusCode::from_u16(status).unwrap(), headers: map, body }))
}

pub(crate) fn ok(body: impl Into<Bytes>) -> Answered {
    response(200, &[], Body::full(body))
}

async fn collect(body: Body) -> Result<(Bytes, Option<HeaderMap>), ForwardError> {
    let body = body.collect().await?;
    let trailers = body.trailers().cloned();
    Ok((body.to_bytes(), trailers))
}

type Piece = Result<Frame<Bytes>, ForwardError>;

/// A body that a test feeds.
pub(crate) fn fed() -> (mpsc::Sender<Piece>, Body) {
    let (feed, mut pieces) = mpsc::channel(8);
    let stream = futures_util::stream::poll_fn(move |cx| pieces.poll_recv(cx));
    (feed, Body::stream(StreamBody::new(stream)))
}

fn piece(text: &'static str) -> Piece {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

/// The next piece of a body as text.
async fn next(body: &mut Body) -> String {
    let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
    String::from_utf8(frame.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap()
}
