//! Chosen names and invitations where several nodes share a Redis.

use crate::harness::{
    Client, Cluster, Door, Origin, Proxy, Redis,
    applicant::{self, Applicant},
    origin::ok,
    path_text,
    tunnel::Home,
};

fn owner(name: &str) -> String {
    format!(
        "[registration]\n[[registration.key]]\nname = '{name}'\nhostnames = ['blog']\ndomains = ['www.example.org']\n"
    )
}

#[tokio::test]
async fn a_chosen_name_is_found_from_every_node() {
    let origin = Origin::start().await.answering(|_| ok("in"));
    let home = Home::new();
    let (key, name) = home.key("key.pem").await;
    let settings = home.write("proxy.toml", &owner(&name));
    let cluster = Cluster::start(&["--config", path_text(&settings)]).await;
    for (wish, host) in [("blog", "blog.localhost"), ("www.example.org", "www.example.org")] {
        let url = cluster.nodes[0].url();
        let _client = Client::start(&url, &origin.url(), &key, &["--hostname", wish]).await;
        for node in &cluster.nodes {
            let door = Door { address: node.address(), host: host.to_owned() };
            assert_eq!(door.get("/").await.text(), "in", "{wish}");
        }
    }
}

#[tokio::test]
async fn nodes_with_different_lists_do_not_give_one_name_to_two_keys() {
    let (redis, home) = (Redis::start().await, Home::new());
    let url = redis.url();
    let keys = [home.key("one.pem").await, home.key("other.pem").await];
    let mut nodes = Vec::new();
    for (n, (_, name)) in keys.iter().enumerate() {
        let settings = home.write(&format!("proxy{n}.toml"), &owner(name));
        nodes.push(Proxy::start(&["--bus", &url, "--config", path_text(&settings)]).await);
    }
    let urls: Vec<_> = nodes.iter().map(Proxy::url).collect();
    let start = |n: usize| Client::spawn(&urls[n], "http://127.0.0.1:9", &keys[n].0, &["--hostname", "blog"]);
    let mut first = start(0);
    first.event("registered").await;
    let mut second = start(1);
    // It waits until the other one has left.
    let event = second.event("disconnected").await;
    assert!(
        event["reason"].as_str().is_some_and(|reason| reason.contains("in use by another key")),
        "{event}"
    );
    assert!(event["retry_in_ms"].as_u64().is_some_and(|wait| wait >= 10_000), "{event}");
    assert!(nodes[1].process.events("registered").is_empty());
    second.kill().await;
    first.stop().await;
    nodes[0].process.event("unregistered").await;
    let mut second = start(1);
    second.event("registered").await;
    let mut first = start(0);
    first.event("disconnected").await;
}

#[tokio::test]
async fn a_name_whose_redis_has_forgotten_stays_with_whoever_holds_it() {
    let (mut redis, home) = (Redis::start().await, Home::new());
    let url = redis.url();
    let keys = [home.key("one.pem").await, home.key("other.pem").await];
    let mut nodes = Vec::new();
    for (n, (_, name)) in keys.iter().enumerate() {
        let settings = home.write(&format!("proxy{n}.toml"), &owner(name));
        nodes.push(Proxy::start(&["--bus", &url, "--config", path_text(&settings)]).await);
    }
    let hostname = ["--hostname", "blog"];
    let holder = Client::start(&nodes[0].url(), "http://127.0.0.1:9", &keys[0].0, &hostname).await;
    redis.kill().await;
    redis.start_again().await;
    // Once the visitors of the other node find it, it is written again.
    let door = Door { address: nodes[1].address, host: holder.host().to_owned() };
    crate::harness::within("the name to be written again", async {
        while door.get("/").await.status() != 502 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut second = Client::spawn(&nodes[1].url(), "http://127.0.0.1:9", &keys[1].0, &hostname);
    second.event("disconnected").await;
    assert!(nodes[1].process.events("registered").is_empty());
    drop(nodes.remove(0));
}

#[tokio::test]
async fn an_invitation_for_one_key_is_spent_at_all_nodes() {
    let home = Home::new();
    let file = home.file("invitations.toml");
    let exit = home.run(&["proxy", "invite", "--file", path_text(&file)]).await;
    let invitation = exit.stdout.trim_end();
    let settings = home.write("proxy.toml", "[registration]\ninvitations = 'invitations.toml'\n");
    let cluster = Cluster::start(&["--config", path_text(&settings)]).await;
    for (node, key, expected) in
        [(0, 1, None), (1, 2, Some("invitation-spent")), (2, 1, None), (0, 2, Some("invitation-spent"))]
    {
        let proxy = cluster.nodes[node].address();
        let mut applicant = Applicant::connect(proxy).await;
        let mut statement = applicant::statement(proxy, applicant.nonce);
        statement.invitation = Some(invitation.to_owned());
        let outcome = applicant.apply(statement.sign(&applicant::key(key))).await;
        assert_eq!(outcome.err().map(|refusal| refusal.code).as_deref(), expected, "node {node}, key {key}");
    }
}
