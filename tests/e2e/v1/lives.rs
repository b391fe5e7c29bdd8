//! How long a connection of the original's dialect lives, and how it ends.

use crate::harness::{OldClient, Proxy, Signal, tunnel::Home};

#[tokio::test]
async fn pings_of_text_and_of_the_websocket_keep_both_sides_awake() {
    // A second after which the session is gone if nothing were heard of the client; it never says anything by itself.
    let home = Home::new();
    let file = home.file("proxy.toml");
    std::fs::write(&file, "[limits]\nping_after = '500ms'\n").expect("a temporary folder can be written to");
    let proxy = Proxy::start(&["--config", crate::harness::path_text(&file)]).await;
    let mut client = OldClient::start(proxy.address, &[]);
    let door = client.registered().await;
    // The first comes after ten quiet seconds, and has nothing but its type.
    let ping = client.process.event("ping").await;
    assert_eq!(ping["members"], serde_json::json!(["@type"]));
    assert_eq!(door.get("/").await.status(), 200);
    assert_eq!(proxy.process.events("unregistered").len(), 0);
}

#[tokio::test]
async fn a_client_that_says_so_leaves_after_its_last_answer() {
    let mut proxy = Proxy::start(&[]).await;
    let mut client = OldClient::start(proxy.address, &[]);
    let door = client.registered().await;
    assert_eq!(door.get("/disconnect").await.status(), 200);
    assert_eq!(client.process.event("closed").await["code"], 1000);
    proxy.process.event("unregistered").await;
    door.get("/").await.explained(503, "tunnel-offline");
}

#[tokio::test]
async fn a_client_comes_back_when_the_proxy_has_restarted() {
    let mut proxy = Proxy::start(&[]).await;
    let mut client = OldClient::start(proxy.address, &["--reconnect"]);
    let door = client.registered().await;
    let address = proxy.address.to_string();
    proxy.process.kill().await;
    let _proxy = Proxy::start_at(&address, &[]).await;
    assert_eq!(client.registered().await.host, door.host);
    assert_eq!(door.get("/").await.status(), 200);
}

/// The client can't be told to move. It moves when its connection ends: at once if nothing is under way, else after that.
#[tokio::test]
async fn a_draining_proxy_lets_a_client_go_after_its_last_answer() {
    let mut proxy = Proxy::start(&[]).await;
    let (mut idle, mut busy) = (OldClient::start(proxy.address, &[]), OldClient::start(proxy.address, &[]));
    idle.registered().await;
    let door = busy.registered().await;
    let mut visitor = door.ask("GET /slow", &[]).await;
    busy.process.event("http-request").await;
    proxy.process.signal(Signal::TERM);
    assert_eq!(idle.process.event("closed").await["code"], 1012);
    busy.process.signal(Signal::USR1);
    assert_eq!(visitor.reply("GET").await.text(), "slow");
    assert_eq!(busy.process.event("closed").await["code"], 1012);
    assert_eq!(proxy.process.exit().await.code, Some(0));
}
