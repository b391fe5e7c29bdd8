//! A node leaves without cutting anyone short.

use tokio::sync::oneshot;

use super::*;

/// A fake that answers when told; gives the way to tell it, and news of each call.
async fn held(config: Config) -> (Node, Arc<tokio::sync::Semaphore>, mpsc::Receiver<()>) {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (begun, begins) = mpsc::channel(8);
    let opens = gate.clone();
    let node = Node::with(config, move |_| {
        let (opens, begun) = (opens.clone(), begun.clone());
        async move {
            begun.send(()).await.unwrap();
            opens.acquire().await.unwrap().forget();
            ok("in the end")
        }
    })
    .await;
    (node, gate, begins)
}

#[tokio::test]
async fn exchanges_under_way_end_well_and_the_rest_at_once() {
    let (node, gate, mut begins) = held(config()).await;
    let mut idle = node.connect().await;
    idle.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    idle.response().await;
    let mut busy = node.connect().await;
    busy.get("/", "").await;
    begins.recv().await.unwrap();

    node.stop.cancel();
    assert_eq!(idle.rest().await, "", "an idle connection ends");
    node.shared.drain.cancelled().await;
    assert!(TcpStream::connect(node.address).await.is_err(), "no new connections");
    assert!(!node.running.is_finished());

    gate.add_permits(1);
    let answer = busy.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("in the end"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    node.running.await.unwrap();
    let events = node.events.lock().unwrap();
    assert!(
        matches!(events[..], [Event::Listening { .. }, Event::Draining { exchanges: 1 }, Event::Stopped]),
        "{events:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn after_the_grace_period_the_rest_is_cancelled() {
    let mut config = config();
    config.answer_timeout = 2 * config.grace_period;
    let (node, _gate, mut begins) = held(config).await;
    let mut busy = node.connect().await;
    busy.get("/", "").await;
    begins.recv().await.unwrap();
    node.stop.cancel();
    node.running.await.unwrap();
    assert!(node.shared.kill.is_cancelled());
    // Cut off, and not to be taken for an answer that ended.
    let end = busy.socket.read_to_end(&mut busy.read).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert!(busy.read.is_empty());
}

#[tokio::test]
async fn sessions_end_after_the_exchanges() {
    let (node, gate, mut begins) = held(config()).await;
    let (told, tells) = oneshot::channel();
    let kill = node.shared.kill.clone();
    node.shared.sessions.spawn(async move {
        kill.cancelled().await;
        told.send(()).unwrap();
    });
    let mut busy = node.connect().await;
    busy.get("/", "").await;
    begins.recv().await.unwrap();
    node.stop.cancel();
    node.shared.drain.cancelled().await;
    assert!(!node.shared.kill.is_cancelled());
    gate.add_permits(1);
    tells.await.unwrap();
    node.running.await.unwrap();
}

#[tokio::test]
async fn a_node_that_drains_is_not_healthy() {
    let node = Node::start(config()).await;
    assert_eq!(super::super::own::health(&node.shared).status(), 200);
    node.shared.drain.cancel();
    assert_eq!(super::super::own::health(&node.shared).status(), 503);
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it() {
    let node = Node::start(config()).await;
    let mut second = config();
    second.listen = node.address;
    let error = bind(second).await.err().unwrap();
    assert_eq!(error.to_string(), format!("can't listen on {} (--listen)", node.address));
}

/// Its first bytes wait in front of the HTTP library, to which the connection is idle.
#[tokio::test]
async fn a_head_that_is_arriving_is_waited_for() {
    let node = Node::with(config(), async |_| ok("in the end")).await;
    let (mut idle, mut arriving) = (node.connect().await, node.connect().await);
    for visitor in [&mut idle, &mut arriving] {
        visitor.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        visitor.response().await;
    }
    arriving.send("GET / HT").await;
    node.stop.cancel();
    assert_eq!(idle.rest().await, "");
    arriving.send(format!("TP/1.1\r\nHost: {}\r\n\r\n", host())).await;
    let answer = arriving.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("in the end"), "{answer}");
    node.running.await.unwrap();
}
