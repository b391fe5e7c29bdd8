//! Requests and answers through a client of the original's dialect.

use serde_json::{Value, json};

use crate::harness::{Door, OldClient, Proxy, Reply, compiled, guest, tunnel::Home};

/// A proxy, and a client that has registered there.
async fn tunnel(arguments: &[&str]) -> (Proxy, OldClient, Door) {
    let proxy = Proxy::start(arguments).await;
    let mut client = OldClient::start(proxy.address, &[]);
    let door = client.registered().await;
    (proxy, client, door)
}

fn read(reply: &Reply) -> Value {
    assert_eq!(reply.status(), 200, "{}", reply.text());
    serde_json::from_slice(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.text()))
}

#[tokio::test]
async fn every_method_passes_with_its_path_query_and_headers() {
    let (_proxy, _client, door) = tunnel(&[]).await;
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE"] {
        let fields = ["X-Many: 1", "x-many: 2", "Cookie: a=b", "Accept: */*"];
        let mut visitor = door.ask(&format!("{method} /a%20b//../%C3%A5?q=%2F&q=+"), &fields).await;
        let seen = read(&visitor.reply(method).await);
        assert_eq!(
            (&seen["method"], &seen["url"], &seen["query"]),
            (&json!(method), &json!("/a b//../å"), &json!("q=%2F&q=+"))
        );
        let headers = &seen["headers"];
        assert_eq!(
            (&headers["X-Many"], &headers["Cookie"], &headers["Accept"]),
            (&json!("1, 2"), &json!("a=b"), &json!("*/*"))
        );
        assert_eq!(headers["X-Forwarded-Host"], door.host.as_str());
        assert!(headers.get("Host").is_none(), "{headers}");
    }
    let reply = door.get("/no-query").await;
    assert_eq!(read(&reply)["query"], Value::Null, "absent, not empty");
    assert_eq!(reply.head.text("content-type").as_deref(), Some("application/json"), "from contentType");
    assert_eq!(reply.head.text("x-service").as_deref(), Some("v1"));
}

#[tokio::test]
async fn a_head_has_no_body_and_a_status_is_kept() {
    let (_proxy, _client, door) = tunnel(&[]).await;
    let mut visitor = door.ask("HEAD /size/10", &[]).await;
    let reply = visitor.reply("HEAD").await;
    assert_eq!((reply.status(), reply.body.len()), (200, 0));
    for status in [204, 304, 404, 500] {
        assert_eq!(door.get(&format!("/status/{status}")).await.status(), status);
    }
}

#[tokio::test]
async fn bodies_of_500_kb_pass_both_ways_and_larger_ones_are_told_the_limit() {
    // The proxy itself would take more.
    let (_proxy, client, door) = tunnel(&["--max-body", "10MB"]).await;
    let body: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).take(500_000).collect();
    let reply = door.post("/echo-body", &body).await;
    assert_eq!((reply.status(), reply.body == body), (200, true));
    assert_eq!(door.get("/size/500000").await.body.len(), 500_000);

    let text = door.post("/echo-body", &vec![7; 500_001]).await.explained(413, "request-too-large");
    assert!(text.contains("500 kB"), "{text}");
    // Without a length it is found out on the way.
    let mut visitor = door.ask("POST /echo-body", &["Transfer-Encoding: chunked"]).await;
    for _ in 0..10 {
        // An answer may come, and the connection end, before all is sent.
        let _ = visitor.try_send(&[b"c350\r\n".as_slice(), &[7; 0xc350], b"\r\n"].concat()).await;
    }
    let _ = visitor.try_send(b"1\r\n7\r\n0\r\n\r\n").await;
    visitor.reply("POST").await.explained(413, "request-too-large");
    let posts = client.process.events("http-request");
    assert_eq!(posts.iter().filter(|event| event["method"] == "POST").count(), 1, "{posts:?}");
}

#[tokio::test]
async fn a_response_over_the_proxy_s_limit_is_refused_and_the_session_goes_on() {
    let (_proxy, _client, door) = tunnel(&[]).await;
    door.get("/size/2000000").await.explained(502, "response-too-large");
    assert_eq!(door.get("/size/3").await.body.len(), 3);
}

#[tokio::test]
async fn a_visitor_that_waits_for_100_continue_is_asked() {
    let (_proxy, _client, door) = tunnel(&[]).await;
    let mut visitor = door.ask("POST /echo-body", &["Content-Length: 5", "Expect: 100-continue"]).await;
    assert_eq!(visitor.head().await.status(), 100);
    visitor.send("hello").await;
    assert_eq!(visitor.reply("POST").await.text(), "hello");
}

#[tokio::test]
async fn an_answer_that_cannot_be_used_is_502_and_the_session_goes_on() {
    let (_proxy, _client, door) = tunnel(&[]).await;
    door.get("/spoilt").await.explained(502, "protocol-broken");
    assert_eq!(door.get("/").await.status(), 200);
}

#[tokio::test]
async fn what_is_lost_is_counted_and_told_once_a_session() {
    let (mut proxy, _client, door) = tunnel(&["--admin", "127.0.0.1:0"]).await;
    for _ in 0..2 {
        assert_eq!(
            door.ask("GET /a%2Fb", &["User-Agent: a", "User-Agent: b"]).await.reply("GET").await.status(),
            200
        );
    }
    for words in ["several values", "encoded slash"] {
        proxy.process.words(words).await;
    }
    let admin = Door { address: proxy.admin.expect("it was asked for"), host: "localhost".to_owned() };
    let metrics = admin.get("/metrics").await.text();
    for line in [r#"tunnel_v1_losses_total{what="header"} 2"#, r#"tunnel_v1_losses_total{what="path"} 2"#] {
        assert!(metrics.contains(line), "{line} is missing in:\n{metrics}");
    }
    let exit = proxy.process.stop().await;
    assert_eq!(
        exit.stderr.matches("several values").count() + exit.stdout.matches("several values").count(),
        1
    );
}

#[tokio::test]
async fn the_door_by_path_leads_there_too() {
    let (proxy, _client, door) = tunnel(&[]).await;
    let name = door.host.strip_suffix(".localhost").expect("a name under the domain");
    let own = Door { address: proxy.address, host: proxy.address.to_string() };
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let mut visitor = own.ask(&format!("{method} /proxy/request/{name}/x/y?k=v"), &[]).await;
        let seen = read(&visitor.reply(method).await);
        assert_eq!(
            (&seen["method"], &seen["url"], &seen["query"]),
            (&json!(method), &json!("/x/y"), &json!("k=v"))
        );
    }
}

#[tokio::test]
async fn policies_and_plugins_hold_as_for_any_other_client() {
    let home = Home::new();
    let file = home.file("proxy.toml");
    let wasm = guest("basic-auth");
    let settings = format!(
        "plugin_cache = {:?}\n[[plugin]]\nname = 'auth'\nfile = {wasm:?}\n[plugin.config.users]\n\
         anna = '2a97516c354b68848cdbd8f54a226a0a55b21ed138e207ad6c5cbb9c00aa5aea'\n\
         [[policy]]\ndomain = '*'\nplugins = ['auth']\n",
        compiled()
    );
    std::fs::write(&file, settings).expect("a temporary folder can be written to");
    let (_proxy, client, door) = tunnel(&["--config", crate::harness::path_text(&file)]).await;
    assert_eq!(door.get("/").await.status(), 401);
    assert_eq!(client.process.events("http-request").len(), 0, "the client wasn't asked");
}
