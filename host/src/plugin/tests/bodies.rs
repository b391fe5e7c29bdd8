//! What plugins do to bodies.

use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;

use super::*;
use crate::exchange::ErrorKind;

/// A guest that asks for bodies in a mode, and what it does with them.
fn bodies(way: &str, mode: &str, deed: &str) -> Config {
    let mut config = Config::new("hostile", Role::Client);
    config.config = format!("{{\"on-{way}\": \"{mode}\", \"on-{way}-body\": \"{deed}\"}}");
    config
}

/// A body in pieces, with trailers.
fn pieces(pieces: &'static [&'static str], trailers: HeaderMap) -> Body {
    let frames = pieces.iter().map(|piece| Frame::data(Bytes::from_static(piece.as_bytes())));
    let frames: Vec<_> = frames.chain([Frame::trailers(trailers)]).map(Ok::<_, ForwardError>).collect();
    Body::stream(StreamBody::new(stream::iter(frames)))
}

#[tokio::test]
async fn a_whole_body_is_replaced_with_its_length() {
    let (chain, origin) = chain(bodies("request", "whole", "upper")).await;
    let mut sent = request("");
    sent.body = pieces(&["one ", "two"], HeaderMap::new());
    sent.head.headers.insert("content-length", HeaderValue::from_static("7"));
    exchange(&chain, sent).await.unwrap();
    let (_, body) = origin.seen().remove(0);
    assert_eq!(&body[..], b"ONE TWO");

    let (chain, _) = super::chain(bodies("response", "whole", "upper")).await;
    let (_, headers, body) = exchange(&chain, request("")).await.unwrap();
    assert_eq!((&headers["content-length"], &body[..]), (&HeaderValue::from_static("6"), &b"ANSWER"[..]));
}

#[tokio::test]
async fn a_whole_body_over_the_limit_is_too_large() {
    let mut config = bodies("request", "whole", "keep");
    config.limits.body = 6;
    let (chain, origin) = chain(config).await;
    exchange(&chain, request("sixsix")).await.unwrap();
    assert_eq!(origin.seen().len(), 1);
    let error = exchange(&chain, request("seven77")).await.unwrap_err();
    assert_eq!((error.kind(), origin.seen().len()), (ErrorKind::RequestTooLarge { limit: 6 }, 0));
}

#[tokio::test]
async fn a_whole_body_may_be_answered_and_edits_reach_the_head_that_waited() {
    let (answering, origin) = chain(bodies("request", "whole", "respond")).await;
    let (status, ..) = exchange(&answering, request("body")).await.unwrap();
    assert_eq!((status.as_u16(), origin.seen().len()), (418, 0));
    let (editing, origin) = chain(bodies("request", "whole", "good")).await;
    exchange(&editing, request("body")).await.unwrap();
    assert_eq!(origin.seen().remove(0).0.headers["x-hostile"], "was here");
}

#[tokio::test]
async fn pieces_pass_one_by_one_and_trailers_after_them() {
    let plugin = load(bodies("request", "chunks", "upper")).await;
    /// Gives the request's frames back as they come.
    struct Frames(Mutex<Vec<String>>);
    impl Forward for Frames {
        fn forward(&self, mut request: Request) -> ForwardFuture<'_> {
            Box::pin(async move {
                assert!(!request.head.headers.contains_key("content-length"), "nobody knows it any more");
                while let Some(frame) = request.body.frame().await {
                    let frame = frame?;
                    let text = match frame.data_ref() {
                        Some(data) => String::from_utf8_lossy(data).into_owned(),
                        None => format!("{:?}", frame.trailers_ref().unwrap()),
                    };
                    self.0.lock().unwrap().push(text);
                }
                Err(ForwardError::new(ErrorKind::Offline, "enough seen"))
            })
        }
    }
    let frames = Arc::new(Frames(Mutex::default()));
    let chain = Chain::new(vec![plugin], Arc::clone(&frames) as Arc<dyn Forward>);
    let mut sent = request("");
    sent.head.headers.insert("content-length", HeaderValue::from_static("7"));
    sent.body = pieces(&["one ", "two"], headers(&[("x-end", "1")]));
    assert_eq!(exchange(&chain, sent).await.unwrap_err().detail(), "enough seen");
    assert_eq!(*frames.0.lock().unwrap(), ["ONE ", "TWO", r#"{"x-end": "1"}"#]);
}

#[tokio::test]
async fn a_piece_passes_before_the_next_has_come() {
    let plugin = load(bodies("response", "chunks", "upper")).await;
    struct Events(Mutex<Option<tokio::sync::mpsc::Receiver<&'static str>>>);
    impl Forward for Events {
        fn forward(&self, _: Request) -> ForwardFuture<'_> {
            let events = self.0.lock().unwrap().take().unwrap();
            let events =
                stream::unfold(events, |mut events| async move { Some((events.recv().await?, events)) });
            let events = events.map(|event| Ok(Frame::data(Bytes::from_static(event.as_bytes()))));
            let body = Body::stream(StreamBody::new(events));
            Box::pin(async move {
                Ok(Answer::Http(Response { status: StatusCode::OK, headers: HeaderMap::new(), body }))
            })
        }
    }
    let (send, events) = tokio::sync::mpsc::channel(1);
    let chain = Chain::new(vec![plugin], Arc::new(Events(Mutex::new(Some(events)))));
    let Answer::Http(mut response) = chain.forward(request("")).await.unwrap() else {
        panic!("HTTP was asked for")
    };
    for (event, changed) in [("data: a\n\n", "DATA: A\n\n"), ("data: b\n\n", "DATA: B\n\n")] {
        send.send(event).await.unwrap();
        let frame = response.body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), changed);
    }
    drop(send);
    assert!(response.body.frame().await.is_none());
}

#[tokio::test]
async fn verdicts_on_pieces_that_come_too_late_fail_the_body() {
    for deed in ["respond", "good", "large", "trap", "loop", "abort", "fault"] {
        let (chain, origin) = chain(bodies("request", "chunks", deed)).await;
        let error = exchange(&chain, request("body")).await.expect_err(deed);
        assert_eq!(origin.seen().len(), 0, "{deed}: the origin never had all of it");
        assert!(
            matches!(error.kind(), ErrorKind::PluginFailed | ErrorKind::RefusedByPlugin),
            "{deed}: {error}"
        );
    }
}

#[tokio::test]
async fn bodies_that_fail_a_skipped_plugin_pass_as_they_are() {
    for mode in ["whole", "chunks"] {
        for deed in ["trap", "large", "fault"] {
            let mut config = bodies("request", mode, deed);
            config.on_failure = OnFailure::Skip;
            let (chain, origin) = chain(config).await;
            exchange(&chain, request("body")).await.expect(deed);
            assert_eq!(&origin.seen().remove(0).1[..], b"body", "{mode} {deed}");
        }
    }
}

#[tokio::test]
async fn a_request_without_a_body_stays_one() {
    let plugin = load(bodies("request", "chunks", "trap")).await;
    struct Empty;
    impl Forward for Empty {
        fn forward(&self, request: Request) -> ForwardFuture<'_> {
            let empty = http_body::Body::is_end_stream(&request.body);
            Box::pin(async move { Err(ForwardError::new(ErrorKind::Offline, format!("empty: {empty}"))) })
        }
    }
    let chain = Chain::new(vec![plugin], Arc::new(Empty));
    assert_eq!(exchange(&chain, request("")).await.unwrap_err().detail(), "empty: true");
}

#[tokio::test]
async fn an_answer_without_a_body_asks_nobody_about_it() {
    let (chain, _) = chain(bodies("response", "whole", "trap")).await;
    let mut head = request("");
    head.head.method = Method::HEAD;
    let (_, headers, _) = exchange(&chain, head).await.unwrap();
    assert_eq!(headers["content-length"], "6", "what a GET would have brought");
}
