//! Taking a key's right away ends its sessions at every node whose file says so, and its client with them.

use crate::harness::{
    Client, Cluster, Door, Origin, Proxy, applicant, applicant::Applicant, origin::ok, path_text,
    tunnel::Home,
};

fn listed(names: &[&str], revoked: &str) -> String {
    let keys: String = names.iter().map(|name| format!("[[registration.key]]\nname = '{name}'\n")).collect();
    format!("[registration]\nrevoked = [{revoked}]\n{keys}")
}

#[tokio::test]
async fn a_revoked_key_s_session_ends_with_what_is_under_way_and_its_client_does_not_come_back() {
    let origin = Origin::start().await;
    let home = Home::new();
    let (key, name) = home.key("key.pem").await;
    let (other_key, other) = home.key("other.pem").await;
    let settings = home.write("proxy.toml", &listed(&[&name, &other], ""));
    let mut proxy = Proxy::start(&["--config", path_text(&settings)]).await;
    let mut client = Client::start(&proxy.url(), &origin.url(), &key, &["--connections", "2"]).await;
    let stays = Client::start(&proxy.url(), &origin.url(), &other_key, &[]).await;
    let door = Door { address: proxy.address, host: client.host().to_owned() };
    let mut visitor = door.ask("GET /slow", &[]).await;
    let _under_way = origin.request().await;
    home.write("proxy.toml", &listed(&[&name, &other], &format!("'{name}'")));
    visitor.reply("GET").await.explained(502, "tunnel-gone");
    let exit = client.process.exit().await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(exit.stderr.contains("isn't allowed at this proxy any more"), "{}", exit.stderr);
    // A third one, on the way to another node, may have left by itself.
    let of_both =
        |event: &serde_json::Value| event["reason"].as_str().is_some_and(|it| it.contains("any more"));
    for _ in 0..2 {
        let event = proxy.process.event_where("unregistered", of_both).await;
        assert_eq!(event["tunnel"], name.as_str());
    }
    door.get("/").await.explained(503, "tunnel-offline");
    let exit = Client::spawn(&proxy.url(), &origin.url(), &key, &[]).exit().await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    // The other one has seen nothing of it.
    let door = Door { address: proxy.address, host: stays.host().to_owned() };
    let mut visitor = door.ask("GET /", &[]).await;
    let (mut wire, _) = origin.request().await;
    wire.send(ok("still here")).await;
    assert_eq!(visitor.reply("GET").await.text(), "still here");
}

#[tokio::test]
async fn a_client_that_does_nothing_is_told_and_its_session_is_over() {
    let home = Home::new();
    let key = applicant::key(3);
    let name = tunnel::wire::TunnelName::of_key(&key.verifying_key());
    let settings = home.write("proxy.toml", &listed(&[name.as_str()], ""));
    let mut proxy = Proxy::start(&["--config", path_text(&settings)]).await;
    let mut applicant = Applicant::connect(proxy.address).await;
    let signed = applicant::statement(proxy.address, applicant.nonce).sign(&key);
    applicant.apply(signed).await.expect("listed");
    home.write("proxy.toml", &listed(&[], &format!("'{name}'")));
    proxy.process.event("unregistered").await;
    let refusal = applicant.outcome().await.expect_err("a word of farewell");
    assert_eq!((refusal.code.as_str(), refusal.retry), ("revoked", false));
    // It says why before it closes; nothing comes after.
    assert_eq!(applicant.frames.next().await.code(), Some(1008));
}

/// Not even the last one that goes opens the door, where others than this machine come.
#[tokio::test]
async fn a_public_proxy_whose_list_becomes_empty_lets_nobody_in() {
    let home = Home::new();
    let (key, name) = home.key("key.pem").await;
    let settings = home.write("proxy.toml", &listed(&[&name], ""));
    let arguments = ["--config", path_text(&settings), "--public-url", "http://tunnels.example"];
    let mut proxy = Proxy::start(&arguments).await;
    let mut client = Client::start(&proxy.url(), "http://127.0.0.1:9", &key, &[]).await;
    home.write("proxy.toml", "");
    proxy.process.words("nobody may register any more").await;
    assert_eq!(client.process.exit().await.code, Some(1));
    let exit = Client::spawn(&proxy.url(), "http://127.0.0.1:9", &home.file("other.pem"), &[]).exit().await;
    assert!(exit.stderr.contains("listed or invited"), "{exit:?}");
}

#[tokio::test]
async fn every_node_that_has_the_file_ends_them() {
    let origin = Origin::start().await.answering(|_| ok("in"));
    let home = Home::new();
    let (_, name) = Home::new().key("unused.pem").await;
    let settings = home.write("proxy.toml", "[registration]\nopen = true\n");
    let mut cluster = Cluster::start(&["--config", path_text(&settings)]).await;
    let mut clients = Vec::new();
    for node in 0..3 {
        clients.push(cluster.client_at(node, &origin.url()).await);
    }
    let label = clients[0].label().to_owned();
    assert_ne!(label, name);
    home.write("proxy.toml", &format!("[registration]\nopen = true\nrevoked = ['{label}']\n"));
    for (node, client) in cluster.nodes.iter_mut().zip(&mut clients) {
        node.process.event("unregistered").await;
        assert_eq!(client.process.exit().await.code, Some(1));
    }
    let door = cluster.door_at(1, &clients[0]);
    door.get("/").await.explained(503, "tunnel-offline");
}
