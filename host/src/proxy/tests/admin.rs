//! The listener for an operator's programs, and what it knows of the node.

use std::net::SocketAddr;

use tokio::sync::oneshot;

use super::{super::health::Readiness, *};
use crate::{
    bus::{Bus, MemoryBus, Seat, Standing, TooManySeats},
    wire::NodeId,
};

fn with_admin() -> Config {
    Config { admin: Some("127.0.0.1:0".parse().unwrap()), ..config() }
}

/// The whole answer to one request.
async fn ask(address: SocketAddr, line: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Status and text of the answer.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = ask(address, &format!("GET {path}")).await;
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), text.to_owned())
}

fn said(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

impl Node {
    fn admin(&self) -> SocketAddr {
        self.admin.expect("an admin listener")
    }

    async fn metrics(&self) -> String {
        get(self.admin(), "/metrics").await.1
    }
}

#[tokio::test]
async fn it_answers_what_it_is_for_and_nothing_else() {
    let node = Node::start(with_admin()).await;
    let admin = node.admin();
    assert_eq!(get(admin, "/healthz").await, said(200, "ok\n"));
    assert_eq!(get(admin, "/readyz?verbose").await, said(200, "ready\n"));
    assert_eq!(get(admin, "/").await.0, 404);
    let head = ask(admin, "HEAD /healthz").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("content-length: 3\r\n") && head.contains("cache-control: no-store\r\n"), "{head}");
    let refused = ask(admin, "DELETE /metrics").await;
    assert!(refused.starts_with("HTTP/1.1 405 ") && refused.contains("allow: GET, HEAD\r\n"), "{refused}");
    // Visitors have no business here, and find nothing of it on their own listener.
    assert!(
        !node
            .once("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .contains(" 200 ")
    );
    assert!(ask(admin, &format!("GET http://{}/", host())).await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn a_node_is_ready_from_its_start_to_its_drain_and_lives_to_its_end() {
    let proxy = bind(with_admin()).await.unwrap();
    let admin = proxy.admin_address().unwrap();
    assert_eq!(get(admin, "/readyz").await, said(503, "starting\n"));
    assert_eq!(get(admin, "/healthz").await, said(200, "ok\n"));
    drop(proxy);
    assert!(TcpStream::connect(admin).await.is_err(), "it ends with its node");

    let (begun, begins) = oneshot::channel();
    let (finish, finished) = oneshot::channel::<()>();
    let once = Mutex::new(Some((begun, finished)));
    let node = Node::with(with_admin(), move |_| {
        let (begun, finished) = once.lock().unwrap().take().unwrap();
        async move {
            begun.send(()).unwrap();
            finished.await.unwrap();
            ok("done")
        }
    })
    .await;
    let mut busy = node.connect().await;
    busy.get("/", "").await;
    begins.await.unwrap();
    assert_eq!(get(node.admin(), "/readyz").await, said(200, "ready\n"));
    node.stop.cancel();
    node.shared.drain.cancelled().await;
    assert_eq!(get(node.admin(), "/readyz").await, said(503, "draining\n"));
    assert_eq!(get(node.admin(), "/healthz").await, said(200, "ok\n"));
    assert!(node.metrics().await.contains("tunnel_exchanges_open 1\n"));
    let admin = node.admin();
    finish.send(()).unwrap();
    assert!(busy.rest().await.ends_with("done"));
    node.running.await.unwrap();
    assert!(TcpStream::connect(admin).await.is_err());
}

#[tokio::test]
async fn the_public_listener_says_the_same_to_balancers_on_its_own_host_alone() {
    let node = Node::with(config(), async |_| ok("the service's own")).await;
    let mut visitor = node.connect().await;
    visitor.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let (head, body) = visitor.response().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("no-store"), "{head}");
    assert_eq!(body, b"ready\n");
    visitor.get("/readyz", "").await;
    assert_eq!(visitor.response().await.1, b"the service's own");
    node.shared.drain.cancel();
    assert_eq!(super::super::own::ready(&node.shared).status(), 503);
}

/// A bus whose other nodes can't be reached.
struct Away(MemoryBus);

impl Forward for Away {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        self.0.forward(request)
    }
}

impl Bus for Away {
    fn register(&self, name: TunnelName, seat: Arc<dyn Seat>) -> Result<Registration, TooManySeats> {
        self.0.register(name, seat)
    }

    fn standing(&self) -> Standing {
        Standing::Away
    }
}

#[tokio::test]
async fn a_node_whose_bus_is_away_is_ready_for_its_own_tunnels() {
    let address = "127.0.0.1:1".parse().unwrap();
    let node = Shared::new(config(), address, NodeId(1), 0, Arc::new(Away(MemoryBus::new(1))), None);
    assert_eq!(Readiness::of(&node), Readiness::Starting);
    node.serving.store(true, std::sync::atomic::Ordering::Relaxed);
    let ready = Readiness::of(&node);
    assert_eq!((ready.status(), ready.words()), (StatusCode::OK, "ready, bus away\n"));
    node.drain.cancel();
    assert_eq!(Readiness::of(&node), Readiness::Draining);
}

#[tokio::test]
async fn exchanges_are_counted_by_what_came_of_them() {
    let node = Node::with(with_admin(), async |request: Request| match request.head.target.path() {
        "/found" => ok("here"),
        "/moved" => response(301, &[], Body::empty()),
        _ => Err(ForwardError::new(ErrorKind::TimedOut, "too late")),
    })
    .await;
    let mut visitor = node.connect().await;
    for path in ["/found", "/found", "/moved", "/late"] {
        visitor.get(path, "").await;
        visitor.response().await;
    }
    visitor.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    visitor.response().await;
    let metrics = node.metrics().await;
    for line in [
        "tunnel_exchanges_total{outcome=\"2xx\"} 2\n",
        "tunnel_exchanges_total{outcome=\"3xx\"} 1\n",
        "tunnel_exchanges_total{outcome=\"timed-out\"} 1\n",
        "tunnel_exchanges_open 0\n",
        "tunnel_connections_open 1\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    assert_eq!(metrics.matches("tunnel_exchanges_total{").count(), 3, "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
}

#[tokio::test]
async fn a_visitor_who_hangs_up_is_counted_too() {
    let (begun, mut begins) = mpsc::channel(1);
    let node = Node::with(with_admin(), move |_| {
        let begun = begun.clone();
        async move {
            begun.send(()).await.unwrap();
            std::future::pending().await
        }
    })
    .await;
    let mut visitor = node.connect().await;
    visitor.get("/", "").await;
    begins.recv().await.unwrap();
    assert!(node.metrics().await.contains("tunnel_exchanges_open 1\n"));
    drop(visitor);
    node.shared.visitors.close();
    node.shared.visitors.wait().await;
    let metrics = node.metrics().await;
    for line in ["tunnel_exchanges_total{outcome=\"cancelled\"} 1\n", "tunnel_exchanges_open 0\n"] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn sessions_are_counted_and_others_may_add_their_own_numbers() {
    let node = Node::start(with_admin()).await;
    let report = node.shared.config.report.clone();
    let (tunnel, client) = (name(), node.address);
    for public_url in ["http://one", "http://two"] {
        report(Event::Registered { tunnel: tunnel.clone(), public_url: public_url.to_owned(), client });
    }
    report(Event::Unregistered { tunnel, reason: "gone".to_owned() });
    let lost: prometheus_client::metrics::counter::Counter = Default::default();
    node.shared.metrics.register(|registry| registry.register("bus_lost", "Of a test", lost.clone()));
    lost.inc_by(7);
    let metrics = node.metrics().await;
    for line in ["tunnel_sessions_open 1\n", "tunnel_bus_lost_total 7\n"] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    assert_eq!(node.events.lock().unwrap().len(), 4, "and told all the same");
}

#[tokio::test]
async fn an_admin_address_that_is_taken_is_an_error_that_names_the_flag() {
    let node = Node::start(config()).await;
    let error = bind(Config { admin: Some(node.address), ..config() }).await.err().unwrap();
    assert_eq!(error.to_string(), format!("can't listen on {} (--admin)", node.address));
}

/// The clock goes on by itself whenever everybody waits.
#[tokio::test(start_paused = true)]
async fn connections_that_say_nothing_make_room() {
    let node = Node::start(with_admin()).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(node.admin()).await.unwrap());
    }
    assert_eq!(get(node.admin(), "/healthz").await, said(200, "ok\n"));
}
