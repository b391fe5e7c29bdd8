//! Dialogues of two sides over an in-memory socket, under a paused clock.

mod found;
mod frames;
mod rules;
mod windows;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Method, StatusCode, uri::PathAndQuery};
use http_body_util::{BodyExt, StreamBody};
use tokio::{
    io::DuplexStream,
    sync::{Notify, mpsc},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol};

use super::*;
use crate::{
    exchange::{
        Accepted, Answer, Body, Context, ErrorKind, ExchangeId, ForwardError, ForwardFuture, Request,
        RequestHead, RequestKind, Response, Scheme,
        websocket::{Close, Duplex, Event, Role},
    },
    wire::{
        Message,
        message::{BodyPart, ResponseStart},
    },
};

fn settings() -> Settings {
    Settings {
        tunnel: Some(name()),
        max_exchanges: 8,
        max_websocket_message: 1 << 20,
        ping_after: Duration::from_secs(10),
    }
}

fn name() -> TunnelName {
    "sd5mv7vjwfkwngcub5ymael2elvdppk46pwtyryjhqlqokbljoeq".parse().unwrap()
}

type Socket = super::Socket<DuplexStream>;

/// A client that isn't ours: the WebSockets of another library.
type BareSocket = WebSocketStream<DuplexStream>;

fn sockets() -> (Socket, Socket) {
    let (near, far) = tokio::io::duplex(16 * 1024);
    (Socket::over(near, Role::Server, &[]), Socket::over(far, Role::Client, &[]))
}

/// A session whose far side answers by `forward`: the near handle and the far one.
async fn pair(forward: impl Forward) -> (Handle, Handle) {
    let (near, far) = sockets();
    let (near, near_driver) = open(near, settings());
    let (far, far_driver) = serve(far, settings(), Arc::new(forward));
    tokio::spawn(near_driver.run());
    tokio::spawn(far_driver.run());
    (near, far)
}

/// A session with a bare socket as its client.
async fn with_bare_client() -> (Handle, BareSocket) {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let (handle, driver) = open(Socket::over(near, Role::Server, &[]), settings());
    tokio::spawn(driver.run());
    (handle, WebSocketStream::from_raw_socket(far, protocol::Role::Client, None).await)
}

fn get(body: Body) -> Request {
    Request {
        head: RequestHead {
            kind: RequestKind::Http,
            method: Method::POST,
            scheme: Scheme::Https,
            authority: "x.example".into(),
            target: PathAndQuery::from_static("/a%2Fb//c?"),
            headers: HeaderMap::from_iter([(http::header::ACCEPT, "*/*".parse().unwrap())]),
        },
        body,
        context: Context {
            exchange: ExchangeId(7),
            tunnel: name(),
            visitor: None,
            tls: None,
            notes: Default::default(),
            interim: None,
            witness: None,
        },
    }
}

fn websocket() -> Request {
    let mut request = get(Body::empty());
    request.head.kind = RequestKind::WebSocket;
    request
}

fn http(answer: Answer) -> Response {
    match answer {
        Answer::Http(response) => response,
        Answer::WebSocket(_) => panic!("a WebSocket instead of a response"),
    }
}

fn ok(body: Body) -> Answer {
    Answer::Http(Response { status: StatusCode::OK, headers: HeaderMap::new(), body })
}

/// Answers as a function says.
struct Origin<F>(F);

impl<F, A> Forward for Origin<F>
where
    F: Fn(Request) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Answer, ForwardError>> + Send + 'static,
{
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        Box::pin((self.0)(request))
    }
}

/// A body fed by a channel.
fn fed() -> (mpsc::Sender<Bytes>, Body) {
    let (feed, pieces) = mpsc::channel::<Bytes>(1);
    let pieces = futures_util::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((Ok(http_body::Frame::data(piece)), pieces))
    });
    (feed, Body::stream(StreamBody::new(Box::pin(pieces))))
}

#[tokio::test(start_paused = true)]
async fn a_request_arrives_as_it_was_sent_and_so_does_the_answer() {
    let (near, _far) = pair(Origin(|request: Request| async move {
        assert_eq!(request.head.target.as_str(), "/a%2Fb//c?");
        assert_eq!(request.head.method, Method::POST);
        assert_eq!(request.head.scheme, Scheme::Https);
        assert_eq!(request.head.authority, "x.example");
        assert_eq!(request.head.headers["accept"], "*/*");
        assert_eq!(request.context.exchange, ExchangeId(7));
        Ok(ok(request.body))
    }))
    .await;
    let answer = near.forward(get(Body::full("hello"))).await.unwrap();
    assert_eq!(http(answer).body.collect().await.unwrap().to_bytes(), "hello");
    assert_eq!(near.busy(), 0);
}

#[tokio::test(start_paused = true)]
async fn large_bodies_pass_both_ways_at_once_with_trailers() {
    let (near, _far) = pair(Origin(|request: Request| async move { Ok(ok(request.body)) })).await;
    let (feed, body) = fed();
    let answer = tokio::spawn({
        let near = near.clone();
        async move { near.forward(get(body)).await }
    });
    feed.send(Bytes::from_static(b"first")).await.unwrap();
    let mut body = http(answer.await.unwrap().unwrap()).body;
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    let piece = Bytes::from((0..300_000u32).map(|n| n as u8).collect::<Vec<_>>());
    let sender = tokio::spawn({
        let piece = piece.clone();
        async move {
            for _ in 0..100 {
                feed.send(piece.clone()).await.unwrap();
            }
        }
    });
    let all = body.collect().await.unwrap().to_bytes();
    sender.await.unwrap();
    assert_eq!(all.len(), 30_000_000);
    assert!(all.chunks(300_000).all(|chunk| chunk == piece));

    let (near, _far) = pair(Origin(|_| async {
        Ok(ok(Body::trailers(HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]))))
    }))
    .await;
    let body = http(near.forward(get(Body::empty())).await.unwrap()).body.collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["etag"], "x");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_holds_up_nobody_else() {
    let (near, _far) = pair(Origin(|_| async { Ok(ok(Body::full(vec![1; 10_000_000]))) })).await;
    let slow = near.forward(get(Body::empty())).await.unwrap();
    let fast = http(near.forward(get(Body::empty())).await.unwrap()).body.collect().await.unwrap();
    assert_eq!(fast.to_bytes().len(), 10_000_000);
    assert_eq!(near.busy(), 1);
    assert_eq!(http(slow).body.collect().await.unwrap().to_bytes().len(), 10_000_000);
}

/// Fires when it is dropped.
struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test(start_paused = true)]
async fn giving_up_cancels_at_the_far_side() {
    let (started, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let origin = {
        let (started, dropped) = (Arc::clone(&started), Arc::clone(&dropped));
        Origin(move |_| {
            let (started, dropped) = (Arc::clone(&started), Dropped(Arc::clone(&dropped)));
            async move {
                started.notify_one();
                std::future::pending::<()>().await;
                drop(dropped);
                unreachable!()
            }
        })
    };
    let (near, far) = pair(origin).await;
    {
        let mut forward = near.forward(get(Body::empty()));
        tokio::select! {
            _ = &mut forward => panic!("nobody answers"),
            () = started.notified() => {}
        }
    }
    dropped.notified().await;
    assert_eq!((near.busy(), far.state()), (0, State::Open));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_response_midway_cancels_its_source() {
    let dropped = Arc::new(Notify::new());
    let origin = {
        let dropped = Arc::clone(&dropped);
        Origin(move |_| {
            let dropped = Dropped(Arc::clone(&dropped));
            let endless = futures_util::stream::unfold(dropped, |dropped| async {
                Some((Ok(http_body::Frame::data(Bytes::from_static(&[0; 1000]))), dropped))
            });
            async move { Ok(ok(Body::stream(StreamBody::new(Box::pin(endless))))) }
        })
    };
    let (near, _far) = pair(origin).await;
    let mut body = http(near.forward(get(Body::empty())).await.unwrap()).body;
    body.frame().await.unwrap().unwrap();
    drop(body);
    dropped.notified().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_session_ends_its_exchanges() {
    let started = Arc::new(Notify::new());
    let origin = {
        let started = Arc::clone(&started);
        Origin(move |_| {
            started.notify_one();
            std::future::pending()
        })
    };
    let (near, far) = pair(origin).await;
    let forward = near.forward(get(Body::empty()));
    let (answer, ()) = tokio::join!(forward, async {
        started.notified().await;
        far.close();
    });
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::TunnelGone);
    assert_eq!(near.ended().await, Ended::ClosedByPeer);
    let mut late = near.forward(get(Body::full("kept"))).await.unwrap_err();
    let body = late.take_unsent().expect("it was never sent").body;
    assert_eq!(body.collect().await.unwrap().to_bytes(), "kept");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_far_side_keeps_kind_and_sentence() {
    let (near, _far) = pair(Origin(|_| async {
        Err(ForwardError::new(ErrorKind::OriginUnreachable, "nothing answers at http://localhost:3000"))
    }))
    .await;
    let error = near.forward(get(Body::empty())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OriginUnreachable);
    assert_eq!(error.detail(), "nothing answers at http://localhost:3000");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_waits_for_continue_is_not_touched_before() {
    let touched = Arc::new(Notify::new());
    let (near, _far) = pair(Origin(|request: Request| async move {
        let interim = request.context.interim.clone().unwrap();
        interim(StatusCode::EARLY_HINTS, HeaderMap::new());
        interim(StatusCode::CONTINUE, HeaderMap::new());
        let body = request.body.collect().await.unwrap().to_bytes();
        Ok(ok(Body::full(body)))
    }))
    .await;
    let body = {
        let touched = Arc::clone(&touched);
        let once = futures_util::stream::once(async move {
            touched.notify_one();
            Ok(http_body::Frame::data(Bytes::from_static(b"asked for")))
        });
        Body::stream(StreamBody::new(Box::pin(once)))
    };
    let mut request = get(body);
    request.head.headers.insert(http::header::EXPECT, "100-continue".parse().unwrap());
    let (seen, mut hints) = mpsc::channel(4);
    request.context.interim = Some(Arc::new(move |status, _| seen.try_send(status).unwrap()));
    let answer = near.forward(request).await.unwrap();
    touched.notified().await;
    assert_eq!(http(answer).body.collect().await.unwrap().to_bytes(), "asked for");
    let mut heard = [hints.recv().await.unwrap(), hints.recv().await.unwrap()];
    heard.sort();
    assert_eq!(
        heard,
        [StatusCode::CONTINUE, StatusCode::EARLY_HINTS],
        "whoever holds the body back hears it too"
    );
}

/// Between two nodes the answering side is the opener of a session of its own.
#[tokio::test(start_paused = true)]
async fn a_body_that_waits_for_continue_is_asked_for_through_two_sessions() {
    let (inner, _far) = pair(Origin(|request: Request| async move {
        request.context.interim.clone().unwrap()(StatusCode::CONTINUE, HeaderMap::new());
        Ok(ok(Body::full(request.body.collect().await.unwrap().to_bytes())))
    }))
    .await;
    let (near, _middle) = pair(inner).await;
    let mut request = get(Body::full("asked for"));
    request.head.headers.insert(http::header::EXPECT, "100-continue".parse().unwrap());
    let answer = near.forward(request).await.unwrap();
    assert_eq!(http(answer).body.collect().await.unwrap().to_bytes(), "asked for");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_leaves_the_body_untouched() {
    let (near, _far) = pair(Origin(|_| async { Ok(ok(Body::full("no need"))) })).await;
    let never = futures_util::stream::once(async { panic!("nobody asked for the body") });
    let mut request = get(Body::stream(StreamBody::new(Box::pin(never))));
    request.head.headers.insert(http::header::EXPECT, "100-continue".parse().unwrap());
    let answer = near.forward(request).await.unwrap();
    assert_eq!(http(answer).body.collect().await.unwrap().to_bytes(), "no need");
}

#[tokio::test(start_paused = true)]
async fn websocket_events_keep_their_order_and_their_bytes() {
    let (near, _far) = pair(Origin(|_| async {
        // What goes out comes back.
        let (echo, back) = mpsc::channel::<Event>(4);
        let outgoing = Box::pin(futures_util::sink::unfold(echo, |echo, event| async move {
            echo.send(event).await.map_err(|_| ForwardError::new(ErrorKind::OriginFailed, "gone"))?;
            Ok(echo)
        }));
        let incoming = Box::pin(futures_util::stream::unfold(back, |mut back| async {
            back.recv().await.map(|event| (event, back))
        }));
        let duplex = Duplex { incoming, outgoing };
        Ok(Answer::WebSocket(Accepted { headers: HeaderMap::new(), duplex }))
    }))
    .await;
    let Answer::WebSocket(Accepted { duplex: Duplex { mut incoming, mut outgoing }, .. }) =
        near.forward(websocket()).await.unwrap()
    else {
        panic!("a response instead of a WebSocket")
    };
    let large = Bytes::from((0..1_000_000u32).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    let events = [
        Event::Text("hei".into()),
        Event::Binary(large),
        Event::Ping("p".into()),
        Event::Text("".into()),
        Event::Pong("".into()),
        Event::Close(Close::new(4001, "bye")),
    ];
    let send = async {
        for event in events.clone() {
            outgoing.send(event).await.unwrap();
        }
    };
    let receive = async {
        for event in &events {
            assert_eq!(incoming.next().await.as_ref(), Some(event));
        }
        assert_eq!(incoming.next().await, None);
    };
    tokio::join!(send, receive);
}

/// Each held a place in the driver's queue once, until there was none left.
#[tokio::test(start_paused = true)]
async fn many_idle_bodies_leave_room_for_others() {
    let (near, far) = sockets();
    let settings = Settings { max_exchanges: 2000, ..settings() };
    let (near, near_driver) = open(near, settings.clone());
    let (far, far_driver) =
        serve(far, settings, Arc::new(Origin(|request: Request| async { Ok(ok(request.body)) })));
    tokio::spawn(near_driver.run());
    tokio::spawn(far_driver.run());
    let mut idle = Vec::new();
    for _ in 0..1000 {
        let (feed, body) = fed();
        feed.send(Bytes::from_static(b"begun")).await.unwrap();
        let mut body = http(near.forward(get(body)).await.unwrap()).body;
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "begun");
        idle.push((feed, body));
    }
    let answer = near.forward(get(Body::full("busy"))).await.unwrap();
    assert_eq!(http(answer).body.collect().await.unwrap().to_bytes(), "busy");
    drop(idle);
    assert_eq!(far.state(), State::Open);
}
