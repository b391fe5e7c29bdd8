//! Defects that were found by reading, each with the test that shows it: what leaked, hung, or cost others their session.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use super::*;
use crate::wire::message::RequestStart;
use tokio_tungstenite::tungstenite::Message as Frame;

async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

fn endless() -> Body {
    Body::stream(StreamBody::new(Box::pin(futures_util::stream::unfold((), |()| async {
        Some((Ok(http_body::Frame::data(Bytes::from_static(&[0; 1000]))), ()))
    }))))
}

/// An Expect that the origin refuses without 100 leaks pump and busy.
#[tokio::test(start_paused = true)]
async fn a_refused_body_leaves_nothing_behind() {
    let (near, _far) = pair(Origin(|_| async { Ok(ok(Body::full("no need"))) })).await;
    for _ in 0..9 {
        let never = futures_util::stream::pending();
        let mut request = get(Body::stream(StreamBody::new(Box::pin(never))));
        request.head.headers.insert(http::header::EXPECT, "100-continue".parse().unwrap());
        let answer = near.forward(request).await.unwrap();
        assert_eq!(http(answer).body.collect().await.unwrap().to_bytes(), "no need");
    }
    settle().await;
    assert_eq!(near.busy(), 0);
}

/// Visitor hangs up while its upload waits for credit: the origin is never cancelled.
#[tokio::test(start_paused = true)]
async fn hanging_up_with_a_stuck_upload_cancels() {
    let dropped = Arc::new(Notify::new());
    let origin = {
        let dropped = Arc::clone(&dropped);
        Origin(move |request: Request| {
            let held = (Dropped(Arc::clone(&dropped)), request.body);
            let body = futures_util::stream::unfold(held, |held| async {
                Some((Ok(http_body::Frame::data(Bytes::from_static(&[0; 1000]))), held))
            });
            async move { Ok(ok(Body::stream(StreamBody::new(Box::pin(body))))) }
        })
    };
    let (near, _far) = pair(origin).await;
    let mut body = http(near.forward(get(endless())).await.unwrap()).body;
    body.frame().await.unwrap().unwrap();
    settle().await;
    drop(body);
    tokio::time::timeout(Duration::from_secs(300), dropped.notified()).await.expect("the origin hears of it");
    settle().await;
    assert_eq!(near.busy(), 0);
}

/// 101 with `end` panics in the proxy.
#[tokio::test(start_paused = true)]
async fn an_accepted_websocket_that_ends_at_once_is_no_panic() {
    let (handle, mut client) = with_bare_client().await;
    let request = tokio::spawn({
        let handle = handle.clone();
        async move { handle.forward(websocket()).await.map(drop) }
    });
    client.next().await.unwrap().unwrap();
    let status = StatusCode::SWITCHING_PROTOCOLS;
    let m = Message::WsResponse(Box::new(ResponseStart { end: true, ..*ResponseStart::bare(1, status) }));
    client.send(Frame::Binary(m.encode())).await.unwrap();
    let joined = request.await;
    assert!(!joined.as_ref().is_err_and(tokio::task::JoinError::is_panic), "panicked: {joined:?}");
}

/// Trailers that find the driver's queue full are lost.
#[tokio::test(start_paused = true)]
async fn trailers_survive_a_full_queue() {
    let (near, far) = sockets();
    let settings = Settings { max_exchanges: 2000, ..settings() };
    let (near, near_driver) = open(near, settings.clone());
    let go = tokio::sync::watch::Sender::new(false);
    let origin = {
        let go = go.clone();
        Origin(move |_| {
            let mut go = go.subscribe();
            let body = futures_util::stream::once(async move {
                go.wait_for(|go| *go).await.unwrap();
                Ok(http_body::Frame::trailers(HeaderMap::new()))
            });
            async move { Ok(ok(Body::stream(StreamBody::new(Box::pin(body))))) }
        })
    };
    let (_far, far_driver) = serve(far, settings, Arc::new(origin));
    tokio::spawn(near_driver.run());
    tokio::spawn(far_driver.run());
    let mut bodies = Vec::new();
    for _ in 0..400 {
        bodies.push(http(near.forward(get(Body::empty())).await.unwrap()).body);
    }
    go.send_replace(true);
    let mut lost = 0;
    for body in bodies {
        if tokio::time::timeout(Duration::from_secs(60), body.collect()).await.is_err() {
            lost += 1;
        }
    }
    assert_eq!(lost, 0);
}

/// A request that crosses a client's Disconnect is lost.
#[tokio::test(start_paused = true)]
async fn a_request_that_crosses_the_good_bye_is_answered_or_handed_back() {
    let (near, far) = pair(Origin(|_| async { Ok(ok(Body::full("served"))) })).await;
    settle().await;
    far.disconnect();
    match near.forward(get(Body::empty())).await {
        Ok(answer) => assert_eq!(http(answer).body.collect().await.unwrap().to_bytes(), "served"),
        Err(mut error) => assert!(error.take_unsent().is_some(), "lost: {error:?}"),
    }
}

/// Both closes have passed here, but ours waits for credit: the stream stays for ever, outside of every limit.
#[tokio::test(start_paused = true)]
async fn closed_websockets_do_not_pile_up() {
    let (handle, mut client) = with_bare_client().await;
    let status = StatusCode::SWITCHING_PROTOCOLS;
    let mut opened = 0;
    'all: for id in 1..=50u64 {
        let forward = tokio::spawn({
            let handle = handle.clone();
            async move { handle.forward(websocket()).await }
        });
        // heads only; parts of earlier ones may come in between
        loop {
            match tokio::time::timeout(Duration::from_secs(1), client.next()).await {
                Ok(Some(Ok(Frame::Binary(b)))) => {
                    if let Ok(crate::wire::Decoded::Message(Message::WsRequest(start))) =
                        Message::decode(b, &crate::wire::Limits { headers: 100 })
                    {
                        assert_eq!(start.id, id);
                        break;
                    }
                }
                // Refused: as many are open as the client allows.
                _ => break 'all,
            }
        }
        for m in [
            Message::WsResponse(ResponseStart::bare(id, status)),
            Message::WsTeardown { id, code: 1000, reason: String::new() },
        ] {
            client.send(Frame::Binary(m.encode())).await.unwrap();
        }
        let Ok(Answer::WebSocket(Accepted { duplex: Duplex { mut incoming, mut outgoing }, .. })) =
            forward.await.unwrap()
        else {
            break;
        };
        opened += 1;
        let drain = async {
            loop {
                if client.next().await.is_none() {
                    break;
                }
            }
        };
        let talk = async {
            assert!(matches!(incoming.next().await, Some(Event::Close(_))));
            outgoing.feed(Event::Binary(Bytes::from(vec![0; 65_536]))).await.unwrap();
            outgoing.feed(Event::Binary(Bytes::from(vec![0; 60_000]))).await.unwrap();
            outgoing.feed(Event::Close(Close::new(1000, ""))).await.unwrap();
        };
        tokio::select! { biased; () = talk => {}, () = drain => {} }
        drop((incoming, outgoing));
        settle().await;
    }
    assert_eq!(handle.busy(), 0);
    assert!(
        opened <= 8,
        "{opened} exchanges are open at the client, which allows 8; 60 kB of each stay here"
    );
}

/// A peer that pings and never reads.
#[test]
fn pings_do_not_pile_up() {
    use super::mux::{Mux, Side};
    let now = std::time::Instant::now();
    let mut mux: Mux<()> = Mux::new(Side::Opener, 8, Duration::from_secs(10), now);
    for _ in 0..100_000 {
        mux.receive(Message::Ping, || (), now).unwrap();
    }
    let mut n = 0;
    while mux.transmit().is_some() {
        n += 1;
    }
    assert!(n < 10, "{n} pongs wait, {} bytes each", std::mem::size_of::<Message>());
}

/// A visitor's long Host kills the session.
#[tokio::test(start_paused = true)]
async fn a_long_authority_costs_its_own_exchange_only() {
    let (near, far) = pair(Origin(|_| async { Ok(ok(Body::empty())) })).await;
    let mut request = get(Body::empty());
    request.head.authority = format!("{}.localhost:{}", name(), "0".repeat(3000));
    let _ = near.forward(request).await;
    settle().await;
    assert_eq!((near.state(), far.state()), (State::Open, State::Open));
}

/// A late interim kills the session.
#[test]
fn a_late_100_is_not_sent() {
    use super::mux::{Mux, Side};
    let now = std::time::Instant::now();
    let mut mux: Mux<()> = Mux::new(Side::Acceptor, 8, Duration::from_secs(10), now);
    let start = RequestStart {
        id: 1,
        tunnel: None,
        exchange: 1,
        method: Method::POST,
        secure: false,
        authority: "x".into(),
        notes: Default::default(),
        target: PathAndQuery::from_static("/"),
        headers: HeaderMap::new(),
        visitor: None,
        tls: None,
        body: Bytes::new(),
        end: false,
    };
    mux.receive(Message::HttpRequest(Box::new(start)), || (), now).unwrap();
    mux.respond(ResponseStart::bare(1, StatusCode::OK), false);
    mux.respond(ResponseStart::bare(1, StatusCode::CONTINUE), false);
    let mut n = 0;
    while mux.transmit().is_some() {
        n += 1;
    }
    assert_eq!(n, 1);
}

/// An Expect without a body grows one.
#[tokio::test(start_paused = true)]
async fn no_body_stays_no_body() {
    let (near, _far) = pair(Origin(|request: Request| async move {
        assert!(http_body::Body::is_end_stream(&request.body));
        Ok(ok(Body::full("none")))
    }))
    .await;
    let mut request = get(Body::empty());
    request.head.headers.insert(http::header::EXPECT, "100-continue".parse().unwrap());
    let answer = near.forward(request).await.expect("an answer");
    http(answer).body.collect().await.unwrap();
}

/// A WebSocket whose origin neither reads nor writes outlives its visitor and its session.
#[tokio::test(start_paused = true)]
async fn a_hung_origin_does_not_keep_a_cancelled_websocket() {
    let dropped = Arc::new(Notify::new());
    let origin = {
        let dropped = Arc::clone(&dropped);
        Origin(move |_| {
            let held = Dropped(Arc::clone(&dropped));
            let outgoing = Box::pin(futures_util::sink::unfold((), |(), _: Event| {
                std::future::pending::<Result<(), ForwardError>>()
            }));
            let incoming = Box::pin(futures_util::stream::unfold(held, |held| async move {
                std::future::pending::<()>().await;
                Some((Event::Text("".into()), held))
            }));
            let duplex = Duplex { incoming, outgoing };
            async move { Ok(Answer::WebSocket(Accepted { headers: HeaderMap::new(), duplex })) }
        })
    };
    let (near, _far) = pair(origin).await;
    let Answer::WebSocket(Accepted { duplex: Duplex { incoming, mut outgoing }, .. }) =
        near.forward(websocket()).await.unwrap()
    else {
        panic!()
    };
    for _ in 0..3 {
        outgoing.send(Event::Text("x".into())).await.unwrap();
    }
    settle().await;
    drop((incoming, outgoing));
    tokio::time::timeout(Duration::from_secs(3600), dropped.notified())
        .await
        .expect("the origin hears of it");
}

/// Parts of a byte that drag 400 kB of unknown keys along.
#[test]
fn a_part_holds_what_it_costs() {
    let mut frame = vec![0xa4, 0, 5, 1, 1, 7, 0x41, 0x78, 0x18, 99, 0x5a, 0, 6, 0, 0];
    frame.extend(vec![0; 0x60000]);
    let frame = Bytes::from(frame);
    let range = frame.as_ptr_range();
    let Ok(crate::wire::Decoded::Message(Message::Body(part))) =
        Message::decode(frame.clone(), &crate::wire::Limits { headers: 1 })
    else {
        panic!()
    };
    assert_eq!(&part.data[..], b"x");
    assert!(!range.contains(&part.data.as_ptr()), "one byte keeps {} bytes alive", frame.len());
}

/// At the limit, a head overtakes the teardown that would make room for it; the client ends the whole session.
#[tokio::test(start_paused = true)]
async fn churn_at_the_limit_does_not_end_the_session() {
    let (near, far) = pair(Origin(|_| async {
        let outgoing = Box::pin(futures_util::sink::unfold((), |(), _: Event| {
            std::future::pending::<Result<(), ForwardError>>()
        }));
        let incoming = Box::pin(futures_util::stream::iter([Event::Close(Close::new(1000, ""))]));
        Ok(Answer::WebSocket(Accepted { headers: HeaderMap::new(), duplex: Duplex { incoming, outgoing } }))
    }))
    .await;
    for _ in 0..16 {
        let Ok(Answer::WebSocket(Accepted { duplex: Duplex { mut incoming, mut outgoing }, .. })) =
            near.forward(websocket()).await
        else {
            continue;
        };
        assert!(matches!(incoming.next().await, Some(Event::Close(_))));
        let sizes = [65_536, 65_536, 60_000];
        let messages = sizes.map(|size| Event::Binary(Bytes::from(vec![0; size])));
        for event in messages.into_iter().chain([Event::Close(Close::new(1000, ""))]) {
            if outgoing.feed(event).await.is_err() {
                break;
            }
            settle().await;
        }
    }
    assert_eq!((near.state(), far.state()), (State::Open, State::Open));
}

/// Trailers in a part that is not the last.
#[test]
fn trailers_come_last() {
    let part = BodyPart { id: 1, data: Bytes::new(), end: false, trailers: Some(HeaderMap::new()) };
    assert!(Message::decode(Message::Body(part).encode(), &crate::wire::Limits { headers: 1 }).is_err());
}

/// A teardown took up nothing in the driver's queue, so that nobody waited for it, and the cancel that follows an end without an
/// answer overtook it.
#[tokio::test(start_paused = true)]
async fn a_close_arrives_though_nobody_will_hear_its_answer() {
    struct Deaf;
    impl futures_util::Sink<Event> for Deaf {
        type Error = ForwardError;
        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
            Poll::Ready(Err(ForwardError::new(ErrorKind::TunnelGone, "nobody is there")))
        }
        fn start_send(self: Pin<&mut Self>, _: Event) -> Result<(), ForwardError> {
            unreachable!("it is never ready")
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
            Poll::Ready(Ok(()))
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
            Poll::Ready(Ok(()))
        }
    }
    let (near, _far) = pair(Origin(|_| async {
        let close = Event::Close(Close::new(1012, "restarting"));
        let duplex =
            Duplex { incoming: Box::pin(futures_util::stream::iter([close])), outgoing: Box::pin(Deaf) };
        Ok(Answer::WebSocket(Accepted { headers: HeaderMap::new(), duplex }))
    }))
    .await;
    let Answer::WebSocket(mut accepted) = near.forward(websocket()).await.unwrap() else {
        panic!("a response instead of a WebSocket")
    };
    let heard = accepted.duplex.incoming.next().await;
    assert_eq!(heard, Some(Event::Close(Close::new(1012, "restarting"))));
}
