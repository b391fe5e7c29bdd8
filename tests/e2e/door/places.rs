//! Connections in numbers: who is served, who has to go, and who never is in the way of whom.

use crate::harness::{
    Client, Frame, Frames, Opcode, Origin, Setup, Tunnel, Wire, origin, secured::Secured, websocket, within,
};

async fn metric(proxy: &crate::harness::Proxy, line: &str) -> Option<String> {
    let mut admin = Wire::connect(proxy.admin.expect("an admin listener")).await;
    admin.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let text = admin.reply("GET").await.text();
    text.lines().find_map(|has| has.strip_prefix(line).map(|value| value.trim().to_owned()))
}

async fn start(limits: &str, origin: &str, arguments: &[&str]) -> Tunnel {
    let arguments = [&["--admin", "127.0.0.1:0"], arguments].concat();
    Setup::new().proxy_file(&format!("[limits]\n{limits}")).proxy(&arguments).start(origin).await
}

#[tokio::test]
async fn whoever_only_holds_connections_makes_room_for_those_who_ask() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let tunnel = start("max_connections = 4", &origin.url(), &[]).await;
    let mut idle = Vec::new();
    for begun in ["", "GET / HTTP/1.1\r\nX-Slow: ", "G", ""] {
        let mut wire = tunnel.visit().await;
        wire.send(begun).await;
        idle.push(wire);
    }
    let mut kept = Vec::new();
    for _ in 0..4 {
        let mut visitor = tunnel.ask("GET /", &[]).await;
        assert_eq!(visitor.reply("GET").await.status(), 200);
        kept.push(visitor);
    }
    for wire in &mut idle {
        let said = wire.closed().await;
        assert!(said.is_empty(), "nothing is said to it: {}", String::from_utf8_lossy(&said));
    }
    for visitor in &mut kept {
        visitor.send(tunnel.head("GET /", &[])).await;
        assert_eq!(visitor.reply("GET").await.status(), 200, "who was served stays");
    }
    assert_eq!(metric(&tunnel.proxy, "tunnel_connections_refused_total").await, None);
    assert_eq!(metric(&tunnel.proxy, "tunnel_connections_displaced_total").await.as_deref(), Some("4"));
}

#[tokio::test]
async fn where_all_are_served_a_visitor_waits_and_a_client_still_comes_in() {
    let origin = Origin::start().await;
    let tunnel = start("max_connections = 2", &origin.url(), &[]).await;
    let mut served = Vec::new();
    for _ in 0..2 {
        let visitor = tunnel.ask("GET /", &[]).await;
        served.push((visitor, origin.request().await.0));
    }
    let refused = tunnel.ask("GET /", &[]).await.reply("GET").await;
    let text = refused.explained(503, "too-many-connections");
    assert!(text.contains("Try again in a moment"), "{text}");
    assert_eq!(refused.head.text("retry-after").as_deref(), Some("1"));
    let key = tunnel.proxy.home.file("other.pem");
    let other = Client::start(&tunnel.proxy.url(), &origin.url(), &key, &[]).await;
    let (mut visitor, mut answers) = served.pop().expect("two");
    answers.send(origin::ok("late")).await;
    assert_eq!(visitor.reply("GET").await.text(), "late");
    drop(visitor);
    // The client's session takes no visitor's place.
    let mut visitor = tunnel.visit().await;
    visitor.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", other.host())).await;
    let (mut answers, _) = origin.request().await;
    answers.send(origin::ok("there")).await;
    assert_eq!(visitor.reply("GET").await.text(), "there");
}

#[tokio::test]
async fn a_websocket_keeps_its_place_until_it_ends() {
    let origin = Origin::start().await;
    let tunnel = start("max_connections = 1", &origin.url(), &[]).await;
    let (mut near, mut far): (Frames, Frames) = websocket::open(&tunnel, &origin, "/").await;
    tunnel.ask("GET /", &[]).await.reply("GET").await.explained(503, "too-many-connections");
    near.send(Frame::whole(Opcode::Text, "still there")).await;
    assert_eq!(far.message().await.payload, b"still there");
    near.send(Frame::close(1000, "")).await;
    far.message().await;
    far.send(Frame::close(1000, "")).await;
    near.message().await;
    near.ended().await;
    within("the place to be free", async {
        loop {
            let mut visitor = tunnel.ask("GET /", &[]).await;
            tokio::select! {
                reply = visitor.reply("GET") => assert_eq!(reply.status(), 503),
                (mut answers, _) = origin.request() => {
                    answers.send(origin::ok("in")).await;
                    assert_eq!(visitor.reply("GET").await.text(), "in");
                    return;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn one_address_has_its_share_and_a_balancer_has_many_addresses() {
    let origin = Origin::start().await;
    let tunnel =
        start("max_connections_per_address = 2", &origin.url(), &["--proxy-protocol", "127.0.0.2"]).await;
    let from = |address: &'static str| {
        let head = tunnel.head("GET /", &[]);
        let proxy = tunnel.proxy.address;
        async move {
            let mut visitor = Wire::connect_from("127.0.0.2", proxy).await;
            let header = format!("PROXY TCP6 {address} ::1 1234 443\r\n");
            visitor.send([header.as_bytes(), &head].concat()).await;
            visitor
        }
    };
    let mut served = Vec::new();
    for address in ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"] {
        let visitor = from(address).await;
        served.push((visitor, origin.request().await.0));
    }
    let mut refused = from("2001:db8::3").await;
    assert_eq!(refused.head().await.status(), 503);
    let count = metric(&tunnel.proxy, "tunnel_connections_refused_total{reason=\"address\"}").await;
    assert_eq!(count.as_deref(), Some("1"));
    for (mut visitor, mut answers) in served {
        answers.send(origin::ok("ok")).await;
        assert_eq!(visitor.reply("GET").await.status(), 200);
    }
}

#[tokio::test]
async fn an_unused_connection_ends_without_a_word_and_half_a_head_with_one() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let limits = "idle_timeout = '300ms'\nheader_timeout = '200ms'";
    let tunnel = start(limits, &origin.url(), &[]).await;
    let mut unused = tunnel.visit().await;
    unused.send(tunnel.head("GET /", &[])).await;
    assert_eq!(unused.reply("GET").await.status(), 200);
    assert!(unused.closed().await.is_empty());
    let mut slow = tunnel.visit().await;
    slow.send(tunnel.head("GET /", &[])).await;
    assert_eq!(slow.reply("GET").await.status(), 200);
    slow.send("GET / HTTP/1.1\r\nHost: ").await;
    assert_eq!(slow.head().await.status(), 408);
}

#[tokio::test]
async fn handshakes_that_never_end_make_room_too() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let more = "handshake_timeout = '1h'\n[limits]\nmax_connections = 3";
    let tunnel = Secured::start(&origin.url(), more, &[]).await;
    let mut stuck = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::connect(tunnel.address()).await;
        wire.send(b"\x16\x03\x01\x02\x00\x01\x00").await;
        stuck.push(wire);
    }
    for _ in 0..3 {
        let mut visitor = tunnel.visit().await;
        visitor.send(tunnel.get("/")).await;
        assert_eq!(visitor.reply("GET").await.status(), 200);
        stuck.push(visitor);
    }
    for wire in &mut stuck[..3] {
        let closed = wire.closed().await;
        assert!(closed.is_empty(), "{closed:?}");
    }
}

#[tokio::test]
async fn clients_take_no_visitors_places() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let tunnel = start("max_connections = 2", &origin.url(), &[]).await;
    let mut clients = Vec::new();
    for number in 0..30 {
        let key = tunnel.proxy.home.file(&format!("{number}.pem"));
        clients.push(Client::start(&tunnel.proxy.url(), &origin.url(), &key, &[]).await);
    }
    assert_eq!(metric(&tunnel.proxy, "tunnel_connections_displaced_total").await.as_deref(), Some("0"));
    let mut kept = [tunnel.visit().await, tunnel.visit().await];
    for _ in 0..3 {
        for visitor in &mut kept {
            visitor.send(tunnel.head("GET /", &[])).await;
            assert_eq!(visitor.reply("GET").await.status(), 200);
        }
    }
    assert_eq!(metric(&tunnel.proxy, "tunnel_connections_displaced_total").await.as_deref(), Some("0"));
}
