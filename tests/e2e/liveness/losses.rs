//! What breaks: the network, the proxy, the client. It is noticed, said, and healed.

use std::time::Duration;

use crate::harness::{Client, Origin, Proxy, Relay, Setup, Tunnel, origin, tunnel::Home};

/// Noticed after a second instead of twenty.
const PING: &str = "ping_after = '500ms'";
const PROXY_PING: &str = "[limits]\nping_after = '500ms'";

#[tokio::test]
async fn a_network_that_goes_silent_is_noticed_at_both_ends_and_left() {
    let origin = Origin::start().await.answering(|_| origin::ok("alive"));
    let relay = Relay::start().await;
    let setup = Setup::new().relay(&relay).proxy_file(PROXY_PING).client_file(PING);
    let mut tunnel = setup.start(&origin.url()).await;
    assert_eq!(tunnel.get("/").await.text(), "alive");
    relay.silence();
    tunnel.client.process.event("disconnected").await;
    tunnel.client.process.event("reconnected").await;
    tunnel.proxy.process.event("unregistered").await;
    assert_eq!(tunnel.get("/").await.text(), "alive");
}

#[tokio::test]
async fn a_proxy_notices_a_silent_client_by_itself() {
    let origin = Origin::start().await;
    let relay = Relay::start().await;
    let mut tunnel = Setup::new().relay(&relay).proxy_file(PROXY_PING).start(&origin.url()).await;
    let mut visitor = tunnel.ask("GET /", &[]).await;
    let (_answers, _) = origin.request().await;
    relay.silence();
    tunnel.proxy.process.event("unregistered").await;
    let reply = visitor.reply("GET").await;
    assert_eq!((reply.status(), reply.error().as_deref()), (502, Some("tunnel-gone")));
}

#[tokio::test]
async fn an_idle_session_stays_up_on_pings_alone() {
    let origin = Origin::start().await.answering(|_| origin::ok("alive"));
    let relay = Relay::start().await;
    let setup = Setup::new().relay(&relay).proxy_file(PROXY_PING).client_file(PING);
    let tunnel = setup.start(&origin.url()).await;
    // Pings and pongs of more than twice the silence that would end it.
    relay.carries(12).await;
    assert_eq!(tunnel.get("/").await.text(), "alive");
    assert_eq!(relay.accepted(), 1, "it was never made anew");
}

#[tokio::test]
async fn a_broken_connection_answers_what_is_open_at_once_and_is_made_again() {
    let origin = Origin::start().await;
    let relay = Relay::start().await;
    let mut tunnel = Setup::new().relay(&relay).start(&origin.url()).await;
    let mut waiting = tunnel.ask("GET /waiting", &[]).await;
    let (mut waiting_origin, _) = origin.request().await;
    let mut reading = tunnel.ask("GET /reading", &[]).await;
    let (mut reading_origin, _) = origin.request().await;
    reading_origin.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc").await;
    let head = reading.head().await;
    assert_eq!(reading.exactly(3).await, b"abc");

    relay.cut();
    let reply = waiting.reply("GET").await;
    assert_eq!((reply.status(), reply.error().as_deref()), (502, Some("tunnel-gone")));
    assert!(reading.rest_of_reply("GET", &head).await.is_err(), "the body can't be whole");
    waiting_origin.closed().await;
    reading_origin.closed().await;

    tunnel.client.process.event("reconnected").await;
    let mut visitor = tunnel.ask("GET /again", &[]).await;
    let (mut answers, _) = origin.request().await;
    answers.send(origin::ok("again")).await;
    assert_eq!(visitor.reply("GET").await.text(), "again");
}

#[tokio::test]
async fn a_proxy_that_is_killed_and_comes_back_finds_its_client_again() {
    let origin = Origin::start().await.answering(|_| origin::ok("back"));
    let address = origin::vacant().await.to_string();
    let mut proxy = Proxy::start_at(&address, &[]).await;
    let key = proxy.home.file("key.pem");
    let client = Client::start(&proxy.url(), &origin.url(), &key, &[]).await;
    let mut tunnel = Tunnel { proxy, client, key };
    assert_eq!(tunnel.get("/").await.text(), "back");
    tunnel.proxy.process.kill().await;
    tunnel.client.process.event("disconnected").await;
    proxy = Proxy::start_at(&address, &[]).await;
    let again = tunnel.client.process.event("reconnected");
    let event = tokio::time::timeout(Duration::from_secs(10), again).await.expect("back in time");
    assert_eq!(event["public_url"].as_str(), Some(tunnel.client.public_url.as_str()));
    tunnel.proxy = proxy;
    assert_eq!(tunnel.get("/").await.text(), "back");
}

#[tokio::test]
async fn a_client_that_starts_before_its_proxy_waits_for_it() {
    let origin = Origin::start().await.answering(|_| origin::ok("late"));
    let home = Home::new();
    let address = origin::vacant().await;
    let key = home.file("key.pem");
    let mut process = Client::spawn(&format!("http://{address}"), &origin.url(), &key, &[]);
    let event = process.event("disconnected").await;
    assert!(event["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{event}");
    let proxy = Proxy::start_at(&address.to_string(), &[]).await;
    let event = process.event("registered").await;
    let public_url = event["public_url"].as_str().expect("a URL").to_owned();
    let tunnel = Tunnel { proxy, client: Client { process, public_url }, key };
    assert_eq!(tunnel.get("/").await.text(), "late");
}

#[tokio::test]
async fn a_client_that_is_killed_in_mid_body_leaves_no_visitor_waiting() {
    let origin = Origin::start().await;
    let mut tunnel = Tunnel::to(&origin.url()).await;
    let mut reading = tunnel.ask("GET /reading", &[]).await;
    let (mut answers, _) = origin.request().await;
    answers.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    let head = reading.head().await;
    assert_eq!(reading.chunked(3).await, b"abc");
    let mut sending = tunnel.ask("POST /sending", &["Transfer-Encoding: chunked"]).await;
    sending.send_chunk("abc").await;
    let mut receiving = origin.accept().await;
    receiving.head().await;
    assert_eq!(receiving.chunked(3).await, b"abc");

    tunnel.client.process.kill().await;
    let broken = reading.rest_of_reply("GET", &head).await.expect_err("the body can't be whole");
    assert!(broken.got.is_empty(), "{broken:?}");
    let reply = sending.reply("POST").await;
    assert_eq!((reply.status(), reply.error().as_deref()), (502, Some("tunnel-gone")));
}

#[tokio::test]
async fn an_origin_that_never_answers_is_given_up() {
    let origin = Origin::start().await;
    let tunnel = Setup::new().proxy(&["--answer-timeout", "500ms"]).start(&origin.url()).await;
    let mut visitor = tunnel.ask("GET /never", &[]).await;
    let (mut answers, _) = origin.request().await;
    let reply = visitor.reply("GET").await;
    assert_eq!((reply.status(), reply.error().as_deref()), (504, Some("timed-out")));
    assert_eq!(answers.closed().await, b"", "the request is cancelled at the origin too");
}

#[tokio::test]
async fn only_the_head_has_to_come_in_time() {
    let origin = Origin::start().await;
    let tunnel = Setup::new().proxy(&["--answer-timeout", "500ms"]).start(&origin.url()).await;
    let mut slow = tunnel.ask("GET /slow", &[]).await;
    let (mut slow_origin, _) = origin.request().await;
    slow_origin.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc").await;
    slow.head().await;
    // Another request runs into the timeout, so that it has surely passed for the first.
    let mut never = tunnel.ask("GET /never", &[]).await;
    let (_never_origin, _) = origin.request().await;
    assert_eq!(never.reply("GET").await.status(), 504);
    slow_origin.send("def").await;
    assert_eq!(slow.exactly(6).await, b"abcdef");
}
