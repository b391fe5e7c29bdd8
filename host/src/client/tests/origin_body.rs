//! `Expect: 100-continue`, against an origin that asks, one that doesn't, and one that refuses.

use bytes::Bytes;
use http::HeaderValue;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::{
    client::tests::{TestOrigin, channel_body, context, http, read_head, read_until, request, settle},
    exchange::{Forward, Request},
};

type Pieces = tokio::sync::mpsc::Sender<Result<Frame<Bytes>, ForwardError>>;

/// A request that waits to be asked for its body, what was told to the visitor, and the way to send the body.
fn expecting() -> (Request, Arc<Mutex<Vec<StatusCode>>>, Pieces) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let mut request = request("PUT", "/");
    request.head.headers.insert("expect", HeaderValue::from_static("100-Continue"));
    request.context = context(Some(Arc::new(move |status, _| sink.lock().unwrap().push(status))));
    let (sender, body) = channel_body();
    // It is there already; only the gate can hold it back.
    sender.try_send(Ok(Frame::data(Bytes::from_static(b"payload")))).unwrap();
    request.body = body;
    (request, seen, sender)
}

#[tokio::test]
async fn the_body_waits_for_the_origins_100() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let (request, seen, sender) = expecting();
    let serving = async {
        let mut stream = origin.accept().await;
        let head = read_head(&mut stream).await;
        assert!(head.windows(22).any(|window| window == b"expect: 100-Continue\r\n"));
        settle().await;
        assert_eq!(sender.capacity(), 0, "the body was taken before it was asked for");
        assert!(seen.lock().unwrap().is_empty());
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        read_until(&mut stream, b"payload\r\n").await;
        drop(sender);
        read_until(&mut stream, b"0\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        stream
    };
    let (answer, _stream) = tokio::join!(stage.forward(request), serving);
    assert_eq!(http(answer.unwrap()).status, 201);
    assert_eq!(*seen.lock().unwrap(), [StatusCode::CONTINUE]);
}

#[tokio::test]
async fn the_body_waits_one_second_for_an_origin_that_says_nothing() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let (request, seen, sender) = expecting();
    let serving = async {
        let mut stream = origin.accept().await;
        read_head(&mut stream).await;
        settle().await;
        assert_eq!(sender.capacity(), 0);
        // From here on time passes as soon as nothing else happens.
        tokio::time::pause();
        read_until(&mut stream, b"payload\r\n").await;
        assert_eq!(*seen.lock().unwrap(), [StatusCode::CONTINUE], "the visitor is asked first");
        drop(sender);
        stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        stream
    };
    let (answer, _stream) = tokio::join!(stage.forward(request), serving);
    assert_eq!(http(answer.unwrap()).status, 201);
}

#[tokio::test]
async fn a_final_answer_instead_of_100_is_the_answer() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let (request, seen, sender) = expecting();
    let serving = async {
        let mut stream = origin.accept().await;
        read_head(&mut stream).await;
        let refusal = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all(refusal).await.unwrap();
        stream
    };
    let (answer, _stream) = tokio::join!(stage.forward(request), serving);
    assert_eq!(http(answer.unwrap()).status, 417);
    assert!(seen.lock().unwrap().is_empty(), "nobody asks the visitor for a body that is not wanted");
    drop(sender);
}
