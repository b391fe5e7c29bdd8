//! Several sessions for one name: each exchange goes to exactly one.

use std::{collections::HashMap, sync::Arc};

use futures_util::{StreamExt, stream};

use crate::harness::{Client, Origin, Setup, Tunnel, origin};

#[tokio::test]
async fn each_exchange_goes_to_exactly_one_of_two_clients() {
    let one = Origin::start().await.answering(|request| origin::ok(&request.body));
    let two = Origin::start().await.answering(|request| origin::ok(&request.body));
    let mut tunnel = Setup::new().proxy(&["--rate", "off"]).start(&one.url()).await;
    let _second = Client::start(&tunnel.proxy.url(), &two.url(), &tunnel.key, &[]).await;
    for _ in 0..2 {
        tunnel.proxy.process.event("registered").await;
    }
    let tunnel = Arc::new(tunnel);
    let post = |number: usize| {
        let tunnel = Arc::clone(&tunnel);
        async move {
            let reply = tunnel.post("/once", number.to_string().as_bytes()).await;
            assert_eq!((reply.status(), reply.text()), (200, number.to_string()));
        }
    };
    stream::iter(0..200).map(post).buffer_unordered(20).collect::<Vec<()>>().await;

    let (one, two) = (one.seen(), two.seen());
    assert!(!one.is_empty() && !two.is_empty(), "{} and {}", one.len(), two.len());
    let mut times = HashMap::new();
    for request in one.iter().chain(&two) {
        *times.entry(String::from_utf8_lossy(&request.body).into_owned()).or_insert(0) += 1;
    }
    assert_eq!(times.len(), 200);
    assert!(times.values().all(|times| *times == 1), "{times:?}");
}

#[tokio::test]
async fn the_least_busy_session_goes_first() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let mut tunnel = Tunnel::to(&one.url()).await;
    let _second = Client::start(&tunnel.proxy.url(), &two.url(), &tunnel.key, &[]).await;
    for _ in 0..2 {
        tunnel.proxy.process.event("registered").await;
    }
    // Exchanges that stay open, begun one after the other: every second one finds one session busier.
    let mut open = Vec::new();
    for pair in 0..3 {
        for which in ["a", "b"] {
            open.push(tunnel.ask(&format!("GET /{pair}{which}"), &[]).await);
        }
        let ((at_one, _), (at_two, _)) = tokio::join!(one.request(), two.request());
        open.extend([at_one, at_two]);
    }
}

#[tokio::test]
async fn when_one_of_two_clients_dies_the_other_serves() {
    let one = Origin::start().await.answering(|_| origin::ok("one"));
    let two = Origin::start().await.answering(|_| origin::ok("two"));
    let mut tunnel = Tunnel::to(&one.url()).await;
    let mut second = Client::start(&tunnel.proxy.url(), &two.url(), &tunnel.key, &[]).await;
    for _ in 0..2 {
        tunnel.proxy.process.event("registered").await;
    }
    second.process.kill().await;
    tunnel.proxy.process.event("unregistered").await;
    for _ in 0..20 {
        assert_eq!(tunnel.get("/").await.text(), "one");
    }
}
