//! Which connection carries an exchange, and which is closed, against raw sockets.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::coop::poll_proceed,
    time::timeout,
};

use super::*;
use crate::{
    client::tests::{
        TestOrigin, channel_body, http, read_body, read_head, read_to_end, read_until, request, serve_once,
        settle,
    },
    exchange::{Body, Forward},
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers the next request, which has to come on this connection and not on a new one.
async fn serve_again(origin: &TestOrigin, stream: &mut TcpStream, response: &[u8]) {
    tokio::select! {
        _ = read_head(stream) => stream.write_all(response).await.unwrap(),
        _ = origin.accept() => panic!("another connection was opened"),
    }
}

/// One whole exchange on a connection of its own.
async fn serve_first(origin: &TestOrigin, stage: &impl Forward) -> TcpStream {
    let (answer, (stream, _)) = tokio::join!(stage.forward(request("GET", "/")), serve_once(origin, OK));
    assert_eq!(read_body(http(answer.unwrap()).body).await, b"ok");
    stream
}

#[tokio::test]
async fn a_connection_is_used_again_whatever_the_answer_was() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let mut stream = serve_first(&origin, &*stage).await;
    for (method, response, body) in [
        ("GET", &b"HTTP/1.1 204 No Content\r\n\r\n"[..], &b""[..]),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", b""),
        ("GET", OK, b"ok"),
        (
            "POST",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nin\r\n7\r\n pieces\r\n0\r\n\r\n",
            b"in pieces",
        ),
        ("GET", OK, b"ok"),
    ] {
        let mut request = request(method, "/");
        if method == "POST" {
            request.body = Body::full("body");
        }
        let (answer, ()) = tokio::join!(stage.forward(request), serve_again(&origin, &mut stream, response));
        assert_eq!(read_body(http(answer.unwrap()).body).await, body);
        if method == "POST" {
            read_until(&mut stream, b"body").await;
        }
    }
}

#[tokio::test]
async fn a_connection_is_used_again_after_an_answer_that_took_its_time() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let mut stream = serve_first(&origin, &*stage).await;
    for (head, rest) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"[..], [&b"sl"[..], b"owly"]),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            [b"2\r\nsl\r\n", b"4\r\nowly\r\n0\r\n\r\n"],
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nslowly\r\n", [b"0\r\n", b"\r\n"]),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n",
            [b"6\r\nslowly\r\n", b"0\r\nx: 1\r\n\r\n"],
        ),
    ] {
        let (answer, ()) =
            tokio::join!(stage.forward(request("GET", "/")), serve_again(&origin, &mut stream, head));
        let reading = tokio::spawn(http(answer.unwrap()).body.collect());
        for piece in rest {
            settle().await;
            stream.write_all(piece).await.unwrap();
        }
        assert_eq!(reading.await.unwrap().unwrap().to_bytes(), "slowly");
    }
    serve_again_ok(&origin, &*stage, &mut stream).await;
}

async fn serve_again_ok(origin: &TestOrigin, stage: &impl Forward, stream: &mut TcpStream) {
    let (answer, ()) = tokio::join!(stage.forward(request("GET", "/")), serve_again(origin, stream, OK));
    assert_eq!(read_body(http(answer.unwrap()).body).await, b"ok");
}

#[tokio::test]
async fn the_connection_that_was_used_last_is_used_next() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let waiting = |path| {
        let stage = Arc::clone(&stage);
        tokio::spawn(
            async move { read_body(http(stage.forward(request("GET", path)).await.unwrap()).body).await },
        )
    };
    let first = waiting("/1");
    let mut one = origin.accept().await;
    let second = waiting("/2");
    let mut two = origin.accept().await;
    for (stream, waiting) in [(&mut two, second), (&mut one, first)] {
        serve_again(&origin, stream, OK).await;
        waiting.await.unwrap();
    }
    serve_again_ok(&origin, &*stage, &mut one).await;
    serve_again_ok(&origin, &*stage, &mut one).await;
}

#[tokio::test]
async fn unused_connections_are_closed_though_nobody_asks() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    // The second time shows that somebody looks again after there was nothing to look at.
    for _ in 0..2 {
        let stream = serve_first(&origin, &*stage).await;
        tokio::time::pause();
        timeout(2 * IDLE, read_to_end(stream)).await.unwrap();
        tokio::time::resume();
    }
}

#[tokio::test]
async fn connections_go_with_the_stage_that_kept_them() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let stream = serve_first(&origin, &*stage).await;
    drop(stage);
    read_to_end(stream).await;
}

/// What nobody asked for would be taken for the answer to the next request.
#[tokio::test]
async fn a_connection_with_bytes_that_nobody_asked_for_is_not_used_again() {
    let origin = TestOrigin::bind().await;
    // Sent right behind an answer, and when the connection is idle.
    for late in [false, true] {
        let stage = origin.stage();
        let unasked = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
        let mut stream = if late {
            serve_first(&origin, &*stage).await
        } else {
            let both = [OK, unasked].concat();
            let (answer, (stream, _)) =
                tokio::join!(stage.forward(request("GET", "/")), serve_once(&origin, &both));
            assert_eq!(read_body(http(answer.unwrap()).body).await, b"ok");
            stream
        };
        if late {
            stream.write_all(unasked).await.unwrap();
            settle().await;
        }
        let mut post = request("POST", "/");
        post.body = Body::full("body");
        let (answer, (_next, _)) = tokio::join!(stage.forward(post), serve_once(&origin, OK));
        assert_eq!(read_body(http(answer.unwrap()).body).await, b"ok");
        read_to_end(stream).await;
    }
}

#[tokio::test]
async fn the_connection_of_a_refused_answer_is_closed() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let (answer, (stream, _)) =
        tokio::join!(stage.forward(request("GET", "/")), serve_once(&origin, response));
    assert!(answer.unwrap_err().detail().contains("doesn't say clearly where it ends"));
    read_to_end(stream).await;
}

#[tokio::test]
async fn an_upload_that_outlasts_its_answer_keeps_its_connection_until_it_ends() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let (sender, body) = channel_body();
    let mut post = request("POST", "/");
    post.body = body;
    let (answer, (mut stream, _)) = tokio::join!(stage.forward(post), serve_once(&origin, OK));
    assert_eq!(read_body(http(answer.unwrap()).body).await, b"ok");
    // Another exchange has to have a connection of its own.
    let other = serve_first(&origin, &*stage).await;
    drop(other);

    sender.send(Ok(Frame::data(Bytes::from_static(b"late")))).await.unwrap();
    read_until(&mut stream, b"late\r\n").await;
    drop(sender);
    read_until(&mut stream, b"0\r\n\r\n").await;
    settle().await;
    serve_again_ok(&origin, &*stage, &mut stream).await;
}

#[tokio::test]
async fn the_end_of_a_request_reaches_an_origin_that_answered_before_it() {
    let origin = TestOrigin::bind().await;
    // More than sockets hold.
    let long = vec![7; 16 << 20];
    for response in [OK, b"HTTP/1.1 204 No Content\r\n\r\n"] {
        let stage = origin.stage();
        let mut post = request("POST", "/");
        post.body = Body::full(long.clone());
        let (answer, (mut stream, _)) = tokio::join!(stage.forward(post), serve_once(&origin, response));
        read_body(http(answer.unwrap()).body).await;
        let mut read = vec![0; long.len()];
        stream.read_exact(&mut read).await.unwrap();
        assert!(read == long);
    }
}

/// Many programs read the answer when they have sent all; its beginning must not stop the rest of what they send.
#[tokio::test]
async fn an_upload_goes_on_while_nobody_reads_the_answer() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    let (sender, body) = channel_body();
    let mut post = request("POST", "/");
    post.body = body;
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome";
    let (answer, (mut stream, _)) = tokio::join!(stage.forward(post), serve_once(&origin, head));
    let body = http(answer.unwrap()).body;
    sender.send(Ok(Frame::data(Bytes::from_static(b"piece")))).await.unwrap();
    drop(sender);
    read_until(&mut stream, b"piece\r\n0\r\n\r\n").await;
    stream.write_all(b" more").await.unwrap();
    assert_eq!(read_body(body).await, b"some more");
}

/// The runtime makes a task that did much give way: nothing is ready then, and the task is woken. Whoever is polled without
/// a task to be woken must not be told that; here, that there is no answer on a connection that has ended.
#[tokio::test]
async fn a_task_that_has_to_give_way_misses_nothing() {
    let origin = TestOrigin::bind().await;
    let stage = origin.stage();
    // So many steps are left to the task at every second of its turns, the first one or the one after it.
    for (left, turn) in (0..10).flat_map(|left| [(left, 0), (left, 1)]) {
        let stage = Arc::clone(&stage);
        let forwarding = tokio::spawn(async move {
            let mut forwarding = stage.forward(request("GET", "/"));
            let mut turns = 0;
            let answer = poll_fn(|cx| {
                if turns % 2 == turn {
                    take_steps(STEPS - left, cx);
                }
                turns += 1;
                forwarding.as_mut().poll(cx)
            });
            answer.await.unwrap_err()
        });
        drop(serve_once(&origin, b"").await);
        let answered = timeout(Duration::from_secs(60), forwarding);
        let error = answered.await.expect("the task was never woken").unwrap();
        assert!(error.detail().ends_with("closed the connection without an answer"), "{}", error.detail());
    }
}

/// Steps of a task's turn, as the runtime counts them.
const STEPS: usize = 128;

fn take_steps(steps: usize, cx: &mut Context<'_>) {
    for _ in 0..steps {
        if let Poll::Ready(step) = poll_proceed(cx) {
            step.made_progress();
        }
    }
}
