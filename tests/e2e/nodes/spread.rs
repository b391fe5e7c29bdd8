//! One client with several connections: at different nodes, where there are any.

use crate::harness::{Client, Origin, Proxy, Relay, Reply, Wire, origin};

/// A request that is under way at this node.
async fn ask(node: &Proxy, client: &Client, path: &str) -> Wire {
    let mut visitor = Wire::connect(node.address).await;
    visitor.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", client.host())).await;
    visitor
}

async fn get(node: &Proxy, client: &Client) -> Reply {
    ask(node, client, "/").await.reply("GET").await
}

#[tokio::test]
async fn several_connections_are_at_several_nodes_and_each_comes_back() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let relay = Relay::start().await;
    let mut nodes: [Proxy; 3] = Proxy::behind(&relay).await;
    relay.lead_next_to(&nodes.each_ref().map(|node| node.address).repeat(10));
    let key = nodes[0].home.file("key.pem");
    let client = Client::start(&relay.url(), &origin.url(), &key, &["--connections", "3"]).await;
    for node in &mut nodes {
        node.process.event("registered").await;
    }
    assert_eq!(relay.accepted(), 3, "there was nothing to mend");
    relay.cut();
    for node in &mut nodes {
        node.process.event("unregistered").await;
        node.process.event("registered").await;
        assert_eq!(get(node, &client).await.text(), "ok");
    }
}

/// The first connections all lead to one node, as those of a rolling restart do.
#[tokio::test]
async fn a_session_too_many_at_a_node_moves_to_another_and_loses_nothing() {
    let origin = Origin::start().await;
    let relay = Relay::start().await;
    let [mut one, mut two] = Proxy::behind(&relay).await;
    relay.lead_next_to(&[one.address; 2]);
    let key = one.home.file("key.pem");
    let mut client = Client::start(&relay.url(), &origin.url(), &key, &["--connections", "2"]).await;
    for _ in 0..2 {
        one.process.event("registered").await;
    }
    // The least busy goes first: there is one on each session.
    let mut under_way = Vec::new();
    for path in ["/a", "/b"] {
        let visitor = ask(&one, &client, path).await;
        under_way.push((visitor, origin.request().await.0));
    }
    // No better: this one leaves again.
    relay.lead_next_to(&[one.address]);
    one.process.event("registered").await;
    one.process.event("unregistered").await;
    relay.lead_next_to(&[two.address]);
    two.process.event("registered").await;
    for (mut visitor, mut answers) in under_way {
        answers.send(origin::ok("not cut short")).await;
        assert_eq!(visitor.reply("GET").await.text(), "not cut short");
    }
    one.process.event("unregistered").await;

    for node in [&one, &two] {
        let mut visitor = ask(node, &client, "/").await;
        let (mut answers, _) = origin.request().await;
        answers.send(origin::ok("at both")).await;
        assert_eq!(visitor.reply("GET").await.text(), "at both");
    }
    assert_eq!(relay.accepted(), 4, "all is well, and nobody looks any further");
    for event in ["disconnected", "reconnected", "moving"] {
        assert!(client.process.events(event).is_empty(), "nobody was away: {event}");
    }
    let exit = client.process.stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

/// A node stops and another takes its place; the session that moved meets the other one, and has to move on.
#[tokio::test]
async fn connections_spread_again_when_a_node_was_replaced() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let relay = Relay::start().await;
    let [mut one, mut two, mut three] = Proxy::behind(&relay).await;
    relay.lead_next_to(&[one.address, two.address]);
    let key = one.home.file("key.pem");
    let client = Client::start(&relay.url(), &origin.url(), &key, &["--connections", "2"]).await;
    for node in [&mut one, &mut two] {
        node.process.event("registered").await;
    }
    relay.lead_next_to(&[two.address, two.address, three.address]);
    let exit = one.process.stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    three.process.event("registered").await;
    for node in [&two, &three] {
        assert_eq!(get(node, &client).await.text(), "ok");
    }
    assert!(client.process.events("disconnected").is_empty(), "it was never away");
}

/// Nothing is better than what it has, and nothing is lost by looking for it.
#[tokio::test]
async fn where_there_is_one_node_all_connections_stay_there() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let relay = Relay::start().await;
    let [mut node] = Proxy::behind(&relay).await;
    relay.lead_to(node.address);
    let key = node.home.file("key.pem");
    let client = Client::start(&relay.url(), &origin.url(), &key, &["--connections", "2"]).await;
    // Two that stay, and the quick dials, each of which leaves again.
    for _ in 0..6 {
        node.process.event("registered").await;
    }
    for _ in 0..4 {
        node.process.event("unregistered").await;
    }
    assert_eq!(relay.accepted(), 6, "what follows takes its time");
    assert_eq!(get(&node, &client).await.text(), "ok");
    assert_eq!(node.process.events("registered").len() - node.process.events("unregistered").len(), 2);
}
