//! The sample over real sockets, as a tunnel or a browser would use it.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{Request, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::{Response, body::Incoming, client::conn::http1};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};

use super::*;

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let sample = Sample::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let (address, stop) = (sample.address(), CancellationToken::new());
        let task = tokio::spawn(sample.run(stop.clone()));
        Self { address, stop, task }
    }

    async fn ask<B>(&self, request: Request<B>) -> Response<Incoming>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    async fn get(&self, target: &str) -> Response<Incoming> {
        self.ask(Request::get(target).header("host", "sample").body(Empty::new()).unwrap()).await
    }

    async fn dial(&self, path: &str) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
        connect_async(format!("ws://{}{path}", self.address)).await.unwrap().0
    }
}

async fn read(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

async fn read_json(response: Response<Incoming>) -> Value {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    serde_json::from_slice(&read(response).await).unwrap()
}

/// SHA-256 of "abc" (FIPS 180-2 appendix B.1).
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[tokio::test]
async fn the_page_brings_everything_with_it() {
    let sample = Running::start().await;
    let response = sample.get("/").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(response.headers().contains_key(header::CONTENT_SECURITY_POLICY));
    let page = String::from_utf8(read(response).await.into()).unwrap();
    for foreign in ["http://", "https://", "src=", "@import", "url(", "=\"/", "'/"] {
        assert!(
            !page.contains(foreign),
            "the page points out of itself, or at the root of its host: {foreign}"
        );
    }
    for endpoint in ["\"echo/", "\"clock\"", "\"chat\"", "\"events\"", "\"upload\"", "\"download"] {
        assert!(page.contains(endpoint), "the page doesn't use {endpoint}");
    }
}

#[tokio::test]
async fn echo_tells_the_request_as_it_arrived() {
    let sample = Running::start().await;
    // Written by hand: a client library might tidy it up.
    let mut stream = TcpStream::connect(sample.address).await.unwrap();
    let request = b"PURGE /echo/a%2Fb//../;c?x=%20&&y HTTP/1.1\r\nhost: a\r\nx-one: 1\r\nx-two: \xff\r\n\
        x-one: 2\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(
        serde_json::from_str::<Value>(body).unwrap(),
        json!({
            "method": "PURGE",
            "target": "/echo/a%2Fb//../;c?x=%20&&y",
            "headers": [
                ["host", "a"], ["x-one", "1"], ["x-one", "2"], ["x-two", "\\xff"],
                ["connection", "close"], ["content-length", "3"],
            ],
            "bytes": 3,
            "sha256": ABC,
        })
    );
}

#[tokio::test]
async fn an_upload_is_summed_piece_by_piece() {
    let sample = Running::start().await;
    let pieces = ["a", "b", "c"].map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece))));
    let body = StreamBody::new(stream::iter(pieces));
    let response = sample.ask(Request::put("/upload").header("host", "sample").body(body).unwrap()).await;
    assert_eq!(read_json(response).await, json!({ "bytes": 3, "sha256": ABC }));
}

#[tokio::test]
async fn a_download_is_the_same_bytes_every_time() {
    let sample = Running::start().await;
    for length in [0, 1, 251, 64_256, 300_001] {
        let response = sample.get(&format!("/download?bytes={length}")).await;
        assert_eq!(response.headers()[header::CONTENT_LENGTH], length.to_string());
        let bytes = read(response).await;
        assert_eq!(bytes.len(), length);
        assert!(bytes.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251));
    }
    assert_eq!(sample.get("/download?bytes=many").await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(read(sample.get("/download").await).await.len(), 100_000);
}

#[tokio::test]
async fn what_is_not_there_is_refused() {
    let sample = Running::start().await;
    let response = sample.get("/nothing").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");

    let response = sample.get("/upload").await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()[header::ALLOW], "POST, PUT");
    let request = Request::post("/").header("host", "sample").body(Full::new(Bytes::from("abc"))).unwrap();
    assert_eq!(sample.ask(request).await.status(), StatusCode::METHOD_NOT_ALLOWED);

    let response = sample.get("/chat").await;
    assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(response.headers()[header::UPGRADE], "websocket");
}

/// The lines of the first event that comes.
async fn event(response: &mut Response<Incoming>) -> Vec<String> {
    let data = response.frame().await.unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8(data.into()).unwrap();
    text.strip_suffix("\n\n").expect("an empty line ends an event").lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn events_come_one_by_one_and_go_on_where_they_broke_off() {
    let sample = Running::start().await;
    let mut response = sample.get("/events").await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    for id in ["id: 1", "id: 2"] {
        let event = event(&mut response).await;
        assert_eq!(event[..2], [id, "retry: 1000"]);
        assert!(event[2].strip_prefix("data: ").unwrap().parse::<jiff::Timestamp>().is_ok(), "{event:?}");
    }
    let again = Request::get("/events").header("host", "sample").header("last-event-id", "41");
    let mut response = sample.ask(again.body(Empty::new()).unwrap()).await;
    assert_eq!(event(&mut response).await[0], "id: 42");
}

#[tokio::test]
async fn the_clock_ticks_and_answers_pings() {
    let sample = Running::start().await;
    let mut clock = sample.dial("/clock").await;
    clock.send(Message::Ping("are you there".into())).await.unwrap();
    let (mut times, mut pongs) = (Vec::new(), 0);
    while times.len() < 2 || pongs < 1 {
        match clock.next().await.unwrap().unwrap() {
            Message::Text(text) => times.push(text.parse::<jiff::Timestamp>().unwrap()),
            Message::Pong(payload) => pongs += i32::from(payload == "are you there"),
            other => panic!("the clock says {other:?}"),
        }
    }
    assert!(times[0] < times[1]);
}

#[tokio::test]
async fn the_chat_repeats_text_and_bytes_and_says_good_bye() {
    let sample = Running::start().await;
    let mut chat = sample.dial("/chat").await;
    let large = Message::binary(vec![0xff; 3_000_000]);
    for message in [Message::text("grüß dich"), Message::text(""), Message::binary(vec![0, 255, 10]), large]
    {
        chat.send(message.clone()).await.unwrap();
        assert!(chat.next().await.unwrap().unwrap() == message, "the chat says something else");
    }
    chat.close(None).await.unwrap();
    assert_eq!(chat.next().await.unwrap().unwrap(), Message::Close(None));
    assert!(chat.next().await.is_none());
}

#[tokio::test]
async fn stopping_ends_what_has_no_end() {
    let sample = Running::start().await;
    let mut events = sample.get("/events").await;
    event(&mut events).await;
    let mut chat = sample.dial("/chat").await;

    sample.stop.cancel();
    let Message::Close(Some(frame)) = chat.next().await.unwrap().unwrap() else { panic!("no close frame") };
    assert_eq!(frame.code, CloseCode::Away);
    // A stream that ends well, not one that breaks.
    while let Some(frame) = events.frame().await {
        frame.unwrap();
    }
    assert!(chat.next().await.is_none());
    sample.task.await.unwrap();
    assert!(TcpStream::connect(sample.address).await.is_err());
}

#[tokio::test]
async fn stopping_waits_for_nobody_for_long() {
    let sample = Running::start().await;
    // Far more than the buffers of the two sockets hold, and never read.
    let _unread = sample.get("/download?bytes=1000000000").await;
    sample.stop.cancel();
    sample.task.await.unwrap();
}

#[tokio::test]
async fn dropping_a_running_sample_closes_its_connections() {
    let sample = Running::start().await;
    let mut chat = sample.dial("/chat").await;
    sample.task.abort();
    assert!(!matches!(chat.next().await, Some(Ok(_))));
}
