//! gRPC from end to end: HTTP/2 to the visitor, trailers and both directions at once through the tunnel, HTTP/2 to the origin.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tonic::{Code, Request, Status, client::Grpc, transport::Channel};

use crate::harness::{
    Client, Cluster, Origin, Setup, Tunnel,
    grpc::{Raw, Talk, client, method, secure_client},
    origin, path_text,
    secured::Secured,
    within,
};

const H2: &[&str] = &["--origin-protocol", "h2"];

async fn tunnel(talk: &Talk) -> Tunnel {
    Setup::new().client(H2).start(&talk.url()).await
}

/// All four kinds of calls, and both kinds of failures.
async fn everything_works(mut client: Grpc<Channel>) {
    client.ready().await.expect("the connection is up");
    let reply = client.unary(Request::new(Bytes::from_static(b"hello")), method("Echo"), Raw).await;
    assert_eq!(reply.expect("an answer").into_inner(), "hello");

    let large = Bytes::from(vec![7; 60_000]);
    let many = stream::iter((0..5).map({
        let large = large.clone();
        move |_| large.clone()
    }));
    client.ready().await.expect("the connection is up");
    let reply = client.client_streaming(Request::new(many), method("Measure"), Raw).await;
    assert_eq!(reply.expect("an answer").into_inner(), "300000");

    let asked = Request::new(Bytes::from_static(b"1000"));
    client.ready().await.expect("the connection is up");
    let reply = client.server_streaming(asked, method("Count"), Raw).await.expect("an answer");
    let messages: Vec<_> = reply.into_inner().map(|message| message.expect("a message")).collect().await;
    assert_eq!(messages.len(), 1000);
    assert_eq!(messages[999], "999");

    bidirectional(&mut client).await;

    client.ready().await.expect("the connection is up");
    let refused = client.unary(Request::new(Bytes::new()), method("Refuse"), Raw).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, "not \u{fc}ber here, 100 %"));

    let asked = Request::new(Bytes::new());
    client.ready().await.expect("the connection is up");
    let mut reply =
        client.server_streaming(asked, method("Break"), Raw).await.expect("a message").into_inner();
    assert_eq!(reply.message().await.expect("a message").expect("one"), "one");
    let broken = reply.message().await.unwrap_err();
    assert_eq!((broken.code(), broken.message()), (Code::DataLoss, "it was there a moment ago"));
}

/// Each message is sent once the one before it has come back.
async fn bidirectional(client: &mut Grpc<Channel>) {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(1);
    let sent = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    client.ready().await.expect("the connection is up");
    let reply = client.streaming(Request::new(sent), method("Echo"), Raw).await.expect("an answer");
    let mut messages = reply.into_inner();
    for round in 0..20 {
        let message = Bytes::from(format!("round {round}"));
        sender.send(message.clone()).await.expect("the call goes on");
        let back = within("a message to come back", messages.message()).await;
        assert_eq!(back.expect("a message").expect("one more"), message);
    }
    drop(sender);
    assert!(messages.message().await.expect("a regular end").is_none());
}

#[tokio::test]
async fn all_kinds_of_calls_pass_as_they_are() {
    let talk = Talk::start().await;
    let tunnel = tunnel(&talk).await;
    everything_works(client(&tunnel.door()).await).await;
}

#[tokio::test]
async fn calls_cross_from_node_to_node() {
    let talk = Talk::start().await;
    let cluster = Cluster::start(&[]).await;
    let behind = cluster.client(&talk.url(), H2).await;
    for node in 0..3 {
        everything_works(client(&cluster.door_at(node, &behind)).await).await;
    }
}

#[tokio::test]
async fn calls_come_by_tls() {
    let (talk, origin) = (Talk::start().await, Origin::start().await.answering(|_| origin::ok("")));
    let secured = Secured::start(&origin.url(), "", &[]).await;
    let home = &secured.proxy.home;
    let (ca, url) = (home.file("ca.pem"), format!("https://localhost:{}", secured.address().port()));
    let arguments = ["--proxy-ca", path_text(&ca), "--origin-protocol", "h2"];
    let behind = Client::start(&url, &talk.url(), &home.file("talk.pem"), &arguments).await;
    let host = behind.public_url.strip_prefix("https://").expect("an https URL").trim_end_matches('/');
    everything_works(secure_client(&secured, host).await).await;
}

#[tokio::test]
async fn a_deadline_and_a_client_that_gives_up_reach_the_service() {
    let mut talk = Talk::start().await;
    let tunnel = tunnel(&talk).await;
    let mut client = client(&tunnel.door()).await;

    let mut hurried = Request::new(Bytes::new());
    // Of the service's own library, from the header that travels with the call.
    hurried.set_timeout(Duration::from_millis(200));
    let late = within("the deadline", client.unary(hurried, method("Wait"), Raw)).await.unwrap_err();
    assert!(matches!(late.code(), Code::Cancelled | Code::DeadlineExceeded), "{late:?}");
    for expected in ["began", "given up"] {
        assert_eq!(within("the service to notice", talk.waits.recv()).await, Some(expected));
    }

    client.ready().await.expect("the connection is up");
    let mut waiting = Box::pin(client.unary(Request::new(Bytes::new()), method("Wait"), Raw));
    tokio::select! {
        answer = &mut waiting => panic!("{answer:?}"),
        began = within("the call to reach the service", talk.waits.recv()) => assert_eq!(began, Some("began")),
    }
    drop(waiting);
    assert_eq!(within("the service to notice", talk.waits.recv()).await, Some("given up"));
}

#[tokio::test]
async fn what_the_proxy_says_comes_as_a_status_with_its_sentence() {
    let answering = Origin::start().await.answering(|_| origin::ok("plain"));
    let gone = origin::vacant().await;
    for (target, code, says) in [
        (format!("http://{gone}"), Code::Unavailable, "nothing answers at"),
        (answering.url(), Code::Unavailable, "--origin-protocol http1"),
    ] {
        let tunnel = Setup::new().client(H2).start(&target).await;
        let mut client = client(&tunnel.door()).await;
        let call = client.unary(Request::new(Bytes::new()), method("Echo"), Raw);
        let error: Status = call.await.unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        assert!(error.message().contains(says), "{error:?}");
    }
}
