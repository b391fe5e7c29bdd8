//! Limits before a stage in memory.

mod relay;
mod shared;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, sink, stream};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::{sync::mpsc, time::Instant};

use super::*;
use crate::{
    bus::contract,
    exchange::{
        Accepted, Answer, ErrorKind, Forward, Request,
        websocket::{Close, Duplex, Event},
    },
    proxy::{
        Rate,
        tests::{Fake, fed, name, ok},
    },
};

const LIMIT: Duration = Duration::from_secs(30);

fn request() -> Request {
    let mut request = contract::request(name());
    request.body = crate::exchange::Body::empty();
    request
}

async fn fails(stage: &dyn Forward, request: Request) -> ErrorKind {
    stage.forward(request).await.unwrap_err().kind()
}

#[tokio::test(start_paused = true)]
async fn no_head_in_time_is_timed_out() {
    let stage = AnswerTimeout::new(LIMIT, Fake::new(async |_| std::future::pending().await));
    let start = Instant::now();
    assert_eq!(fails(&stage, request()).await, ErrorKind::TimedOut);
    assert_eq!(start.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_body_after_the_head_may_take_as_long_as_it_likes() {
    let (feed, body) = fed();
    let body = std::sync::Mutex::new(Some(body));
    let stage = AnswerTimeout::new(
        LIMIT,
        Fake::new(move |_| {
            let body = body.lock().unwrap().take().unwrap();
            std::future::ready(Ok(Answer::Http(crate::exchange::Response {
                status: http::StatusCode::OK,
                headers: HeaderMap::new(),
                body,
            })))
        }),
    );
    let Ok(Answer::Http(response)) = stage.forward(request()).await else { panic!() };
    tokio::spawn(async move {
        tokio::time::sleep(10 * LIMIT).await;
        feed.send(Ok(Frame::data(Bytes::from_static(b"late")))).await.unwrap();
    });
    assert_eq!(response.body.collect().await.unwrap().to_bytes(), "late");
}

#[tokio::test(start_paused = true)]
async fn a_long_upload_is_not_a_late_answer() {
    let stage = AnswerTimeout::new(
        LIMIT,
        Fake::new(async |request: Request| {
            let body = request.body.collect().await?.to_bytes();
            tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
            ok(body)
        }),
    );
    let (feed, body) = fed();
    tokio::spawn(async move {
        for _ in 0..5 {
            tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
            feed.send(Ok(Frame::data(Bytes::from_static(b"x")))).await.unwrap();
        }
    });
    let Ok(Answer::Http(response)) = stage.forward(Request { body, ..request() }).await else { panic!() };
    assert_eq!(response.body.collect().await.unwrap().to_bytes(), "xxxxx");
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stalls_is_the_visitors_fault() {
    let stage = AnswerTimeout::new(
        LIMIT,
        Fake::new(async |request: Request| ok(request.body.collect().await?.to_bytes())),
    );
    let (_feed, body) = fed();
    assert_eq!(fails(&stage, Request { body, ..request() }).await, ErrorKind::RequestTimedOut);
    let deaf = AnswerTimeout::new(LIMIT, Fake::new(async |_request: Request| std::future::pending().await));
    let (_feed, body) = fed();
    assert_eq!(
        fails(&deaf, Request { body, ..request() }).await,
        ErrorKind::TimedOut,
        "nobody read the body"
    );
}

fn buckets(per_second: u32, burst: u32) -> Option<Arc<Buckets>> {
    let (per_second, burst) = (NonZeroU32::new(per_second).unwrap(), NonZeroU32::new(burst).unwrap());
    Some(Arc::new(Buckets::new(Rate::per_second(per_second, burst), "", None)))
}

#[tokio::test(start_paused = true)]
async fn each_tunnel_has_a_bucket_of_its_own() {
    let stage = RateLimit::new(buckets(2, 3), Fake::new(async |_| ok("")));
    for _ in 0..3 {
        stage.forward(request()).await.unwrap();
    }
    let ErrorKind::TooManyRequests { retry_after } = fails(&stage, request()).await else { panic!() };
    assert_eq!(retry_after, Duration::from_millis(500));
    stage.forward(contract::request(contract::name(2))).await.unwrap();
    tokio::time::advance(retry_after).await;
    stage.forward(request()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_websocket_over_its_rate_waits_and_loses_nothing() {
    let (far, mut seen) = mpsc::channel(64);
    let stage = RateLimit::new(
        buckets(1, 2),
        Fake::new(move |_| {
            let outgoing = sink::unfold(far.clone(), async |far, event| {
                far.send(event).await.unwrap();
                Ok(far)
            });
            let duplex = Duplex { incoming: Box::pin(stream::empty()), outgoing: Box::pin(outgoing) };
            std::future::ready(Ok(Answer::WebSocket(Accepted { headers: HeaderMap::new(), duplex })))
        }),
    );
    // The upgrade takes the first token.
    let Ok(Answer::WebSocket(mut accepted)) = stage.forward(request()).await else { panic!() };
    let start = Instant::now();
    let numbers = (0..10_u8).map(|n| Event::Binary(vec![n].into()));
    for event in numbers.clone() {
        accepted.duplex.outgoing.send(event).await.unwrap();
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(8) && took <= Duration::from_secs(10), "{took:?}");
    accepted.duplex.outgoing.send(Event::Close(Close::new(1000, ""))).await.unwrap();
    for event in numbers {
        assert_eq!(seen.recv().await, Some(event));
    }
    assert_eq!(seen.recv().await, Some(Event::Close(Close::new(1000, ""))));
}

#[tokio::test]
async fn without_limits_everything_passes() {
    let echo = Fake::new(async |request: Request| ok(request.body.collect().await?.to_bytes()));
    let stage = RateLimit::new(None, Arc::new(BodyLimit::new(None, echo)));
    let Ok(Answer::Http(response)) = stage.forward(contract::request(name())).await else { panic!() };
    assert_eq!(response.body.collect().await.unwrap().to_bytes(), "whole");
}
