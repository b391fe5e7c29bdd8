//! Much at once, and much in one piece: nobody holds up anybody, and memory stays where it was.

use futures_util::{StreamExt, stream};

use crate::harness::{
    Origin, Pattern, Setup, Wire,
    memory::{MIB, Watch},
    origin, within,
};

/// Sends so many bytes of the pattern, as fast as they are taken.
async fn send_pattern(wire: &mut Wire, mut left: u64) {
    let mut pattern = Pattern::default();
    while left > 0 {
        let part = pattern.next(left);
        within("bytes to be taken", wire.try_send(part)).await.expect("the other side takes bytes");
        left -= part.len() as u64;
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

#[tokio::test]
async fn a_gibibyte_each_way_leaves_memory_flat() {
    const SIZE: u64 = 1 << 30;
    let origin = Origin::start().await;
    let tunnel = Setup::new().proxy(&["--max-body", "unlimited"]).start(&origin.url()).await;
    // Warm-up: buffers and tables that stay are not counted.
    let mut visitor = tunnel.ask("POST /warm", &["Content-Length: 65536"]).await;
    send_pattern(&mut visitor, 65_536).await;
    let mut answers = origin.accept().await;
    answers.request().await;
    answers.send(origin::ok("warm")).await;
    assert_eq!(visitor.reply("POST").await.text(), "warm");
    let watches =
        [("proxy", Watch::start(&tunnel.proxy.process)), ("client", Watch::start(&tunnel.client.process))];

    let length = format!("Content-Length: {SIZE}");
    visitor.send(tunnel.head("POST /up", &[&length])).await;
    let upload = async {
        // The connection of the warm-up, or a new one.
        let mut answers = tokio::select! {
            fresh = origin.try_accept() => fresh,
            () = answers.readable() => answers,
        };
        answers.head().await;
        check_pattern(&mut answers, SIZE).await;
        answers
    };
    let ((), mut answers) = tokio::join!(send_pattern(&mut visitor, SIZE), upload);
    answers.send(origin::ok("all there")).await;
    assert_eq!(visitor.reply("POST").await.text(), "all there");

    visitor.send(tunnel.head("GET /down", &[])).await;
    origin.request_again(&mut answers).await;
    answers.send(format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n")).await;
    assert_eq!(visitor.head().await.text("content-length"), Some(SIZE.to_string()));
    tokio::join!(send_pattern(&mut answers, SIZE), check_pattern(&mut visitor, SIZE));

    for (who, watch) in watches {
        let rise = watch.rise();
        assert!(rise <= 16 * MIB, "the {who} rose by {} KiB", rise / 1024);
    }
}

#[tokio::test]
async fn two_hundred_slow_downloads_do_not_hold_up_a_fast_one() {
    const SLOW: usize = 200;
    const FAST: u64 = 8 << 20;
    let origin = Origin::start().await.handling(|mut wire| async move {
        let request = wire.request().await;
        if request.head.target() == "/fast" {
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {FAST}\r\n\r\n")).await;
            return send_pattern(&mut wire, FAST).await;
        }
        // More than all buffers on the way hold, so that every one of these is stuck in the end.
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
        while wire.try_send(&[0; 65_536]).await.is_ok() {}
    });
    let setup = Setup::new().proxy(&["--max-body", "unlimited", "--rate", "off"]);
    let tunnel = setup.start(&origin.url()).await;
    let watches =
        [("proxy", Watch::start(&tunnel.proxy.process)), ("client", Watch::start(&tunnel.client.process))];
    let begin = |number: usize| {
        let tunnel = &tunnel;
        async move {
            let mut visitor = tunnel.ask(&format!("GET /slow/{number}"), &[]).await;
            assert_eq!(visitor.head().await.status(), 200);
            visitor
        }
    };
    let slow: Vec<_> = stream::iter(0..SLOW).map(begin).buffer_unordered(20).collect().await;
    assert_eq!(slow.len(), SLOW);
    let mut fast = tunnel.ask("GET /fast", &[]).await;
    assert_eq!(fast.head().await.status(), 200);
    check_pattern(&mut fast, FAST).await;
    for (who, watch) in watches {
        // A window of 64 KiB or a little more for each; far from what the origin would send.
        let rise = watch.rise();
        assert!(rise <= 128 * MIB, "the {who} rose by {} KiB", rise / 1024);
    }
    drop(slow);
}

#[tokio::test]
async fn a_thousand_short_requests_at_once_are_all_answered() {
    let origin = Origin::start().await.answering(|request| origin::ok(request.head.target()));
    let tunnel = Setup::new().proxy(&["--rate", "off"]).start(&origin.url()).await;
    let ask = |number: usize| {
        let tunnel = &tunnel;
        async move {
            let target = format!("/{number}");
            assert_eq!(tunnel.get(&target).await.text(), target);
        }
    };
    let done = stream::iter(0..1_000).map(ask).buffer_unordered(200).count().await;
    assert_eq!(done, 1_000);
}

#[tokio::test]
async fn hundreds_of_idle_streams_hold_up_nobody() {
    const IDLE: usize = 600;
    let origin = Origin::start().await.handling(|mut wire| async move {
        while let Ok(head) = wire.try_head().await {
            if head.target() == "/events" {
                // One event, and then nothing for as long as anybody listens.
                wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n").await;
                while wire.some(1).await.is_ok() {}
                return;
            }
            wire.send(origin::ok("quick")).await;
        }
    });
    let tunnel = Setup::new().proxy(&["--rate", "off"]).start(&origin.url()).await;
    let listen = |_| async {
        let mut visitor = tunnel.ask("GET /events", &[]).await;
        assert_eq!(visitor.head().await.status(), 200);
        assert_eq!(visitor.chunked(4).await, b"one\n");
        visitor
    };
    let idle: Vec<_> = stream::iter(0..IDLE).map(listen).buffer_unordered(50).collect().await;
    for _ in 0..10 {
        assert_eq!(tunnel.get("/quick").await.text(), "quick");
    }
    drop(idle);
}

#[tokio::test]
async fn a_large_upload_that_nobody_reads_holds_up_nobody() {
    let origin = Origin::start().await;
    let tunnel = Setup::new().proxy(&["--max-body", "unlimited"]).start(&origin.url()).await;
    let mut stuck = tunnel.ask("POST /stuck", &["Content-Length: 1000000000"]).await;
    let mut unread = origin.accept().await;
    unread.head().await;
    let upload = async { while stuck.try_send(&[0; 65_536]).await.is_ok() {} };
    let others = async {
        let mut visitor = tunnel.ask("GET /0", &[]).await;
        let (mut answers, _) = origin.request().await;
        answers.send(origin::ok("/0")).await;
        assert_eq!(visitor.reply("GET").await.text(), "/0");
        for number in 1..50 {
            visitor.send(tunnel.head(&format!("GET /{number}"), &[])).await;
            let request = origin.request_again(&mut answers).await;
            answers.send(origin::ok(request.head.target())).await;
            assert_eq!(visitor.reply("GET").await.text(), format!("/{number}"));
        }
    };
    tokio::select! {
        () = upload => panic!("the upload broke off"),
        () = others => {}
    }
}
