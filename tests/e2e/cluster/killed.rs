//! A node that dies without a word: its tunnels are served again soon, and nobody waits for what it had under way.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::harness::{Client, Cluster, Door, Frame, Opcode, Origin, Signal, Wire, load, websocket, within};

/// Visitors get their answers again in this time.
const AGAIN: Duration = Duration::from_secs(3);

/// A node is avoided in this time after its last word.
const SILENT: Duration = Duration::from_secs(2);

/// What visitors are promised, for errors to arrive in: longer than a dead node may go unnoticed, shorter than any timeout.
const NOTICED: Duration = Duration::from_secs(10);

/// A cluster with a client that may go to any node, and which node that is.
async fn with_client(target: &str) -> (Cluster, Client, usize) {
    let mut cluster = Cluster::start(&[]).await;
    let client = cluster.client(target, &[]).await;
    let holder = cluster.holder().await;
    (cluster, client, holder)
}

/// Asks again and again, and tells how long it took from now until an answer came that was followed by others.
async fn back_after(door: &Door) -> Duration {
    let begin = Instant::now();
    let mut back = None;
    let mut well = 0;
    within("answers to come again", async {
        while well < 20 {
            let reply = door.get("/again").await;
            if reply.status() == 200 {
                back.get_or_insert_with(|| begin.elapsed());
                well += 1;
            } else {
                assert!(reply.error().is_some(), "{}: {}", reply.status(), reply.text());
                (back, well) = (None, 0);
            }
        }
    })
    .await;
    back.expect("it was set with the first")
}

#[tokio::test]
async fn visitors_get_their_answers_again_when_the_node_with_the_session_dies() {
    let origin = load::echoing().await;
    let (mut cluster, mut client, holder) = with_client(&origin.url()).await;
    let others: Vec<usize> = (0..3).filter(|node| *node != holder).collect();
    let mut doors: Vec<Door> = others.iter().map(|node| cluster.door_at(*node, &client)).collect();
    doors.push(cluster.door(&client));
    for door in &doors {
        assert_eq!(door.get("/").await.status(), 200);
    }
    cluster.nodes[holder].process.kill().await;
    let times = join_all(doors.iter().map(back_after)).await;
    assert!(times.iter().all(|time| *time < AGAIN), "{times:?}");
    client.process.event("reconnected").await;
    // And again, with what is left.
    cluster.nodes[holder].start_again().await;
    let holder = cluster.holder().await;
    cluster.nodes[holder].process.kill().await;
    let left = others.into_iter().find(|node| *node != holder).expect("there were two");
    let time = back_after(&cluster.door_at(left, &client)).await;
    assert!(time < AGAIN, "{time:?}");
}

#[tokio::test]
async fn what_was_under_way_at_a_node_that_dies_ends_with_an_error_and_nothing_hangs() {
    let origin = Origin::start().await;
    let (mut cluster, client, holder) = with_client(&origin.url()).await;
    let (near, far) = (cluster.door_at(holder, &client), cluster.door_at((holder + 1) % 3, &client));

    // Of each kind one at the node that dies, and several that crossed over to it.
    let doors = [&near, &far, &far, &far];
    let mut waiting = Vec::new();
    let mut reading = Vec::new();
    let mut sending = Vec::new();
    let mut talking = Vec::new();
    let mut origins = Vec::new();
    for door in doors {
        waiting.push(door.ask("GET /waiting", &[]).await);
        origins.push(origin.request().await.0);
        let mut visitor = door.ask("GET /reading", &[]).await;
        let (mut answers, _) = origin.request().await;
        answers.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc").await;
        let head = visitor.head().await;
        assert_eq!(visitor.exactly(3).await, b"abc");
        reading.push((visitor, head));
        origins.push(answers);
        let mut visitor = door.ask("POST /sending", &["Content-Length: 100"]).await;
        visitor.send("abc").await;
        let mut receives = origin.accept().await;
        receives.head().await;
        assert_eq!(receives.exactly(3).await, b"abc");
        sending.push(visitor);
        origins.push(receives);
        let (visitor, answers) = websocket::open(door, &origin, "/").await;
        talking.push(visitor);
        origins.push(answers.into_wire());
    }

    cluster.nodes[holder].process.kill().await;
    let begin = Instant::now();
    // The node's own visitors see it die.
    for mut visitor in [waiting.remove(0), sending.remove(0)] {
        assert_eq!(visitor.closed().await, b"");
    }
    talking.remove(0).ended().await;
    for mut visitor in waiting.into_iter().chain(sending) {
        visitor.reply("GET").await.explained(502, "tunnel-gone");
    }
    for (mut visitor, head) in reading {
        visitor.rest_of_reply("GET", &head).await.expect_err("the body can't be whole");
    }
    for mut visitor in talking {
        let close = visitor.next().await;
        assert_eq!(close.code(), Some(1012), "{close:?}");
        assert!(close.payload.len() > 2, "a reason is missing");
    }
    let elapsed = begin.elapsed();
    assert!(elapsed < NOTICED, "{elapsed:?}");
    // The origin is told too, so that it doesn't work for nobody.
    for mut answers in origins {
        answers.closed().await;
    }
}

#[tokio::test]
async fn a_visitors_node_that_dies_takes_its_exchanges_along_and_no_others() {
    let origin = Origin::start().await;
    let (mut cluster, client, holder) = with_client(&origin.url()).await;
    let (dies, stays) = ((holder + 1) % 3, (holder + 2) % 3);
    let _lost = cluster.door_at(dies, &client).ask("GET /lost", &[]).await;
    let (mut lost, _): (Wire, _) = origin.request().await;
    let (mut visitor, mut answers) = websocket::open(&cluster.door_at(stays, &client), &origin, "/").await;
    cluster.nodes[dies].process.kill().await;
    assert_eq!(lost.closed().await, b"", "the request is cancelled at the origin");
    let frame = Frame::whole(Opcode::Text, "still here");
    visitor.send(frame.clone()).await;
    assert_eq!(answers.message().await, frame);
}

/// A machine that hangs keeps its connections, and says nothing.
#[tokio::test]
async fn a_node_that_freezes_is_avoided_and_taken_back_when_it_thaws() {
    let (one, two) = (load::echoing().await, load::echoing().await);
    let cluster = Cluster::start(&[]).await;
    let client = cluster.client_at(0, &one.url()).await;
    let _second = cluster.client_at(1, &two.url()).await;
    let door = cluster.door_at(2, &client);
    for _ in 0..10 {
        assert_eq!(door.get("/").await.status(), 200);
    }
    for _ in 0..2 {
        cluster.nodes[0].process.signal(Signal::STOP);
        let frozen = Instant::now();
        // Those that were sent to it before it was noticed end with an error; all later ones are served by the other.
        let visits = (0..40).map(|number| {
            let door = &door;
            async move {
                let begun = frozen.elapsed();
                let reply = door.get(&format!("/{number}")).await;
                (begun, frozen.elapsed() - begun, reply.status(), reply.error())
            }
        });
        let early = join_all(visits).await;
        for (_, took, status, error) in &early {
            assert!(*took < NOTICED, "{took:?}");
            assert!(*status == 200 || error.as_deref() == Some("tunnel-gone"), "{status} {error:?}");
        }
        while frozen.elapsed() < SILENT {
            let _ = door.get("/meanwhile").await;
        }
        for _ in 0..40 {
            let begun = Instant::now();
            assert_eq!(door.get("/late").await.status(), 200);
            assert!(begun.elapsed() < SILENT, "{:?}", begun.elapsed());
        }
        cluster.nodes[0].process.signal(Signal::CONT);
        within("the node to be asked again", async {
            let before = cluster.nodes[0].metric("tunnel_bus_exchanges_answered_total").await;
            while cluster.nodes[0].metric("tunnel_bus_exchanges_answered_total").await == before {
                assert_eq!(door.get("/again").await.status(), 200);
            }
        })
        .await;
    }
}
