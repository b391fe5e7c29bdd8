//! Bodies stream, interim responses come in time, and whoever leaves is noticed.

use std::sync::Mutex;

use http::header;
use tokio::sync::oneshot;

use super::*;

/// Hands something to the first call of a fake.
fn once<T>(value: T) -> impl Fn() -> T {
    let value = Mutex::new(Some(value));
    move || value.lock().unwrap().take().expect("called once")
}

#[tokio::test]
async fn both_bodies_stream_at_once() {
    let node = Node::with(config(), async |request: Request| response(200, &[], request.body)).await;
    let mut visitor = node.connect().await;
    visitor.send(format!("POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", host())).await;
    // Each piece comes back before the next is sent; the head comes before the first.
    visitor.head().await;
    for piece in ["3\r\none\r\n", "3\r\ntwo\r\n", "5\r\nthree\r\n", "0\r\n\r\n"] {
        visitor.send(piece).await;
        assert_eq!(visitor.until(piece.as_bytes()).await, piece.as_bytes());
    }
}

#[tokio::test]
async fn events_are_delivered_one_by_one() {
    let (feed, body) = fed();
    let body = once(body);
    let node = Node::with(config(), move |_| {
        std::future::ready(response(200, &[("content-type", "text/event-stream")], body()))
    })
    .await;
    let mut visitor = node.connect().await;
    visitor.get("/", "").await;
    visitor.head().await;
    for _ in 0..3 {
        feed.send(piece("data: x\n\n")).await.unwrap();
        assert_eq!(visitor.until(b"\n\n\r\n").await, b"9\r\ndata: x\n\n\r\n");
    }
    drop(feed);
    visitor.until(b"0\r\n\r\n").await;
}

#[tokio::test]
async fn continue_is_sent_when_the_body_is_asked_for_and_not_before() {
    let node = Node::with(config(), async |request: Request| {
        assert_eq!(request.head.headers[header::EXPECT], "100-continue", "the far end needs to know");
        // Was 100 sent before the body is asked for, it would come before the 103.
        tokio::task::yield_now().await;
        request.context.interim.unwrap()(StatusCode::EARLY_HINTS, HeaderMap::new());
        ok(collect(request.body).await?.0)
    })
    .await;
    let mut visitor = node.connect().await;
    let head = format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 4\r\n", host());
    visitor.send(head + "Expect: 100-continue\r\n\r\n").await;
    assert_eq!(visitor.head().await, "HTTP/1.1 103 Early Hints\r\n\r\n");
    assert_eq!(visitor.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    visitor.send("body").await;
    let (head, body) = visitor.response().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(body, b"body");
}

#[tokio::test]
async fn a_refused_expectation_gets_no_continue() {
    let node = Node::with(config(), async |_| response(417, &[], Body::full("no"))).await;
    let mut visitor = node.connect().await;
    let head = format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 4\r\n", host());
    visitor.send(head + "Expect: 100-continue\r\n\r\n").await;
    assert!(visitor.head().await.starts_with("HTTP/1.1 417 "));
}

#[tokio::test]
async fn interim_responses_come_before_the_final_one() {
    let (go, gone) = oneshot::channel();
    let gone = once(gone);
    let node = Node::with(config(), move |request: Request| {
        let gone = gone();
        async move {
            let interim = request.context.interim.unwrap();
            let send = interim.clone();
            tokio::spawn(async move {
                let mut headers = HeaderMap::new();
                headers.append("link", "</a.css>; rel=preload".parse().unwrap());
                headers.append("link", "</b.js>; rel=preload".parse().unwrap());
                send(StatusCode::CONTINUE, HeaderMap::new());
                send(StatusCode::EARLY_HINTS, headers);
            });
            gone.await.unwrap();
            interim(StatusCode::PROCESSING, HeaderMap::new());
            ok("final")
        }
    })
    .await;
    let mut visitor = node.connect().await;
    visitor.get("/", "").await;
    let hints =
        "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>; rel=preload\r\n\r\n";
    assert_eq!(visitor.head().await, hints);
    go.send(()).unwrap();
    assert_eq!(visitor.head().await, "HTTP/1.1 102 Processing\r\n\r\n");
    let (head, body) = visitor.response().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(body, b"final");
}

#[tokio::test]
async fn http_10_visitors_get_no_interim_responses() {
    let node = Node::with(config(), async |request: Request| {
        ok(if request.context.interim.is_some() { "some" } else { "none" })
    })
    .await;
    let answer = node.once(&format!("GET / HTTP/1.0\r\nHost: {}\r\n\r\n", host())).await;
    assert!(answer.ends_with("none"), "{answer}");
}

/// Tells when it is dropped.
struct Dropped(Option<oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.take().unwrap().send(());
    }
}

fn dropped() -> (impl Fn() -> Dropped, oneshot::Receiver<()>) {
    let (tell, told) = oneshot::channel();
    (once(Dropped(Some(tell))), told)
}

#[tokio::test]
async fn a_visitor_who_hangs_up_before_the_answer_cancels_it() {
    let (guard, told) = dropped();
    let (begun, begins) = oneshot::channel();
    let begun = once(begun);
    let node = Node::with(config(), move |_| {
        let (guard, begun) = (guard(), begun());
        async move {
            let _guard = guard;
            begun.send(()).unwrap();
            std::future::pending().await
        }
    })
    .await;
    let mut visitor = node.connect().await;
    visitor.get("/", "").await;
    begins.await.unwrap();
    drop(visitor);
    told.await.unwrap();
}

#[tokio::test]
async fn a_visitor_who_hangs_up_during_the_answer_cancels_it() {
    let (feed, body) = fed();
    let body = once(body);
    let node = Node::with(config(), move |_| std::future::ready(response(200, &[], body()))).await;
    let mut visitor = node.connect().await;
    visitor.get("/", "").await;
    visitor.head().await;
    feed.send(piece("x")).await.unwrap();
    drop(visitor);
    feed.closed().await;
}

#[tokio::test]
async fn a_visitor_who_hangs_up_during_the_upload_breaks_the_body() {
    let (tell, told) = oneshot::channel();
    let tell = once(tell);
    let node = Node::with(config(), move |mut request: Request| {
        let tell = tell();
        async move {
            // In a task of its own, as a session would read it; the exchange itself is cancelled.
            tokio::spawn(async move {
                assert_eq!(next(&mut request.body).await, "abc");
                tell.send(collect(request.body).await.unwrap_err().kind()).unwrap();
            });
            std::future::pending().await
        }
    })
    .await;
    let mut visitor = node.connect().await;
    visitor.send(format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 10\r\n\r\nabc", host())).await;
    drop(visitor);
    assert_eq!(told.await.unwrap(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_reset() {
    let (feed, body) = fed();
    let body = once(body);
    let node = Node::with(config(), move |_| std::future::ready(response(200, &[], body()))).await;
    let mut visitor = node.connect().await;
    visitor.send(format!("GET / HTTP/1.0\r\nHost: {}\r\n\r\n", host())).await;
    visitor.head().await;
    feed.send(piece("part")).await.unwrap();
    visitor.until(b"part").await;
    feed.send(Err(ForwardError::new(ErrorKind::TunnelGone, "gone"))).await.unwrap();
    let error = visitor.socket.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::ConnectionReset,
        "a plain end would look like the whole body"
    );
}
