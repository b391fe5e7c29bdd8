//! What load balancers and monitors see of a node.

use std::net::SocketAddr;

use crate::harness::{Client, Origin, Reply, Setup, Signal, Tunnel, Wire, origin};

async fn ask(address: SocketAddr, target: &str) -> Reply {
    let mut asking = Wire::connect(address).await;
    asking.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
    asking.reply("GET").await
}

async fn with_admin(target: &str) -> (Tunnel, SocketAddr) {
    let tunnel = Setup::new().proxy(&["--admin", "127.0.0.1:0"]).start(target).await;
    let admin = tunnel.proxy.admin.expect("the event says where the admin listener is");
    (tunnel, admin)
}

async fn says(address: SocketAddr, target: &str, status: u16, text: &str) {
    let reply = ask(address, target).await;
    assert_eq!((reply.status(), reply.text()), (status, format!("{text}\n")), "{target}");
}

#[tokio::test]
async fn a_node_that_stops_is_not_ready_but_alive_while_an_exchange_is_under_way() {
    let origin = Origin::start().await;
    let (mut tunnel, admin) = with_admin(&origin.url()).await;
    for address in [admin, tunnel.proxy.address] {
        says(address, "/readyz", 200, "ready").await;
        says(address, "/healthz", 200, "ok").await;
    }
    let mut waiting = tunnel.ask("GET /waiting", &[]).await;
    let (mut answers, _) = origin.request().await;

    tunnel.proxy.process.signal(Signal::TERM);
    tunnel.proxy.process.event("draining").await;
    says(admin, "/readyz", 503, "draining").await;
    says(admin, "/healthz", 200, "ok").await;
    let metrics = ask(admin, "/metrics").await.text();
    assert!(metrics.contains("\ntunnel_exchanges_open 1\n"), "{metrics}");

    answers.send(origin::ok("waited")).await;
    assert_eq!(waiting.reply("GET").await.text(), "waited");
    let exit = tunnel.proxy.process.exit().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[tokio::test]
async fn metrics_count_sessions_and_what_came_of_exchanges() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let (mut tunnel, admin) = with_admin(&origin.url()).await;
    let mut second = Client::start(&tunnel.proxy.url(), &origin.url(), &tunnel.key, &[]).await;
    for _ in 0..3 {
        assert_eq!(tunnel.get("/").await.status(), 200);
    }
    let metrics = ask(admin, "/metrics").await;
    let kind = metrics.head.text("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = metrics.text();
    for line in ["tunnel_sessions_open 2\n", "tunnel_exchanges_total{outcome=\"2xx\"} 3\n"] {
        assert!(text.contains(line), "{line}{text}");
    }
    second.process.kill().await;
    tunnel.proxy.process.event("unregistered").await;
    let text = ask(admin, "/metrics").await.text();
    assert!(text.contains("tunnel_sessions_open 1\n"), "{text}");
}

#[tokio::test]
async fn an_admin_address_that_is_taken_ends_the_start_and_names_the_flag() {
    let (tunnel, admin) = with_admin("http://127.0.0.1:9").await;
    let exit =
        tunnel.proxy.home.run(&["proxy", "--listen", "127.0.0.1:0", "--admin", &admin.to_string()]).await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(exit.stderr.contains(&format!("can't listen on {admin} (--admin)")), "{}", exit.stderr);
}
