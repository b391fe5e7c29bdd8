//! Nodes that are restarted on purpose: whoever visits doesn't notice.

use std::time::Duration;

use crate::harness::{Client, Cluster, Origin, Signal, load, origin, websocket};

/// Requests while nodes restart one after the other. A hundred thousand take a minute; they are asked for with TUNNEL_TEST_FULL.
fn requests() -> usize {
    if std::env::var_os("TUNNEL_TEST_FULL").is_some() { 100_000 } else { 10_000 }
}

/// WebSockets that are open meanwhile.
const SOCKETS: usize = 200;

/// Who holds a WebSocket open would have a node wait for the whole grace period.
const GRACE: [&str; 2] = ["--grace-period", "2s"];

#[tokio::test]
async fn nodes_restart_one_after_the_other_and_no_request_fails() {
    let origin = load::echoing().await;
    let mut cluster = Cluster::start(&[&["--rate", "off"], &GRACE[..]].concat()).await;
    let mut client = cluster.client(&origin.url(), &[]).await;
    let door = cluster.door(&client);
    let sockets = load::Sockets::open(&door, SOCKETS).await;
    let load = load::Load::start(&door, 16);
    for node in 0..cluster.nodes.len() {
        load.goes_on_for(requests() / 5).await;
        let exit = cluster.nodes[node].stop().await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        cluster.nodes[node].start_again().await;
        cluster.nodes[node].is_visited().await;
    }
    load.reaches(requests()).await;
    load.finish().await.all_well();
    for end in sockets.finish().await {
        match end {
            load::End::Alive => {}
            load::End::Closed { code, reason } => {
                assert_eq!(code, Some(1012), "{reason}");
                assert!(!reason.is_empty(), "a reason is missing");
            }
            load::End::Lost(how) => panic!("{how}"),
        }
    }
    client.process.event("moving").await;
    assert!(client.process.events("disconnected").is_empty(), "it was never away");
}

#[tokio::test]
async fn clients_on_every_node_survive_a_rolling_restart_too() {
    let origin = load::echoing().await;
    let mut cluster = Cluster::start(&["--rate", "off"]).await;
    let client = cluster.client(&origin.url(), &["--connections", "3"]).await;
    let door = cluster.door(&client);
    let load = load::Load::start(&door, 8);
    for node in 0..cluster.nodes.len() {
        load.goes_on_for(500).await;
        let exit = cluster.nodes[node].stop().await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        cluster.nodes[node].start_again().await;
        cluster.nodes[node].is_visited().await;
    }
    load.goes_on_for(500).await;
    load.finish().await.all_well();
}

/// A cluster with a client that may go to any node, and which node that is.
async fn with_client(target: &str) -> (Cluster, Client, usize) {
    let mut cluster = Cluster::start(&[]).await;
    let client = cluster.client(target, &[]).await;
    let holder = cluster.holder().await;
    (cluster, client, holder)
}

#[tokio::test]
async fn a_node_that_stops_says_so_moves_its_clients_and_ends_what_crosses_it() {
    let origin = Origin::start().await;
    let (mut cluster, mut client, holder) = with_client(&origin.url()).await;
    let visits = (holder + 1) % 3;
    let (near, far) = (cluster.door_at(holder, &client), cluster.door_at(visits, &client));
    // Under way at the node itself, across nodes, and a WebSocket.
    let mut open = Vec::new();
    for door in [&near, &far] {
        let mut visitor = door.ask("GET /download", &[]).await;
        let (mut answers, _) = origin.request().await;
        answers.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc").await;
        let head = visitor.head().await;
        let waiting = door.ask("GET /waiting", &[]).await;
        let (late, _) = origin.request().await;
        open.push((visitor, head, answers, waiting, late));
    }

    cluster.nodes[holder].process.signal(Signal::TERM);
    cluster.nodes[holder].process.event("draining").await;
    cluster.nodes[holder].is_not_ready().await;
    assert_eq!(cluster.nodes[holder].health("/healthz").await, 200, "it lives, and must not be killed");
    client.process.event("moving").await;
    let new = cluster.holder().await;
    assert_ne!(new, holder);
    // The replacement serves, at every node that is left.
    for node in [visits, (holder + 2) % 3] {
        let mut visitor = cluster.door_at(node, &client).ask("GET /elsewhere", &[]).await;
        let (mut answers, _) = origin.request().await;
        answers.send(origin::ok("here too")).await;
        assert_eq!(visitor.reply("GET").await.text(), "here too");
    }
    for (mut visitor, head, mut answers, mut waiting, mut late) in open {
        answers.send("def").await;
        let (body, _) = visitor.rest_of_reply("GET", &head).await.expect("the download ends well");
        assert_eq!(body, b"abcdef");
        late.send(origin::ok("waited")).await;
        assert_eq!(waiting.reply("GET").await.text(), "waited");
    }
    let exit = cluster.nodes[holder].process.exit().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(client.process.events("disconnected").is_empty(), "it was never away");
}

#[tokio::test]
async fn visitors_elsewhere_never_fail_while_a_node_stops() {
    let origin = load::echoing().await;
    let (mut cluster, client, holder) = with_client(&origin.url()).await;
    let doors: Vec<_> =
        (0..3).filter(|node| *node != holder).map(|node| cluster.door_at(node, &client)).collect();
    let loads: Vec<_> = doors.iter().map(|door| load::Load::start(door, 3)).collect();
    for load in &loads {
        load.reaches(200).await;
    }
    let exit = cluster.nodes[holder].stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    for load in loads {
        load.goes_on_for(200).await;
        load.finish().await.all_well();
    }
}

#[tokio::test]
async fn the_claims_of_a_node_that_has_stopped_are_gone_at_once() {
    let origin = load::echoing().await;
    let mut cluster = Cluster::start(&[]).await;
    // It knows this one node, and can't move.
    let mut client = cluster.client_at(0, &origin.url()).await;
    let door = cluster.door_at(1, &client);
    assert_eq!(door.get("/").await.status(), 200);
    let exit = cluster.nodes[0].stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let reply = door.get("/").await;
    reply.explained(503, "tunnel-offline");
    assert!(reply.head.has("retry-after"));
    cluster.nodes[0].start_again().await;
    client.process.event("reconnected").await;
    assert_eq!(door.get("/").await.status(), 200);
}

#[tokio::test]
async fn what_outlasts_the_grace_period_is_told_to_come_back() {
    let origin = Origin::start().await;
    let mut cluster = Cluster::start(&["--grace-period", "500ms"]).await;
    let client = cluster.client_at(0, &origin.url()).await;
    // The visitor's node stops, and the session's.
    for stops in [1, 0] {
        let door = cluster.door_at(1, &client);
        let (mut visitor, answers) = websocket::open(&door, &origin, "/").await;
        let mut reading = door.ask("GET /endless", &[]).await;
        let (mut endless, _) = origin.request().await;
        endless.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc").await;
        let head = reading.head().await;
        let stopped = cluster.nodes[stops].stop();
        let (exit, close) = tokio::join!(stopped, visitor.next());
        assert_eq!(exit.code, Some(0), "{exit:?}");
        assert_eq!(close.code(), Some(1012), "{close:?}");
        assert!(close.payload.len() > 2, "a reason is missing");
        assert!(reading.rest_of_reply("GET", &head).await.is_err(), "the body can't be whole");
        endless.closed().await;
        // The origin's end hears of it as well.
        answers.into_wire().closed().await;
        cluster.nodes[stops].start_again().await;
    }
}

#[tokio::test]
async fn an_idle_node_stops_at_once() {
    let origin = load::echoing().await;
    let mut cluster = Cluster::start(&[]).await;
    let client = cluster.client(&origin.url(), &[]).await;
    for node in 0..3 {
        assert_eq!(cluster.door_at(node, &client).get("/").await.status(), 200);
    }
    for node in &mut cluster.nodes {
        let stopped = tokio::time::timeout(Duration::from_secs(10), node.stop());
        let exit = stopped.await.expect("well below the grace period of 30 s");
        assert_eq!(exit.code, Some(0), "{exit:?}");
    }
}
