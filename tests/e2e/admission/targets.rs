//! Where the client connects: to its target, whatever a stranger's request says; and what the target can always tell.

use crate::harness::{Origin, Request, Setup, Tunnel, guest, origin::ok};

/// A request that asks for another place in its first line or its headers; `other` is where a second service listens.
fn tricks(host: &str, other: &str) -> Vec<String> {
    let port = other.rsplit(':').next().expect("split gives at least one part");
    vec![
        format!("GET http://{host}/plain HTTP/1.1\r\nHost: {host}\r\n"),
        format!("GET //{other}/ HTTP/1.1\r\nHost: {host}\r\n"),
        format!("GET ///{other}/ HTTP/1.1\r\nHost: {host}\r\n"),
        format!("GET /\\{other}/ HTTP/1.1\r\nHost: {host}\r\n"),
        format!("GET /@{other}/ HTTP/1.1\r\nHost: {host}\r\n"),
        format!("GET /http://{other}/ HTTP/1.1\r\nHost: {host}\r\n"),
        format!("GET /x?url=http://{other}/ HTTP/1.1\r\nHost: {host}\r\n"),
        format!("GET /%2F%2F{other} HTTP/1.1\r\nHost: {host}\r\n"),
        format!("GET /..//{other} HTTP/1.1\r\nHost: {host}\r\n"),
        format!(
            "GET /x HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: {other}\r\nX-Forwarded-Port: {port}\r\n"
        ),
        format!("GET /x HTTP/1.1\r\nHost: {host}\r\nForwarded: host={other}\r\n"),
        format!(
            "GET /x HTTP/1.1\r\nHost: {host}\r\nX-Original-Url: http://{other}/\r\nX-Rewrite-Url: //{other}/\r\n"
        ),
        format!(
            "GET /x HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Server: {other}\r\nDestination: http://{other}/\r\n"
        ),
        format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n"),
    ]
}

/// Those that ask for what no tunnel does.
fn refused(host: &str, other: &str) -> Vec<String> {
    vec![
        format!("CONNECT {other} HTTP/1.1\r\nHost: {other}\r\n"),
        format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n"),
        format!("GET http://evil.example/ HTTP/1.1\r\nHost: {host}\r\n"),
        format!("GET http://{host}@{other}/ HTTP/1.1\r\nHost: {host}\r\n"),
        format!("GET http://user@{host}/ HTTP/1.1\r\nHost: {host}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}@{other}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {other}\r\nHost: {host}\r\n"),
        format!("GET ftp://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n"),
        format!("GET @{other} HTTP/1.1\r\nHost: {host}\r\n"),
        format!("GET {other} HTTP/1.1\r\nHost: {host}\r\n"),
    ]
}

#[tokio::test]
async fn no_request_leads_the_client_to_another_place() {
    let other = Origin::start().await.answering(|_| ok("elsewhere"));
    let place = other.address().to_string();
    // A redirect of the service is the visitor's to follow.
    let answer = format!("HTTP/1.1 302 Found\r\nLocation: http://{place}/\r\nContent-Length: 4\r\n\r\nhere");
    let origin = Origin::start().await.answering(move |_| answer.clone().into_bytes());
    for arguments in [&[][..], &["--host-header", "origin"], &["--host-header", &place]] {
        let tunnel = Setup::new().client(arguments).start(&origin.url()).await;
        for head in tricks(tunnel.host(), &place) {
            let mut visitor = tunnel.visit().await;
            visitor.send(format!("{head}Connection: close\r\n\r\n")).await;
            let reply = visitor.reply("GET").await;
            assert_eq!((reply.status(), reply.text().as_str()), (302, "here"), "{head}");
        }
        for head in refused(tunnel.host(), &place) {
            let mut visitor = tunnel.visit().await;
            visitor.send(format!("{head}Connection: close\r\n\r\n")).await;
            let status = visitor.head().await.status();
            assert!((400..500).contains(&status), "{head}: {status}");
        }
        // A WebSocket asks for nothing else either.
        let mut visitor = tunnel.visit().await;
        visitor
            .send(format!(
                "GET //{place}/ HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://{place}\r\n\r\n",
                tunnel.host()
            ))
            .await;
        assert_eq!(visitor.reply("GET").await.status(), 302);
    }
    assert_eq!(other.connections(), 0, "nothing came there");
}

fn forwarded(request: &Request) -> (String, String) {
    let text = |name| request.head.text(name).unwrap_or_default().to_owned();
    (text("forwarded"), text("x-forwarded-for"))
}

/// A service that trusts its own machine has to see that this isn't where the visitor is.
#[tokio::test]
async fn the_service_is_always_told_that_somebody_else_asks() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let own = tunnel.proxy.address;
    let host = tunnel.host().to_owned();
    let by_path = format!("/proxy/request/{}/", tunnel.client.label());
    let upgrade = "Connection: Upgrade, Forwarded, X-Forwarded-For\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (target, host, fields) in [
        ("/", host.as_str(), ""),
        ("/", &host, "Connection: close, Forwarded, X-Forwarded-For\r\n"),
        ("/", &host, "Forwarded: for=127.0.0.1\r\nX-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n"),
        ("/", &host, upgrade),
        (&by_path, &own.to_string(), ""),
        (&by_path, &own.to_string(), upgrade),
    ] {
        let mut visitor = tunnel.visit().await;
        visitor.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).await;
        let (mut wire, request) = origin.request().await;
        let (forwarded, list) = forwarded(&request);
        assert!(forwarded.starts_with("for=127.0.0.1;host="), "{fields}: {forwarded}");
        assert_eq!(list, "127.0.0.1", "{fields}");
        assert!(!request.head.has("x-real-ip"));
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        visitor.head().await;
    }
}

/// Plugins see requests and may change them, but not who asked.
#[tokio::test]
async fn a_plugin_can_not_take_that_away() {
    let origin = Origin::start().await;
    let wasm = guest("rewrite");
    for edit in [
        "remove = ['forwarded']",
        "remove = ['x-forwarded-for', 'forwarded']",
        "set = [['forwarded', 'for=192.0.2.9']]",
    ] {
        let file = format!(
            "[[plugin]]\nname = 'edits'\nfile = {wasm:?}\nconfig = {{ request = {{ {edit} }} }}\non_failure = 'skip'\n\
             [[policy]]\ndomain = '*'\nplugins = ['edits']\n"
        );
        let cache = crate::harness::compiled();
        let tunnel =
            Setup::new().proxy_file(&file).proxy(&["--plugin-cache", &cache]).start(&origin.url()).await;
        let mut visitor = tunnel.ask("GET /", &[]).await;
        let (mut wire, request) = origin.request().await;
        let (forwarded, list) = forwarded(&request);
        assert!(forwarded.starts_with("for=127.0.0.1;host="), "{edit}: {forwarded}");
        assert_eq!(list, "127.0.0.1", "{edit}");
        wire.send(ok("")).await;
        visitor.reply("GET").await;
    }
}
