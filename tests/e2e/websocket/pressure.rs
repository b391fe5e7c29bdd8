//! Many WebSockets, and slow ones.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{SinkExt, StreamExt, stream};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{
    Origin, PATIENCE, Setup, Tunnel, Wire,
    memory::{MIB, Watch},
    websocket, within,
};

/// Accepts a WebSocket and sends every message back.
async fn echo(mut wire: Wire) {
    let request = wire.request().await;
    websocket::accept(&mut wire, &request.head, &[]).await;
    let mut socket = websocket::origin_socket(wire).await;
    while let Some(Ok(message)) = socket.next().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_thousand_websockets_at_once() {
    const COUNT: usize = 1_000;
    let origin = Origin::start().await.handling(echo);
    let tunnel = Setup::new().proxy(&["--rate", "off"]).start(&origin.url()).await;
    let open = |number: usize| {
        let tunnel = &tunnel;
        async move {
            let mut wire = websocket::ask(tunnel, &format!("/{number}"), &[]).await;
            websocket::accepted(&mut wire).await;
            (number, websocket::visitor_socket(wire).await)
        }
    };
    let sockets: Vec<_> = stream::iter(0..COUNT).map(open).buffer_unordered(50).collect().await;
    assert_eq!(sockets.len(), COUNT);
    // All are open; each hears its own words and no one else's.
    let talk = |(number, mut socket): (usize, websocket::Socket)| async move {
        for round in 0..3 {
            let words = format!("{number} {round}");
            socket.send(Message::text(words.clone())).await.expect("taken");
            let heard = within("an echo", socket.next()).await.expect("a message").expect("well-formed");
            assert_eq!(heard, Message::text(words));
        }
        socket
    };
    let sockets: Vec<_> = stream::iter(sockets).map(talk).buffer_unordered(COUNT).collect().await;
    assert_eq!(sockets.len(), COUNT);
}

#[tokio::test]
async fn a_visitor_that_does_not_read_slows_the_origin_down() {
    const COUNT: usize = 2_048;
    const SIZE: usize = 64 * 1024;
    let origin = Origin::start().await;
    let tunnel = Setup::new().proxy(&["--rate", "off"]).start(&origin.url()).await;
    // Warm-up, so that what is there once is not counted.
    drop(websocket::open_sockets(&tunnel, &origin, "/").await);
    let watches = [Watch::start(&tunnel.proxy.process), Watch::start(&tunnel.client.process)];
    let (mut visitor, mut answers) = websocket::open_sockets(&tunnel, &origin, "/").await;
    let sent = Arc::new(AtomicUsize::new(0));
    let sender = tokio::spawn({
        let sent = Arc::clone(&sent);
        async move {
            for number in 0..COUNT {
                let mut message = vec![0; SIZE];
                message[..8].copy_from_slice(&(number as u64).to_le_bytes());
                answers.send(Message::binary(message)).await.expect("taken, sooner or later");
                sent.store(number + 1, Ordering::Relaxed);
            }
            answers
        }
    });
    let stuck = settled(&sent).await;
    assert!(stuck < COUNT / 2, "{stuck} of {COUNT} messages went out with nobody reading");
    for (watch, who) in watches.iter().zip(["proxy", "client"]) {
        let rise = watch.rise() / MIB;
        assert!(rise <= 16, "the {who} holds {rise} MiB for one slow visitor");
    }
    // The tunnel is free for others.
    let (mut other, mut other_answers) = websocket::open(&tunnel, &origin, "/").await;
    let frame = crate::harness::Frame::whole(crate::harness::Opcode::Text, "fast");
    other.send(frame.clone()).await;
    assert_eq!(other_answers.message().await, frame);
    // Nothing was dropped on the way.
    for number in 0..COUNT {
        let message = within("a message", visitor.next()).await.expect("a message").expect("well-formed");
        let Message::Binary(bytes) = message else { panic!("not what was sent") };
        assert_eq!((bytes.len(), &bytes[..8]), (SIZE, &(number as u64).to_le_bytes()[..]));
    }
    sender.await.expect("the origin has sent everything");
}

#[tokio::test]
async fn an_origin_that_does_not_read_slows_the_visitor_down() {
    const COUNT: usize = 2_048;
    let origin = Origin::start().await;
    let tunnel = Setup::new().proxy(&["--rate", "off"]).start(&origin.url()).await;
    drop(websocket::open_sockets(&tunnel, &origin, "/").await);
    let watch = Watch::start(&tunnel.client.process);
    let (mut visitor, mut answers) = websocket::open_sockets(&tunnel, &origin, "/").await;
    let sent = Arc::new(AtomicUsize::new(0));
    let sender = tokio::spawn({
        let sent = Arc::clone(&sent);
        async move {
            for number in 0..COUNT {
                visitor.send(Message::binary(vec![0; 64 * 1024])).await.expect("taken, sooner or later");
                sent.store(number + 1, Ordering::Relaxed);
            }
            visitor
        }
    });
    let stuck = settled(&sent).await;
    assert!(stuck < COUNT / 2, "{stuck} of {COUNT} messages went out with nobody reading");
    let rise = watch.rise() / MIB;
    assert!(rise <= 16, "the client holds {rise} MiB for one slow origin");
    for _ in 0..COUNT {
        within("a message", answers.next()).await.expect("a message").expect("well-formed");
    }
    sender.await.expect("the visitor has sent everything");
}

/// Waits until a counter stands still, and gives where. On a machine so slow that it only seems to, tests that use
/// it pass more easily; none fails by that.
async fn settled(counter: &AtomicUsize) -> usize {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(100));
    let (mut last, mut still) = (0, 0);
    while still < 10 {
        tick.tick().await;
        let now = counter.load(Ordering::Relaxed);
        still = if now == last && now > 0 { still + 1 } else { 0 };
        last = now;
        assert!(tokio::time::Instant::now() < deadline, "never stood still, {now} by now");
    }
    last
}

#[tokio::test]
async fn a_websocket_over_its_rate_is_slowed_and_loses_nothing() {
    let origin = Origin::start().await;
    let tunnel: Tunnel = Setup::new().proxy(&["--rate", "200/s,burst=10"]).start(&origin.url()).await;
    let (mut visitor, mut answers) = websocket::open_sockets(&tunnel, &origin, "/").await;
    within("every message", async {
        tokio::join!(
            async {
                for number in 0..100 {
                    visitor.send(Message::text(number.to_string())).await.expect("taken");
                }
            },
            async {
                for number in 0..100 {
                    let got = answers.next().await.expect("a message").expect("well-formed");
                    assert_eq!(got, Message::text(number.to_string()));
                }
            },
        )
    })
    .await;
}
