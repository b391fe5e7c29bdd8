//! Header fields: what passes untouched, what is taken off, what the proxy says itself.

use crate::harness::{Origin, Setup, Tunnel};

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[tokio::test]
async fn repeated_fields_keep_their_order_both_ways() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let fields = ["X-A: 1", "Cookie: a=1", "X-B: b", "X-A: 2", "X-A:", "X-A: 1, 2", "Accept: text/html"];
    let mut visitor = tunnel.ask("GET /", &fields).await;
    let (mut answers, request) = origin.request().await;
    assert_eq!(request.head.texts("x-a"), ["1", "2", "", "1, 2"]);
    assert_eq!(request.head.texts("x-b"), ["b"]);
    assert_eq!(request.head.texts("cookie"), ["a=1"]);
    assert_eq!(request.head.texts("accept"), ["text/html"]);

    answers.send("HTTP/1.1 204 No Content\r\nSet-Cookie: b=2; Path=/, x\r\nX-A: z\r\n").await;
    answers.send("Set-Cookie: a=1\r\nX-A: y\r\nSet-Cookie: a=1\r\n\r\n").await;
    let reply = visitor.reply("GET").await;
    assert_eq!(reply.head.texts("set-cookie"), ["b=2; Path=/, x", "a=1", "a=1"]);
    assert_eq!(reply.head.texts("x-a"), ["z", "y"]);
}

#[tokio::test]
async fn values_that_are_not_utf_8_pass_both_ways() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    // All that RFC 9110 section 5.5 allows: visible ASCII, space and tab inside, and obs-text.
    let value: Vec<u8> = (0x21..=0xff).filter(|byte| *byte != 0x7f).chain(*b" \t.").collect();
    let mut visitor = tunnel.visit().await;
    let head = format!("GET / HTTP/1.1\r\nHost: {}\r\nX-Raw: ", tunnel.host());
    visitor.send([head.as_bytes(), &value, b"\r\n\r\n"].concat()).await;
    let (mut answers, request) = origin.request().await;
    assert_eq!(request.head.all("x-raw"), [&value]);
    answers.send([b"HTTP/1.1 204 No Content\r\nX-Raw: ", &value[..], b"\r\n\r\n"].concat()).await;
    assert_eq!(visitor.reply("GET").await.head.all("x-raw"), [&value]);
}

#[tokio::test]
async fn hop_by_hop_fields_stay_on_their_hop() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let fields = [
        "Connection: keep-alive, X-Named, x-also-named",
        "X-Named: secret",
        "X-Also-Named: secret",
        "X-Stays: 1",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic secret",
        "TE: gzip",
        "Upgrade: h2c",
        "Authorization: Bearer kept",
    ];
    let mut visitor = tunnel.ask("GET /", &fields).await;
    let (mut answers, request) = origin.request().await;
    for gone in
        ["x-named", "x-also-named", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade"]
    {
        assert!(!request.head.has(gone), "{gone}: {:?}", request.head);
    }
    assert!(!String::from_utf8_lossy(&request.head.raw).contains("secret"));
    assert!(!request.head.texts("te").iter().any(|te| te.contains("gzip")), "{:?}", request.head);
    assert_eq!(request.head.texts("x-stays"), ["1"]);
    assert_eq!(request.head.texts("authorization"), ["Bearer kept"]);

    answers.send("HTTP/1.1 204 No Content\r\nConnection: X-Named\r\nX-Named: secret\r\nX-Stays: 2\r\n").await;
    answers.send("Keep-Alive: timeout=77\r\nProxy-Authenticate: Basic\r\n\r\n").await;
    let reply = visitor.reply("GET").await;
    for gone in ["x-named", "proxy-authenticate"] {
        assert!(!reply.head.has(gone), "{gone}: {:?}", reply.head);
    }
    assert!(!reply.head.texts("keep-alive").iter().any(|value| value.contains("77")), "{:?}", reply.head);
    assert_eq!(reply.head.texts("x-stays"), ["2"]);
}

#[tokio::test]
async fn the_connection_field_cannot_take_away_what_the_proxy_sets() {
    // A visitor that names X-Forwarded-For in Connection would otherwise hide its address.
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let _visitor = tunnel.ask("GET /", &["Connection: X-Forwarded-For, Forwarded, Host"]).await;
    let (_, request) = origin.request().await;
    assert_eq!(request.head.text("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert!(request.head.has("host") && request.head.has("forwarded"), "{:?}", request.head);
}

#[tokio::test]
async fn the_proxy_says_who_asked_and_believes_no_visitor() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let lies = [
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-For: 6.6.6.7",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: gopher",
        "Forwarded: for=6.6.6.6;host=evil.example;proto=gopher",
    ];
    let mut visitor = tunnel.ask("GET /", &lies).await;
    let (mut answers, request) = origin.request().await;
    let head = &request.head;
    assert_eq!(head.texts("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(head.texts("x-forwarded-host"), [tunnel.host()]);
    assert_eq!(head.texts("x-forwarded-proto"), ["http"]);
    let forwarded = head.text("forwarded").expect("RFC 7239 too");
    for part in ["for=127.0.0.1", &format!("host=\"{}\"", tunnel.host()), "proto=http"] {
        assert!(forwarded.contains(part), "{forwarded}");
    }
    let raw = String::from_utf8_lossy(&head.raw).into_owned();
    assert!(!raw.contains("6.6.6") && !raw.contains("evil") && !raw.contains("gopher"), "{raw}");
    answers.send(NO_CONTENT).await;
    assert_eq!(visitor.reply("GET").await.status(), 204);
}

#[tokio::test]
async fn a_trusted_proxy_in_front_is_believed() {
    let origin = Origin::start().await;
    let tunnel = Setup::new().proxy(&["--trusted-proxy", "127.0.0.0/8"]).start(&origin.url()).await;
    let fields = ["X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example"];
    let _visitor = tunnel.ask("GET /", &fields).await;
    let (_, request) = origin.request().await;
    assert_eq!(request.head.texts("x-forwarded-for"), ["192.0.2.7, 127.0.0.1"]);
    assert_eq!(request.head.texts("x-forwarded-proto"), ["https"]);
    // Anybody can slip this one past a web server that doesn't set it.
    assert_eq!(request.head.texts("x-forwarded-host"), [tunnel.host()]);
    let forwarded = request.head.text("forwarded").expect("RFC 7239 too");
    assert!(forwarded.starts_with("for=192.0.2.7;") && !forwarded.contains("shop.example"), "{forwarded}");
}

#[tokio::test]
async fn fields_that_belong_to_the_tunnel_are_its_own() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut visitor = tunnel.ask("GET /", &["Tunnel-Fake: lie", "tunnel-request-id: lie"]).await;
    let (mut answers, request) = origin.request().await;
    assert!(!request.head.has("tunnel-fake"), "{:?}", request.head);
    assert!(!String::from_utf8_lossy(&request.head.raw).contains("lie"), "{:?}", request.head);
    answers
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTunnel-Error: lie\r\nTunnel-Fake: lie\r\n\r\n")
        .await;
    let reply = visitor.reply("GET").await;
    assert_eq!((reply.status(), reply.error()), (200, None));
    assert!(!reply.head.has("tunnel-fake"), "{:?}", reply.head);
}

#[tokio::test]
async fn the_origin_sees_the_host_that_its_owner_wants() {
    for (setting, expected) in
        [("keep", None), ("origin", Some("origin")), ("app.lan:81", Some("app.lan:81"))]
    {
        let origin = Origin::start().await;
        let tunnel = Setup::new().client(&["--host-header", setting]).start(&origin.url()).await;
        let _visitor = tunnel.ask("GET /", &[]).await;
        let (_, request) = origin.request().await;
        let expected = match expected {
            None => tunnel.host().to_owned(),
            Some("origin") => origin.address().to_string(),
            Some(value) => value.to_owned(),
        };
        assert_eq!(request.head.text("host"), Some(expected), "--host-header {setting}");
        // Whatever the origin sees as its own, it can still learn what the visitor asked for.
        assert_eq!(request.head.text("x-forwarded-host").as_deref(), Some(tunnel.host()));
    }
}
