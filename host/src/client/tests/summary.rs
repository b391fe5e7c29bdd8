//! One summary for each exchange, however it ends.

use std::sync::Mutex;

use futures_util::{FutureExt, SinkExt, StreamExt};
use http::HeaderMap;
use http_body_util::BodyExt;

use super::*;
use crate::{
    client::tests::{channel_body, http, read_body, request, websocket_request},
    exchange::{
        Response,
        websocket::{Close, Role, over},
    },
};

/// Reads the request's body if told to, and answers as told.
struct Answering<F>(F);

impl<F> Forward for Answering<F>
where
    F: Fn() -> Option<Result<Answer, ForwardError>> + Send + Sync + 'static,
{
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        Box::pin(async move {
            let _ = request.body.collect().await;
            match (self.0)() {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }
}

fn answer(status: u16, body: Body) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    Answer::Http(Response { status, headers: HeaderMap::new(), body })
}

type Seen = Arc<Mutex<Vec<ExchangeSummary>>>;

fn stage<F>(next: F) -> (Summarised, Seen)
where
    F: Fn() -> Option<Result<Answer, ForwardError>> + Send + Sync + 'static,
{
    let seen = Seen::default();
    let sink = Arc::clone(&seen);
    let report: Report = Arc::new(move |event| match event {
        Event::Exchange(summary) => sink.lock().unwrap().push(summary),
        other => panic!("{other:?}"),
    });
    (Summarised { next: Arc::new(Answering(next)), report }, seen)
}

/// The one summary, as outcome and bytes.
fn only(seen: &Seen) -> (String, u64, u64) {
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].exchange, seen[0].path.as_str()), (ExchangeId(7), "/a%2Fb?q"));
    (format!("{:?}", seen[0].outcome), seen[0].bytes_in, seen[0].bytes_out)
}

#[tokio::test]
async fn a_whole_exchange_is_reported_at_its_last_byte() {
    let (stage, seen) = stage(|| Some(Ok(answer(201, Body::full("12345")))));
    let mut request = request("POST", "/a%2Fb?q");
    request.body = Body::full("123");
    let response = http(stage.forward(request).await.unwrap());
    assert!(seen.lock().unwrap().is_empty(), "reported before the body passed");
    read_body(response.body).await;
    assert_eq!(only(&seen), ("Status(201)".to_owned(), 3, 5));
}

#[tokio::test]
async fn without_a_body_it_is_reported_at_once() {
    let (stage, seen) = stage(|| Some(Ok(answer(304, Body::empty()))));
    let response = http(stage.forward(request("GET", "/a%2Fb?q")).await.unwrap());
    assert!(response.body.is_end_stream());
    assert_eq!(only(&seen), ("Status(304)".to_owned(), 0, 0));
}

#[tokio::test]
async fn failures_and_cancellations_are_reported() {
    let failing = || Some(Err(ForwardError::new(ErrorKind::OriginUnreachable, "")));
    let (failed, seen) = stage(failing);
    failed.forward(request("GET", "/a%2Fb?q")).await.unwrap_err();
    assert_eq!(only(&seen).0, "Failed(OriginUnreachable)");

    let (silent, seen) = stage(|| None);
    assert!(silent.forward(request("GET", "/a%2Fb?q")).now_or_never().is_none());
    assert_eq!(only(&seen).0, "Failed(Cancelled)");
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_dropped_is_reported_as_broken() {
    for fails in [true, false] {
        let (sender, body) = channel_body();
        let body = Mutex::new(Some(body));
        let (stage, seen) = stage(move || Some(Ok(answer(200, body.lock().unwrap().take().unwrap()))));
        let mut body = http(stage.forward(request("GET", "/a%2Fb?q")).await.unwrap()).body;
        sender.send(Ok(Frame::data(Bytes::from_static(b"some")))).await.unwrap();
        body.frame().await.unwrap().unwrap();
        if fails {
            sender.send(Err(ForwardError::new(ErrorKind::OriginFailed, ""))).await.unwrap();
            body.frame().await.unwrap().unwrap_err();
        } else {
            drop(body);
        }
        assert_eq!(only(&seen), ("Broken(200)".to_owned(), 0, 4));
    }
}

#[tokio::test]
async fn a_websocket_is_reported_when_it_has_ended() {
    let (near, far) = tokio::io::duplex(1024);
    let mut far = over(far, Role::Server, 1024);
    let near = Mutex::new(Some(near));
    let (stage, seen) = stage(move || {
        let duplex = over(near.lock().unwrap().take().unwrap(), Role::Client, 1024);
        Some(Ok(Answer::WebSocket(Accepted { headers: HeaderMap::new(), duplex })))
    });
    let answer = stage.forward(websocket_request("/a%2Fb?q")).await.unwrap();
    let Answer::WebSocket(Accepted { mut duplex, .. }) = answer else { panic!("refused") };
    duplex.outgoing.send(Message::Text(Bytes::from_static(b"up"))).await.unwrap();
    far.outgoing.send(Message::Binary(Bytes::from_static(b"down!"))).await.unwrap();
    far.outgoing.send(Message::Close(Close::new(1000, "not counted"))).await.unwrap();
    while duplex.incoming.next().await.is_some() {}
    assert!(seen.lock().unwrap().is_empty(), "one direction is still open");
    drop(duplex);
    assert_eq!(only(&seen), ("Status(101)".to_owned(), 2, 5));
}
