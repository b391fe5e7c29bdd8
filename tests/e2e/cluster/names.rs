//! Names that nobody has, had, or has too often: said the same at every node.

use crate::harness::{Cluster, load, path_text, tunnel::Home};

#[tokio::test]
async fn a_name_that_nobody_ever_had_is_not_found_at_any_node() {
    let cluster = Cluster::start(&[]).await;
    let nobody = "a".repeat(51) + "q";
    for node in 0..3 {
        let mut visitor = crate::harness::Wire::connect(cluster.nodes[node].address()).await;
        visitor.send(format!("GET / HTTP/1.1\r\nHost: {nobody}.localhost\r\n\r\n")).await;
        visitor.reply("GET").await.explained(404, "no-such-tunnel");
    }
}

#[tokio::test]
async fn a_name_whose_client_is_gone_is_offline_at_every_node_until_it_is_back() {
    let origin = load::echoing().await;
    let cluster = Cluster::start(&[]).await;
    let mut client = cluster.client_at(0, &origin.url()).await;
    let doors: Vec<_> = (0..3).map(|node| cluster.door_at(node, &client)).collect();
    // The third one has never heard of it.
    for door in &doors[..2] {
        assert_eq!(door.get("/").await.status(), 200);
    }
    let exit = client.process.stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    for door in &doors {
        let reply = door.get("/").await;
        reply.explained(503, "tunnel-offline");
        let seconds = reply.head.text("retry-after").expect("when to come back");
        assert!(seconds.parse::<u32>().is_ok(), "{seconds}");
    }
    // At another node than before.
    let _client = cluster.client_at(2, &origin.url()).await;
    for door in &doors {
        assert_eq!(door.get("/").await.status(), 200);
    }
}

#[tokio::test]
async fn one_key_has_one_name_at_every_node() {
    let origin = load::echoing().await;
    let cluster = Cluster::start(&[]).await;
    let one = cluster.client_at(0, &origin.url()).await;
    let two = cluster.client_at(1, &origin.url()).await;
    assert_eq!(one.public_url, two.public_url);
}

#[tokio::test]
async fn sessions_for_one_name_are_bounded() {
    let origin = load::echoing().await;
    let home = Home::new();
    let file = home.file("proxy.toml");
    std::fs::write(&file, "[limits]\nmax_sessions_per_name = 1\n")
        .expect("a temporary folder can be written to");
    let mut cluster = Cluster::start(&["--config", path_text(&file)]).await;
    let _first = cluster.client_at(0, &origin.url()).await;
    // At the same node there is no place for another.
    let key = cluster.home.file("key.pem");
    let url = cluster.nodes[0].url();
    let mut second = crate::harness::Client::spawn(&url, &origin.url(), &key, &[]);
    second.words("max_sessions_per_name").await;
    second.kill().await;
    // The bound is each node's own: at another one there is.
    let elsewhere = cluster.client_at(1, &origin.url()).await;
    assert_eq!(cluster.door_at(2, &elsewhere).get("/").await.status(), 200);
    cluster.nodes[0].process.kill().await;
    assert_eq!(cluster.door_at(1, &elsewhere).get("/").await.status(), 200);
}
