//! Visitors whose address a balancer tells by the PROXY protocol.

use std::time::Duration;

use crate::harness::{
    Origin, Process, Setup, Wire, http1::connect_from, origin, origin::vacant, path_text, process::find,
    secured::Secured, tunnel::Home, within,
};

/// The `for` of the visitor and what stands before it.
fn forwarded(origin: &origin::Answering) -> (String, String) {
    let seen = origin.seen();
    let head = &seen.last().expect("a request").head;
    (head.text("x-forwarded-for").expect("always there"), head.text("forwarded").expect("always there"))
}

#[tokio::test]
async fn the_visitor_is_whom_the_header_names_and_a_health_check_is_the_balancer() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    // The client comes past the balancer, by another of this machine's addresses.
    let tunnel = Setup::new().proxy(&["--proxy-protocol", "127.0.0.2"]).start(&origin.url()).await;
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x08\x0a\0\0\x01\x04\xd2\x01\xbb";
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (header, address) in [
        (&b"PROXY TCP4 203.0.113.7 10.0.0.1 1234 443\r\n"[..], "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1234 443\r\n", "2001:db8::7"),
        (v2, "203.0.113.8"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.2"),
        (local, "127.0.0.2"),
    ] {
        let mut visitor = Wire::connect_from("127.0.0.2", tunnel.proxy.address).await;
        // All in one piece, as it may come.
        visitor.send([header, &tunnel.head("GET /", &["X-Forwarded-For: 198.51.100.9"])].concat()).await;
        assert_eq!(visitor.reply("GET").await.status(), 200, "{address}");
        let (list, forwarded) = forwarded(&origin);
        assert_eq!(list, address);
        assert!(forwarded.contains(address), "{forwarded}");
    }
}

#[tokio::test]
async fn from_a_balancer_it_has_to_be_there_and_from_nobody_else() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let tunnel = Setup::new().proxy(&["--proxy-protocol", "127.0.0.2"]).start(&origin.url()).await;
    for bytes in [
        tunnel.head("GET /", &[]),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00".to_vec(),
        b"PROXY TCP4 203.0.113.7 10.0.0.1 1234\r\n".to_vec(),
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[0; 100]].concat(),
    ] {
        let mut balancer = Wire::connect_from("127.0.0.2", tunnel.proxy.address).await;
        // It may be gone before all is sent.
        let _ = balancer.try_send(&bytes).await;
        assert!(balancer.closed().await.is_empty(), "nothing is said to it");
    }
    for header in [&b"PROXY TCP4 203.0.113.7 10.0.0.1 1234 443\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut visitor = Wire::connect_from("127.0.0.3", tunnel.proxy.address).await;
        visitor.send([header, &tunnel.head("GET /", &[])].concat()).await;
        visitor.reply("GET").await.explained(400, "bad-request");
    }
    assert_eq!(origin.seen().len(), 0, "no request got through");
}

#[tokio::test]
async fn real_haproxy_tells_who_comes_and_leaves_tls_to_the_proxy() {
    let Some(haproxy) = find("haproxy") else {
        println!("skipped: there is no haproxy here (on Debian: apt install haproxy)");
        return;
    };
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let tunnel = Secured::start(&origin.url(), "", &["--proxy-protocol", "127.0.0.2"]).await;
    let (front, home) = (vacant().await, Home::new());
    let settings = format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n\
         frontend front\n  bind {front}\n  default_backend nodes\n\
         backend nodes\n  server one {} send-proxy-v2 source 127.0.0.2\n",
        tunnel.address()
    );
    std::fs::write(home.file("haproxy.cfg"), settings).expect("a temporary folder can be written to");
    let file = home.file("haproxy.cfg");
    let _balancer = Process::run("haproxy", home.path(), &haproxy, ["-db", "-f", path_text(&file)], &[]);
    let mut often = tokio::time::interval(Duration::from_millis(20));
    let socket = within("haproxy to listen", async {
        loop {
            if let Ok(socket) = connect_from("127.0.0.7", front).await {
                break socket;
            }
            often.tick().await;
        }
    })
    .await;
    let mut visitor = Wire::over(tunnel.visitor().over(socket, tunnel.name()).await.expect("a handshake"));
    visitor.send(tunnel.get("/")).await;
    assert_eq!(visitor.reply("GET").await.status(), 200);
    let (list, forwarded) = forwarded(&origin);
    assert_eq!(list, "127.0.0.7");
    assert!(forwarded.starts_with("for=127.0.0.7;") && forwarded.ends_with(";proto=https"), "{forwarded}");
}
