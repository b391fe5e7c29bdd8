//! Stopping well: what is under way ends, what is new is sent away, and the exit code says that all was in order.

use tokio::net::TcpStream;

use crate::harness::{Origin, Proxy, Relay, Setup, Signal, Tunnel, Wire, origin};

#[tokio::test]
async fn a_draining_proxy_ends_what_is_under_way() {
    let origin = Origin::start().await;
    let mut tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.ask("GET /download", &[]).await;
    let (mut answers, _) = origin.request().await;
    answers.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc").await;
    let head = visitor.head().await;
    let mut waiting = tunnel.ask("GET /waiting", &[]).await;
    let (mut waiting_origin, _) = origin.request().await;

    tunnel.proxy.process.signal(Signal::TERM);
    tunnel.proxy.process.event("draining").await;
    // Nobody new comes in: refused, or told where it stands.
    if TcpStream::connect(tunnel.proxy.address).await.is_ok() {
        let mut late = tunnel.visit().await;
        if late.try_send(&tunnel.head("GET /late", &[])).await.is_ok() {
            let answer = String::from_utf8_lossy(&late.closed().await).into_owned();
            assert!(answer.is_empty() || answer.contains(" 503 "), "{answer}");
        }
    }
    answers.send("def").await;
    let (body, _) = visitor.rest_of_reply("GET", &head).await.expect("the download ends well");
    assert_eq!(body, b"abcdef");
    waiting_origin.send(crate::harness::origin::ok("waited")).await;
    assert_eq!(waiting.reply("GET").await.text(), "waited");
    let exit = tunnel.proxy.process.exit().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[tokio::test]
async fn a_draining_proxy_does_not_wait_for_ever() {
    let origin = Origin::start().await;
    let mut tunnel = Setup::new().proxy(&["--grace-period", "300ms"]).start(&origin.url()).await;
    let mut visitor = tunnel.ask("GET /endless", &[]).await;
    let (mut answers, _) = origin.request().await;
    answers.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc").await;
    let head = visitor.head().await;
    let exit = tunnel.proxy.process.stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(visitor.rest_of_reply("GET", &head).await.is_err(), "the body can't be whole");
    answers.closed().await;
}

#[tokio::test]
async fn an_idle_proxy_with_a_client_stops_at_once() {
    let origin = Origin::start().await;
    for signal in [Signal::TERM, Signal::INT] {
        let mut tunnel = Tunnel::to(&origin.url()).await;
        // Kept alive, without a request: nothing to wait for.
        let _idle = tunnel.visit().await;
        tunnel.proxy.process.signal(signal);
        let exit = tunnel.proxy.process.exit();
        // Well below the grace period of 30 s.
        let exit =
            tokio::time::timeout(std::time::Duration::from_secs(10), exit).await.expect("stops at once");
        assert_eq!(exit.code, Some(0), "{signal:?}: {exit:?}");
    }
}

#[tokio::test]
async fn a_client_stops_on_either_signal() {
    let origin = Origin::start().await;
    for signal in [Signal::TERM, Signal::INT] {
        let mut tunnel = Tunnel::to(&origin.url()).await;
        tunnel.client.process.signal(signal);
        let exit = tunnel.client.process.exit().await;
        assert_eq!(exit.code, Some(0), "{signal:?}: {exit:?}");
        tunnel.proxy.process.event("unregistered").await;
    }
}

#[tokio::test]
async fn a_client_that_is_between_two_attempts_stops_too() {
    let origin = Origin::start().await;
    let mut tunnel = Tunnel::to(&origin.url()).await;
    tunnel.proxy.process.kill().await;
    tunnel.client.process.event("disconnected").await;
    let exit = tunnel.client.process.stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

/// A load balancer in front of two nodes, one of which leaves: make before break.
#[tokio::test]
async fn a_client_moves_to_another_node_before_its_session_ends() {
    let relay = Relay::start().await;
    let origin = Origin::start().await;
    let mut tunnel = Setup::new().relay(&relay).start(&origin.url()).await;
    let mut other = Proxy::start(&["--also-known-as", &relay.url()]).await;
    let mut visitor = tunnel.ask("GET /download", &[]).await;
    let (mut answers, _) = origin.request().await;
    answers.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc").await;
    let head = visitor.head().await;

    relay.lead_to(other.address);
    tunnel.proxy.process.signal(Signal::TERM);
    tunnel.client.process.event("moving").await;
    other.process.event("registered").await;
    assert!(tunnel.proxy.process.events("unregistered").is_empty(), "the old session goes on");

    let mut elsewhere = Wire::connect(other.address).await;
    elsewhere.send(tunnel.head("GET /elsewhere", &[])).await;
    let (mut second, _) = origin.request().await;
    second.send(origin::ok("here too")).await;
    assert_eq!(elsewhere.reply("GET").await.text(), "here too");
    answers.send("def").await;
    let (body, _) = visitor.rest_of_reply("GET", &head).await.expect("the download ends well");
    assert_eq!(body, b"abcdef");
    let exit = tunnel.proxy.process.exit().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(tunnel.client.process.events("disconnected").is_empty(), "it was never away");
}
