//! Sides that don't read, and halves that aren't polled.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::time::timeout;

use super::{
    connection,
    tests::{PATIENCE, Setup, binary, memory, text},
};
use crate::exchange::websocket::{Duplex, Event};

#[tokio::test(start_paused = true)]
async fn a_visitor_who_does_not_read_stops_only_what_goes_to_it() {
    let mut b = Setup { capacity: 1, ..Setup::default() }.between();
    // Nothing is read at the visitor: the origin's side fills up.
    b.origin.send_while_taken(|_| text("filler")).await;
    let taken = b.origin.send.is_some();
    assert!(taken);
    // What makes nothing for the visitor still reaches the origin, calls and all.
    for at in 0..1000 {
        b.visitor.send(text(format!("m{at}"))).await;
        b.visitor.send(binary(at)).await;
        b.origin.expect([text(format!("m{at}")), binary(at)]).await;
    }
    // What does is bounded.
    let mut origin = VecDeque::new();
    let sender = b.visitor.send.take().expect("not hung up");
    let mut sent = 0;
    loop {
        let send = async {
            tokio::select! {
                biased;
                event = b.origin.receive.recv() => { origin.push_back(event.expect("open")); false }
                permit = sender.reserve() => { permit.expect("open").send(text(format!("ack {sent}"))); true }
            }
        };
        match timeout(PATIENCE, send).await {
            Ok(true) => sent += 1,
            Ok(false) => {}
            Err(_) => break,
        }
        assert!(sent < 1000, "nothing bounds it");
    }
    assert!(origin.len() >= 64, "{}", origin.len());
    // Once the visitor reads, everything comes, each side's part in its order.
    b.visitor.send = Some(sender);
    let (mut acks, mut seen) = (0, 0);
    while acks < sent {
        match b.visitor.next().await {
            Some(event) if event == text("filler") => seen += 1,
            Some(event) => {
                assert_eq!(event, text(format!("ok {acks}")));
                acks += 1;
            }
            None => panic!("it ended"),
        }
        while let Ok(event) = b.origin.receive.try_recv() {
            origin.push_back(event);
        }
    }
    assert!(seen > 0);
    while origin.len() < sent {
        origin.push_back(b.origin.next().await.expect("open"));
    }
    assert!(origin.iter().enumerate().all(|(at, event)| *event == text(format!("ack {at}"))));
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_does_not_read_stops_only_what_goes_to_it() {
    let mut b = Setup { capacity: 1, ..Setup::default() }.between();
    b.visitor.send_while_taken(|_| binary(1)).await;
    for at in 0..1000 {
        b.origin.send(text(format!("m{at}"))).await;
        b.origin.send(binary(at)).await;
        b.visitor.expect([text(format!("m{at}")), binary(at)]).await;
    }
    let mut sent = 0;
    let sender = b.origin.send.take().expect("not hung up");
    loop {
        let send = async {
            tokio::select! {
                biased;
                event = b.visitor.receive.recv() => { event.expect("open"); false }
                permit = sender.reserve() => { permit.expect("open").send(text(format!("ack {sent}"))); true }
            }
        };
        match timeout(PATIENCE, send).await {
            Ok(true) => sent += 1,
            Ok(false) => {}
            Err(_) => break,
        }
        assert!(sent < 1000, "nothing bounds it");
    }
    let mut acks = 0;
    while acks < sent {
        match b.origin.next().await.expect("open") {
            Event::Binary(_) => {}
            event => {
                assert_eq!(event, text(format!("ok {acks}")));
                acks += 1;
            }
        }
        while b.visitor.receive.try_recv().is_ok() {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_when_only_the_other_half_is_polled() {
    let (listener, _closed) = Setup { turns: 0, ..Setup::default() }.listener();
    let (far, mut origin) = memory(4);
    let mut duplex = connection::wrap(far, Setup::default().interest, Arc::clone(&listener));
    origin.send(text("o")).await;
    assert!(duplex.incoming.next().now_or_never().is_none(), "its call has begun");
    listener.turns.add_permits(2);
    // A stage further out has something else for its visitor, and leaves the incoming half alone.
    timeout(PATIENCE, duplex.outgoing.send(text("v"))).await.expect("no deadlock").expect("sent");
    origin.expect([text("v")]).await;
    assert_eq!(duplex.incoming.next().await, Some(text("o")));
}

#[tokio::test(start_paused = true)]
async fn a_half_that_waits_in_another_task_is_woken() {
    let (listener, _closed) = Setup { turns: 0, ..Setup::default() }.listener();
    let (far, mut origin) = memory(16);
    let Duplex { mut incoming, mut outgoing } =
        connection::wrap(far, Setup::default().interest, Arc::clone(&listener));
    let reads = tokio::spawn(async move { incoming.by_ref().take(5).collect::<Vec<_>>().await });
    let writes = tokio::spawn(async move {
        for order in ["ack 1", "both"] {
            outgoing.send(text(order)).await.expect("taken");
        }
        outgoing
    });
    origin.send(text("both")).await;
    origin.expect_nothing().await;
    listener.turns.add_permits(3);
    let mut read = reads.await.expect("no panic");
    let _outgoing = writes.await.expect("no panic");
    read.retain(|event| matches!(event, Event::Text(bytes) if bytes.starts_with(b"ok")));
    assert_eq!(read, [text("ok 1")]);
    let mut got = Vec::new();
    for _ in 0..5 {
        got.push(origin.next().await.expect("open"));
    }
    assert!(got.contains(&text("back")), "what the origin's own message sent back: {got:?}");
}
