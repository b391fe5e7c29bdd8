//! Applications: `tests/guests/application`, which does what a request's path says.

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use http_body::Frame;
use http_body_util::StreamBody;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};

use super::*;
use crate::exchange::{ErrorKind, hygiene};

/// Longer than anything takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn config() -> Config {
    Config::application("app", Role::Proxy)
}

async fn application(config: Config) -> Arc<Application> {
    host().load_application(&guest("application"), config).await.unwrap()
}

fn get(path: &str) -> Request {
    let mut request = request("");
    request.head.method = Method::GET;
    request.head.target = path.parse().unwrap();
    request
}

async fn forward(application: &Application, request: Request) -> Result<Response, ForwardError> {
    match timeout(PATIENCE, application.forward(request)).await.expect("an end")? {
        Answer::Http(response) => Ok(response),
        Answer::WebSocket(_) => panic!("applications have none"),
    }
}

async fn whole(response: Response) -> Result<String, ForwardError> {
    let bytes = timeout(PATIENCE, response.body.collect()).await.expect("an end")?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

/// The body of a good answer.
async fn ask(application: &Application, path: &str) -> String {
    let response = forward(application, get(path)).await.unwrap();
    assert_eq!(response.status, StatusCode::OK, "{path}");
    whole(response).await.unwrap()
}

#[tokio::test]
async fn a_request_is_seen_and_answered() {
    let application = application(config()).await;
    let response = forward(&application, get("/about")).await.unwrap();
    let mut said = response.headers.clone();
    said.remove("content-length");
    assert_eq!(said, headers(&[("content-type", "text/plain"), ("x-two", "1"), ("x-two", "2")]));
    assert_eq!(
        whole(response).await.unwrap(),
        r#"Method::Get Some(Scheme::Https) Some("example.localhost") ["x-remove", "x-keep"]"#
    );
    let mut refused = get("/about");
    refused.head.kind = RequestKind::WebSocket;
    let refused = forward(&application, refused).await.unwrap();
    assert_eq!(refused.status, StatusCode::NOT_IMPLEMENTED);
    assert!(whole(refused).await.unwrap().contains("no WebSockets"));
}

#[tokio::test]
async fn bodies_pass_both_ways_at_once_with_trailers() {
    let application = application(config()).await;
    let (send, mut pieces) = mpsc::channel::<Result<Frame<Bytes>, ForwardError>>(1);
    let mut request = get("/echo");
    let pieces = futures_util::stream::poll_fn(move |cx| pieces.poll_recv(cx));
    request.body = Body::stream(StreamBody::new(pieces));
    let mut response = forward(&application, request).await.unwrap();
    // Each piece comes back before the next one is sent: nothing is held back.
    for at in 0..100_u32 {
        let piece = Bytes::from(vec![at as u8; 1000]);
        send.send(Ok(Frame::data(piece.clone()))).await.unwrap();
        let mut back = Vec::new();
        while back.len() < 1000 {
            let frame = timeout(PATIENCE, response.body.frame()).await.unwrap().unwrap().unwrap();
            back.extend_from_slice(&frame.into_data().unwrap());
        }
        assert_eq!(back, piece);
    }
    let trailers = headers(&[("x-sum", "1")]);
    send.send(Ok(Frame::trailers(trailers.clone()))).await.unwrap();
    drop(send);
    let rest = timeout(PATIENCE, response.body.collect()).await.unwrap().unwrap();
    assert_eq!(rest.trailers(), Some(&trailers));
}

#[tokio::test]
async fn a_megabyte_comes_back_to_the_byte() {
    let mut config = config();
    // Measured in a compiler's debug build, beside other tests.
    config.limits.time = Duration::from_secs(10);
    let application = application(config).await;
    let bytes: Bytes = (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut request = get("/echo");
    request.body = Body::full(bytes.clone());
    let response = forward(&application, request).await.unwrap();
    let back = timeout(PATIENCE, response.body.collect()).await.unwrap().unwrap().to_bytes();
    assert_eq!(back, bytes);
}

#[tokio::test]
async fn the_body_is_asked_for_when_it_is_read() {
    let application = application(config()).await;
    for (path, asked) in [("/echo", 1), ("/ignore", 0)] {
        let signals = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&signals);
        let mut request = get(path);
        request.head.headers.insert("expect", HeaderValue::from_static("100-continue"));
        request.body = Body::full("x");
        request.context.interim = Some(Arc::new(move |status, _| {
            assert_eq!(status, StatusCode::CONTINUE);
            counts.fetch_add(1, SeqCst);
        }));
        whole(forward(&application, request).await.unwrap()).await.unwrap();
        assert_eq!(signals.load(SeqCst), asked, "{path}");
    }
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let application = application(config()).await;
    let mut request = get("/about");
    request.head.method = Method::HEAD;
    let response = forward(&application, request).await.unwrap();
    assert!(response.headers.contains_key("content-length"), "as a GET would have");
    assert_eq!(whole(response).await.unwrap(), "");
    for status in [204, 304] {
        let response = forward(&application, get(&format!("/status/{status}"))).await.unwrap();
        assert_eq!(response.status, status);
        assert_eq!(whole(response).await.unwrap(), "");
    }
    application.settled().await;
}

#[tokio::test]
async fn no_failure_before_the_answer_harms_anybody_else() {
    let logged = Logged::begin();
    let mut config = config();
    config.limits.memory = 8 << 20;
    config.limits.wait = Duration::from_millis(300);
    let application = application(config).await;
    for (path, kind, told) in [
        ("/panic", ErrorKind::PluginFailed, "it trapped"),
        ("/spin", ErrorKind::PluginFailed, "limits.time"),
        ("/eat", ErrorKind::PluginFailed, "limits.memory"),
        ("/wait", ErrorKind::TimedOut, "limits.wait"),
        ("/silent", ErrorKind::PluginFailed, "ended without an answer"),
        ("/silent-leak", ErrorKind::PluginFailed, "ended without an answer"),
        ("/error", ErrorKind::PluginFailed, "a guest's secret"),
        ("/status/199", ErrorKind::PluginFailed, "the status 199"),
        ("/status/600", ErrorKind::PluginFailed, "the status 600"),
        ("/many-headers/1025", ErrorKind::PluginFailed, "headers, and an answer has at most"),
        ("/large-head/100", ErrorKind::PluginFailed, "bytes of headers"),
        ("/no-body", ErrorKind::PluginFailed, "a content-length, and no body"),
    ] {
        let error = forward(&application, get(path)).await.expect_err(path);
        assert_eq!(error.kind(), kind, "{path}");
        assert!(error.detail().starts_with("the application app"), "{path}: {error}");
        assert!(!error.detail().contains("secret"), "{path}");
        let lines = logged.lines("app");
        let line = lines.last().unwrap();
        assert!(line.contains(told), "{path}: {line}");
        assert!(line.contains("exchange=0000000000000007"), "{line}");
        assert_eq!(ask(&application, "/ignore").await, "ignored", "after {path}");
    }
}

#[tokio::test]
async fn a_failure_in_the_middle_of_a_body_never_looks_like_its_end() {
    let logged = Logged::begin();
    let application = application(config()).await;
    for (path, told) in [
        ("/late-panic", "it trapped"),
        ("/late-spin", "limits.time"),
        ("/forget", "without finishing"),
        ("/drop", "broke its answer's body off"),
        ("/short", "broke its answer's body off"),
    ] {
        let broken = match forward(&application, get(path)).await {
            Ok(response) => whole(response).await.expect_err(path),
            // The failure was seen before the head had left.
            Err(error) => error,
        };
        assert_eq!(broken.kind(), ErrorKind::PluginFailed, "{path}");
        let lines = logged.lines("app");
        assert!(lines.last().unwrap().contains(told), "{path}: {lines:?}");
        assert_eq!(ask(&application, "/ignore").await, "ignored", "after {path}");
    }
}

#[tokio::test]
async fn an_endless_body_runs_only_while_it_is_read() {
    let mut config = config();
    config.limits.instances = 1;
    config.limits.time = Duration::from_secs(10);
    let application = application(config).await;
    let mut response = forward(&application, get("/endless")).await.unwrap();
    let mut read = 0;
    while read < 1 << 20 {
        let frame = timeout(PATIENCE, response.body.frame()).await.unwrap().unwrap().unwrap();
        read += frame.into_data().unwrap().len();
    }
    // Its only instance is free again when its visitor goes away.
    drop(response);
    assert_eq!(ask(&application, "/ignore").await, "ignored");
}

#[tokio::test]
async fn an_endless_body_ends_with_its_running_time() {
    let application = application(config()).await;
    let response = forward(&application, get("/endless")).await.unwrap();
    assert_eq!(whole(response).await.expect_err("an end").kind(), ErrorKind::PluginFailed);
}

#[tokio::test]
async fn who_waits_for_an_instance_has_it_when_there_is_one() {
    let mut config = config();
    config.limits.instances = 1;
    config.limits.queue = 1;
    let application = application(config).await;
    let held = forward(&application, get("/endless")).await.unwrap();
    let mut waits = application.forward(get("/ignore"));
    assert!(futures_util::poll!(&mut waits).is_pending());
    let refused = forward(&application, get("/ignore")).await.expect_err("the queue is full");
    assert_eq!(refused.kind(), ErrorKind::PluginBusy);
    drop(held);
    assert!(timeout(PATIENCE, waits).await.unwrap().is_ok());
}

#[tokio::test]
async fn instances_are_fresh_unless_said_otherwise() {
    let fresh = application(config()).await;
    let pooled = application(Config { isolation: Isolation::Pool, ..config() }).await;
    for at in 1..=3 {
        assert_eq!(ask(&fresh, "/count").await, "1");
        assert_eq!(ask(&pooled, "/count").await, at.to_string());
    }
    // What holds on to a visitor's request isn't used again, nor what has failed.
    assert_eq!(ask(&pooled, "/leak-request").await, "4");
    assert_eq!(ask(&pooled, "/count").await, "1");
    forward(&pooled, get("/panic")).await.expect_err("it traps");
    assert_eq!(ask(&pooled, "/count").await, "1");
}

#[tokio::test]
async fn headers_of_one_hop_are_refused_where_they_are_set() {
    let application = application(config()).await;
    assert_eq!(ask(&application, "/names").await, "x-fine");
    let response = forward(&application, get("/large-head/1000")).await;
    assert!(response.is_err(), "what the guest may hold is more than an answer may have");
    let response = forward(&application, get("/large-head/50")).await.unwrap();
    assert_eq!(response.headers["taken"], "50");
    assert!(!response.headers.keys().any(hygiene::is_hop_by_hop));
}

#[tokio::test]
async fn wasi_is_by_grant_and_what_is_printed_is_logged() {
    let logged = Logged::begin();
    let mut granted = config();
    granted.grant.env.insert("GREETING".to_owned(), "hello".to_owned());
    assert_eq!(ask(&*application(granted).await, "/print").await, "GREETING=hello");
    assert_eq!(ask(&*application(config()).await, "/print").await, "");
    let lines = logged.lines("app");
    assert!(lines.iter().any(|line| line.starts_with("INFO") && line.contains("said aloud")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("WARN") && line.contains("complained")), "{lines:?}");
}

#[tokio::test]
async fn what_it_does_after_its_answer_is_done() {
    let logged = Logged::begin();
    let application = application(config()).await;
    assert_eq!(ask(&application, "/afterwards").await, "answered");
    application.settled().await;
    assert!(logged.lines("app").iter().any(|line| line.contains("afterwards")));
    // Its answer is complete, whatever becomes of it then; and there is no second one.
    for (path, answer) in [("/panic-afterwards", "answered"), ("/twice", "first")] {
        assert_eq!(ask(&application, path).await, answer);
        application.settled().await;
        assert!(logged.lines("app").last().unwrap().contains("it trapped"));
    }
}

#[tokio::test]
async fn requests_go_to_granted_origins_and_nowhere_else() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let mut granted = config();
    granted.grant.http = vec![format!("http://{authority}").parse().unwrap()];
    let application_granted = application(granted).await;
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"question") {
            asked.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 6\r\n\r\nanswer").await.unwrap();
        String::from_utf8(asked).unwrap()
    };
    let path = format!("/fetch/{authority}");
    let (asked, said) =
        timeout(PATIENCE, async { tokio::join!(serve, ask(&application_granted, &path)) }).await.unwrap();
    assert_eq!(said, "201 answer");
    assert!(asked.starts_with("POST /asked?x=1 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("host: {authority}\r\n")), "{asked}");

    let denied = ask(&application_granted, "/fetch/127.0.0.1:1").await;
    assert_eq!(denied, "ErrorCode::HttpRequestDenied");
    let without = application(config()).await;
    assert_eq!(ask(&without, &path).await, "ErrorCode::HttpRequestDenied");
}

#[tokio::test]
async fn other_files_are_told_what_they_are() {
    let error = host().load_application(&guest("hostile"), config()).await.err().unwrap();
    assert!(error.to_string().contains("use it with --plugin"), "{error}");
    let error = host().load(&guest("application"), config()).await.err().unwrap();
    assert!(error.to_string().contains("serve it with --serve"), "{error}");
    let error = host().load_application(b"fn main() {}", config()).await.err().unwrap();
    assert!(matches!(error, LoadError::NotWasm(_)), "{error}");
}
