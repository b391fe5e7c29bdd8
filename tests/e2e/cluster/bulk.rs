//! Large bodies across nodes: right to the last byte, at flat memory, with a slow visitor at the end.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::harness::{
    Cluster, Origin, Pattern, Wire,
    memory::{MIB, Watch},
    origin, within,
};

const SIZE: u64 = 100_000_000;

/// A node in between holds a window of 4 MiB for each direction at each of its two sides, whatever the length of what passes, and what the
/// allocator keeps for the next of it.
const RISE: u64 = 32 * MIB;

/// Sends so many bytes of the pattern, as fast as they are taken, and counts them.
async fn send_pattern(wire: &mut Wire, size: u64, sent: &AtomicU64) {
    let mut pattern = Pattern::default();
    while sent.load(Ordering::Relaxed) < size {
        let part = pattern.next(size - sent.load(Ordering::Relaxed));
        within("bytes to be taken", wire.try_send(part)).await.expect("the other side takes bytes");
        sent.fetch_add(part.len() as u64, Ordering::Relaxed);
    }
}

/// Reads so many bytes, each of which has to be the pattern's.
async fn check_pattern(wire: &mut Wire, mut left: u64) {
    let mut pattern = Pattern::default();
    while left > 0 {
        let part = within("bytes", wire.some(usize::try_from(left).unwrap_or(usize::MAX))).await;
        let part = part.expect("the body goes on");
        pattern.check(&part);
        left -= part.len() as u64;
    }
}

/// Waits until a counter stands still, and gives where.
async fn settled(counter: &AtomicU64) -> u64 {
    let settling = async {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(50));
        let (mut last, mut still) = (0, 0);
        while still < 10 {
            tick.tick().await;
            let now = counter.load(Ordering::Relaxed);
            still = if now == last && now > 0 { still + 1 } else { 0 };
            last = now;
        }
        last
    };
    within("the sender to be stuck", settling).await
}

#[tokio::test]
async fn a_hundred_megabytes_each_way_are_right_and_leave_memory_flat() {
    let origin = Origin::start().await;
    let cluster = Cluster::start(&["--max-body", "unlimited"]).await;
    let client = cluster.client_at(0, &origin.url()).await;
    let door = cluster.door_at(1, &client);
    // Warm-up: buffers and tables that stay are not counted.
    let mut visitor = door.ask("POST /warm", &["Content-Length: 4"]).await;
    visitor.send("warm").await;
    let mut answers = origin.accept().await;
    answers.request().await;
    answers.send(origin::ok("warm")).await;
    assert_eq!(visitor.reply("POST").await.text(), "warm");
    let watches = [
        ("session's node", Watch::start(&cluster.nodes[0].process)),
        ("visitor's node", Watch::start(&cluster.nodes[1].process)),
        ("client", Watch::start(&client.process)),
        ("Redis", Watch::start(cluster.redis.process())),
    ];

    // Up, to an origin that doesn't read for a while.
    let length = format!("Content-Length: {SIZE}");
    visitor.send(door.head("POST /up", &[&length])).await;
    let mut receives = tokio::select! {
        fresh = origin.try_accept() => fresh,
        () = answers.readable() => answers,
    };
    receives.head().await;
    let sent = Arc::new(AtomicU64::new(0));
    let reading = async {
        let stuck = settled(&sent).await;
        assert!(stuck < SIZE / 2, "{stuck} bytes went out with nobody reading");
        check_pattern(&mut receives, SIZE).await;
    };
    tokio::join!(send_pattern(&mut visitor, SIZE, &sent), reading);
    receives.send(origin::ok("all there")).await;
    assert_eq!(visitor.reply("POST").await.text(), "all there");

    // Down, to a visitor who doesn't read for a while; another one isn't held up meanwhile.
    visitor.send(door.head("GET /down", &[])).await;
    origin.request_again(&mut receives).await;
    receives.send(format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n")).await;
    visitor.head().await;
    let sent = Arc::new(AtomicU64::new(0));
    let reading = async {
        let stuck = settled(&sent).await;
        assert!(stuck < SIZE / 2, "{stuck} bytes went out with nobody reading");
        for number in 0..20 {
            let mut other = door.ask(&format!("GET /{number}"), &[]).await;
            let (mut quick, _) = origin.request().await;
            quick.send(origin::ok("quick")).await;
            assert_eq!(other.reply("GET").await.text(), "quick");
        }
        check_pattern(&mut visitor, SIZE).await;
    };
    tokio::join!(send_pattern(&mut receives, SIZE, &sent), reading);

    for (who, watch) in watches {
        let rise = watch.rise();
        assert!(rise <= RISE, "the {who} rose by {} KiB", rise / 1024);
    }
}

#[tokio::test]
async fn a_dozen_downloads_at_once_cross_side_by_side() {
    const EACH: u64 = 4_000_000;
    let origin = Origin::start().await.handling(|mut wire| async move {
        wire.request().await;
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {EACH}\r\n\r\n")).await;
        send_pattern(&mut wire, EACH, &AtomicU64::new(0)).await;
    });
    let cluster = Cluster::start(&["--max-body", "unlimited"]).await;
    let client = cluster.client_at(0, &origin.url()).await;
    let doors = [1, 2].map(|node| cluster.door_at(node, &client));
    let downloads = (0..12).map(|number| {
        let door = &doors[number % 2];
        async move {
            let mut visitor = door.ask("GET /", &[]).await;
            assert_eq!(visitor.head().await.status(), 200);
            check_pattern(&mut visitor, EACH).await;
        }
    });
    futures_util::future::join_all(downloads).await;
}
