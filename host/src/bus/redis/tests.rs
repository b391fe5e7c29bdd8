//! Two nodes in one process, over a real Redis.

use std::{
    future::Future,
    sync::{Arc, atomic::AtomicUsize},
    time::Instant,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::PollSender;

use super::*;
use crate::{
    bus::contract::{self, Ends, Fake},
    exchange::{
        Accepted, Body, RequestKind, Response,
        websocket::{Close, Duplex, Event},
    },
    redis::tests::redis,
    wire::envelope::{Batch, End, Sender},
};

/// A node that is connected.
async fn node() -> Arc<RedisBus> {
    let own = NodeId(getrandom::u64().unwrap());
    let bus = Arc::new(RedisBus::start(redis(), own, contract::MAX_SEATS, 1 << 20));
    bus.connected().await;
    assert_eq!(bus.standing(), Standing::Connected);
    bus
}

/// Waits until a node has heard all that was said before: at the latest when it hears itself again.
async fn caught_up(bus: &RedisBus) {
    let before = Instant::now();
    bus.core.say_alive().await;
    while bus.core.nodes().deaf_for(Instant::now()) > before.elapsed() {
        tokio::task::yield_now().await;
    }
}

mod one_node {
    use super::*;

    contract::suite!(async { Ends::same(node().await) });
}

mod two_nodes {
    use super::*;

    contract::suite!(async {
        let (here, there) = (node().await, node().await);
        let waits = Arc::clone(&here);
        Ends::of(here, there, move || {
            let here = Arc::clone(&waits);
            Box::pin(async move { caught_up(&here).await })
        })
    });
}

/// Two nodes; the second one has a seat that answers by this function.
struct Pair {
    here: Arc<RedisBus>,
    there: Arc<RedisBus>,
    name: TunnelName,
    _seat: Registration,
}

async fn pair<F, A>(origin: F) -> Pair
where
    F: Fn(Request) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Answer, ForwardError>> + Send + 'static,
{
    let (here, there) = (node().await, node().await);
    let name = contract::name(getrandom::u64().unwrap());
    let seat = there.register(name.clone(), Fake::new(origin)).unwrap();
    there.announced(&name).await;
    Pair { here, there, name, _seat: seat }
}

impl Pair {
    fn request(&self, body: Body) -> Request {
        Request { body, ..contract::request(self.name.clone()) }
    }
}

fn ok(body: Body) -> Result<Answer, ForwardError> {
    Ok(Answer::Http(Response { status: StatusCode::OK, headers: HeaderMap::new(), body }))
}

fn http(answer: Answer) -> Response {
    match answer {
        Answer::Http(response) => response,
        Answer::WebSocket(_) => panic!("a WebSocket instead of a response"),
    }
}

/// So many bytes that are all unlike, in uneven pieces, and a trailer.
fn stream(length: usize) -> Body {
    let pieces = (0..length.div_ceil(7001)).map(move |n| {
        let at = n * 7001;
        let piece: Vec<u8> = (at..length.min(at + 7001)).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
        Ok(Frame::data(Bytes::from(piece)))
    });
    let trailers = HeaderMap::from_iter([(http::header::ETAG, "end".parse().unwrap())]);
    let frames = pieces.chain([Ok(Frame::trailers(trailers))]);
    Body::stream(StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>())))
}

async fn collect(body: Body) -> (Bytes, Option<HeaderMap>) {
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    (collected.to_bytes(), trailers)
}

#[tokio::test]
async fn bodies_stream_both_ways_whole() {
    const LENGTH: usize = 12_000_000;
    let pair = pair(|request| async { ok(request.body) }).await;
    let answer = pair.here.forward(pair.request(stream(LENGTH))).await.unwrap();
    let (got, expected) = tokio::join!(collect(http(answer).body), collect(stream(LENGTH)));
    assert!(got.0 == expected.0, "{} bytes of {} came", got.0.len(), LENGTH);
    assert_eq!(got.1, expected.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_read_to_its_end_before_the_answer() {
    const LENGTH: usize = 12_000_000;
    let pair = pair(|request| async {
        let (got, _) = collect(request.body).await;
        ok(Body::full(got.len().to_string()))
    })
    .await;
    let answer = pair.here.forward(pair.request(stream(LENGTH))).await.unwrap();
    assert_eq!(collect(http(answer).body).await.0, LENGTH.to_string());
}

/// Looking into a visitor's body makes hyper ask the visitor for it, who has said that he waits for that.
#[tokio::test]
async fn a_body_that_waits_to_be_asked_for_is_not_touched_before() {
    let looked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looked);
    let body = move || {
        let counted = Arc::clone(&counted);
        let whole = futures_util::stream::once(async move {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(Frame::data(Bytes::from_static(b"asked for")))
        });
        Body::stream(StreamBody::new(Box::pin(whole)))
    };
    let before = Arc::clone(&looked);
    let pair = pair(move |request| {
        let (asks, looked) = (request.head.target.path() == "/asks", before.load(Ordering::SeqCst));
        async move {
            assert_eq!(looked, 0, "the head is here, and nobody has asked");
            if !asks {
                return ok(Body::full("not needed"));
            }
            request.context.interim.clone().expect("there is somebody to ask")(
                StatusCode::CONTINUE,
                HeaderMap::new(),
            );
            ok(Body::full(collect(request.body).await.0))
        }
    })
    .await;
    let ask = |path: &'static str| {
        let mut request = pair.request(body());
        request.head.target = path.parse().unwrap();
        request.head.headers.insert(http::header::EXPECT, "100-continue".parse().unwrap());
        pair.here.forward(request)
    };
    assert_eq!(collect(http(ask("/doesnt").await.unwrap()).body).await.0, "not needed");
    assert_eq!(looked.load(Ordering::SeqCst), 0);
    assert_eq!(collect(http(ask("/asks").await.unwrap()).body).await.0, "asked for");
    assert_eq!(looked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn websockets_keep_order_kinds_and_close_codes() {
    let pair = pair(|_| async {
        // What goes out comes in again.
        let (echo, back) = mpsc::channel::<Event>(4);
        let gone = |_| ForwardError::new(ErrorKind::TunnelGone, "gone");
        let outgoing = PollSender::new(echo).sink_map_err(gone);
        let incoming = futures_util::stream::unfold(back, |mut back| async {
            back.recv().await.map(|event| (event, back))
        });
        let duplex = Duplex { incoming: Box::pin(incoming), outgoing: Box::pin(outgoing) };
        Ok(Answer::WebSocket(Accepted { headers: HeaderMap::new(), duplex }))
    })
    .await;
    let mut request = pair.request(Body::empty());
    request.head.kind = RequestKind::WebSocket;
    let Answer::WebSocket(Accepted { mut duplex, .. }) = pair.here.forward(request).await.unwrap() else {
        panic!("not upgraded")
    };
    let long = Bytes::from(vec![7; 300_000]);
    let events =
        [Event::Text("a".into()), Event::Binary(long), Event::Ping("b".into()), Event::Text("c".into())];
    for event in &events {
        duplex.outgoing.send(event.clone()).await.unwrap();
    }
    for event in events {
        assert_eq!(duplex.incoming.next().await, Some(event));
    }
    duplex.outgoing.send(Event::Close(Close::new(4321, "bye"))).await.unwrap();
    assert_eq!(duplex.incoming.next().await, Some(Event::Close(Close::new(4321, "bye"))));
}

#[tokio::test]
async fn who_gives_up_cancels_at_the_far_end() {
    let (started, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let pair = {
        let (started, gone) = (Arc::clone(&started), Arc::clone(&gone));
        pair(move |_| {
            let (started, gone) = (Arc::clone(&started), Told(Arc::clone(&gone)));
            async move {
                started.notify_one();
                let _gone = gone;
                std::future::pending().await
            }
        })
        .await
    };
    let asking = pair.here.forward(pair.request(Body::empty()));
    tokio::select! {
        _ = asking => panic!("nobody answers"),
        () = started.notified() => {}
    }
    gone.notified().await;
}

/// Tells that it was dropped.
struct Told(Arc<Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn what_is_under_way_when_the_far_node_dies_fails_and_is_not_tried_again() {
    let started = Arc::new(Notify::new());
    let pair = {
        let started = Arc::clone(&started);
        pair(move |_| {
            started.notify_one();
            std::future::pending::<Result<Answer, ForwardError>>()
        })
        .await
    };
    let Pair { here, there, name, _seat } = pair;
    let asking = here.forward(Request { body: Body::full("whole"), ..contract::request(name.clone()) });
    let dying = async {
        started.notified().await;
        there.leave().await;
    };
    let (answer, ()) = tokio::join!(asking, dying);
    let mut error = answer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TunnelGone);
    assert!(error.take_unsent().is_none(), "it was sent");
    // And from now on nobody is asked there.
    caught_up(&here).await;
    assert_eq!(contract::fails(&*here, name).await, ErrorKind::Offline);
}

#[tokio::test]
async fn a_lost_envelope_ends_what_is_under_way_and_is_counted() {
    let pair = pair(|request| async { ok(request.body) }).await;
    let answer = pair.here.forward(pair.request(stream(10))).await.unwrap();
    collect(http(answer).body).await;
    // A visitor whose body goes on.
    let (body, mut frames) = mpsc::channel(1);
    let rest = futures_util::stream::poll_fn(move |cx| frames.poll_recv(cx));
    body.send(Ok(Frame::data(Bytes::from_static(b"first")))).await.unwrap();
    let answer = pair.here.forward(pair.request(Body::stream(StreamBody::new(rest)))).await.unwrap();
    let mut answer = http(answer).body;
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    // An envelope with a number from the future, as if those before it had been lost.
    let own = Sender { node: pair.here.core.own, link: 0, end: End::Opener };
    let mut batch = Batch::new(own);
    let envelope = (0..100).map(|_| batch.close()).last().unwrap();
    let mut publish = cmd("PUBLISH");
    publish.arg(pair.here.core.names.inbox(pair.there.core.own)).arg(envelope);
    pair.here.core.redis.call::<u64>(&publish).await.unwrap();
    let error = loop {
        match answer.frame().await.expect("a body that broke off must not look like one that ended") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::TunnelGone);
    assert!(pair.there.core.metrics.lost.get() > 0);
    // The next exchange finds a new link.
    let answer = pair.here.forward(pair.request(stream(10))).await.unwrap();
    assert_eq!(collect(http(answer).body).await.0.len(), 10);
}

#[tokio::test]
async fn an_upload_that_finds_no_seat_comes_back_whole() {
    let (here, there) = (node().await, node().await);
    let name = contract::name(getrandom::u64().unwrap());
    // It reads a part, and then finds that it can't.
    let unwilling = Fake::new(|mut request: Request| async move {
        let first = request.body.frame().await.unwrap().unwrap().into_data().unwrap();
        request.body = Body::prefixed(first, request.body);
        Err(ForwardError::new(ErrorKind::TooManyExchanges, "full").unsent(request))
    });
    let _seat = there.register(name.clone(), unwilling).unwrap();
    there.announced(&name).await;
    let request = Request { body: stream(150_000), ..contract::request(name) };
    let mut error = here.forward(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyExchanges);
    let body = error.take_unsent().expect("nothing of it was sent").body;
    let (got, expected) = tokio::join!(collect(body), collect(stream(150_000)));
    assert!(got == expected, "{} bytes came back", got.0.len());
}

/// A client that moves takes its leave of the old node once the new one has written its claim. What was told of it may arrive
/// later than the leave does, at the old node and at any other.
#[tokio::test]
async fn a_client_that_has_just_moved_is_found_before_anybody_was_told() {
    let pair = pair(|_| async { ok(Body::full("moved")) }).await;
    let old = node().await;
    for (bus, visits) in [(&old, &old), (&old, &pair.here)] {
        let seat = bus.register(pair.name.clone(), contract::seat("leaves")).unwrap();
        bus.announced(&pair.name).await;
        caught_up(visits).await;
        visits.core.directory.find(&pair.name).await.unwrap();
        drop(seat);
        visits.core.directory.told(&pair.name, pair.there.core.own, false);
        let answer = visits.forward(pair.request(Body::empty())).await.unwrap();
        assert_eq!(collect(http(answer).body).await.0, "moved");
    }
}

#[tokio::test]
async fn another_node_counts_as_busy_until_an_exchange_has_ended() {
    let pair = pair(|request| async move {
        match request.head.kind {
            RequestKind::Http => ok(request.body),
            RequestKind::WebSocket => {
                let (never, gone) =
                    (futures_util::stream::pending(), |_| ForwardError::new(ErrorKind::TunnelGone, "gone"));
                let outgoing = futures_util::sink::drain().sink_map_err(gone);
                let duplex = Duplex { incoming: Box::pin(never), outgoing: Box::pin(outgoing) };
                Ok(Answer::WebSocket(Accepted { headers: HeaderMap::new(), duplex }))
            }
        }
    })
    .await;
    let busy = async || {
        let row = pair.here.core.directory.find(&pair.name).await.unwrap();
        row.in_order()[0].busy.load(Ordering::Relaxed)
    };
    let body = http(pair.here.forward(pair.request(stream(500_000))).await.unwrap()).body;
    assert_eq!(busy().await, 1, "its body is under way");
    collect(body).await;
    assert_eq!(busy().await, 0);
    let mut request = pair.request(Body::empty());
    request.head.kind = RequestKind::WebSocket;
    let socket = pair.here.forward(request).await.unwrap();
    assert_eq!(busy().await, 1);
    drop(socket);
    assert_eq!(busy().await, 0);
}

#[tokio::test]
async fn full_here_and_gone_there_is_told_as_full() {
    let (here, there) = (node().await, node().await);
    let name = contract::name(getrandom::u64().unwrap());
    let full = Fake::new(|request: Request| async {
        Err(ForwardError::new(ErrorKind::TooManyExchanges, "full").unsent(request))
    });
    let _seat = here.register(name.clone(), full).unwrap();
    here.core.directory.find(&name).await.unwrap();
    here.core.directory.told(&name, there.core.own, true);
    assert_eq!(contract::fails(&*here, name).await, ErrorKind::TooManyExchanges);
    assert_eq!(here.core.metrics.forwarded.get(), 1, "the other node was asked");
}
