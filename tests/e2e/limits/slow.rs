//! Visitors that are slow on purpose: they lose their place, and nobody else notices.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{
    Origin, Process, Setup, Tunnel, Wire,
    memory::{MIB, Watch},
    origin, program,
};

/// Patience that a test can wait out.
const IMPATIENT: &str =
    "[limits]\nheader_timeout = '500ms'\nstall_timeout = '300ms'\nmin_rate = '1MB/s'\nmax_body = 'unlimited'";

async fn impatient(target: &str) -> Tunnel {
    Setup::new().proxy_file(IMPATIENT).proxy(&["--admin", "127.0.0.1:0"]).start(target).await
}

async fn metrics(tunnel: &Tunnel) -> String {
    let mut asking = Wire::connect(tunnel.proxy.admin.expect("an admin listener")).await;
    asking.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    asking.reply("GET").await.text()
}

#[tokio::test]
async fn a_body_that_stops_or_trickles_is_408_and_the_origin_hears_no_more_of_it() {
    let origin = Origin::start().await;
    let tunnel = impatient(&origin.url()).await;
    for trickle in [false, true] {
        let mut visitor = tunnel.ask("POST /slow", &["Content-Length: 100000"]).await;
        visitor.send("begin").await;
        let mut answers = origin.accept().await;
        answers.head().await;
        assert_eq!(answers.exactly(5).await, b"begin");
        let reply = if trickle {
            // A byte for each that has arrived: that is no rate of a megabyte a second.
            loop {
                if visitor.try_send(b"x").await.is_err() || answers.some(1).await.is_err() {
                    break visitor.reply("POST").await;
                }
                if !visitor.arrived().await.is_empty() {
                    break visitor.reply("POST").await;
                }
            }
        } else {
            visitor.reply("POST").await
        };
        let text = reply.explained(408, "request-timed-out");
        assert!(text.contains("too slowly"), "{text}");
        assert_eq!(reply.head.text("connection").as_deref(), Some("close"));
        answers.closed().await;
    }
    assert!(metrics(&tunnel).await.contains("tunnel_slow_visitors_total{at=\"body\"}"));
}

#[tokio::test]
async fn who_does_not_read_is_dropped_and_the_origin_may_stop() {
    let origin = Origin::start().await;
    let tunnel = impatient(&origin.url()).await;
    let mut visitor = tunnel.ask("GET /endless", &[]).await;
    let (mut answers, _) = origin.request().await;
    answers.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    visitor.head().await;
    // More than all buffers on the way hold, until nobody takes it any more.
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
    while answers.try_send(&chunk).await.is_ok() {}
    assert!(metrics(&tunnel).await.contains("tunnel_slow_visitors_total{at=\"answer\"} 1"));
}

/// An event stream between two events, and a WebSocket without messages, keep nobody waiting.
#[tokio::test]
async fn who_has_nothing_to_read_is_not_slow() {
    let origin = Origin::start().await;
    let tunnel = impatient(&origin.url()).await;
    let mut events = tunnel.ask("GET /events", &[]).await;
    let (mut source, _) = origin.request().await;
    source.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    events.head().await;
    let mut thinking = tunnel.ask("POST /thinking", &["Content-Length: 4"]).await;
    thinking.send("four").await;
    let (mut thinker, _) = origin.request().await;
    let socket = crate::harness::websocket::request(&tunnel, "/socket", &[]);
    let mut idle = tunnel.visit().await;
    idle.send(socket).await;
    let (mut other, request) = origin.request().await;
    crate::harness::websocket::accept(&mut other, &request.head, &[]).await;
    crate::harness::websocket::accepted(&mut idle).await;
    // As long as this takes twice, patience for all of them would have run out.
    for _ in 0..2 {
        let mut slow = tunnel.ask("POST /slow", &["Content-Length: 9"]).await;
        slow.send("x").await;
        slow.reply("POST").await.explained(408, "request-timed-out");
    }
    source.send_chunk("data: late\n\n").await;
    assert_eq!(events.chunked(12).await, b"data: late\n\n");
    thinker.send(origin::ok("thought")).await;
    assert_eq!(thinking.reply("POST").await.text(), "thought");
    other.send(b"\x81\x02hi").await;
    assert_eq!(idle.exactly(4).await, b"\x81\x02hi");
}

/// The time for a head is for all of it, however often a byte comes.
#[tokio::test]
async fn a_head_that_trickles_has_no_more_time_than_one_that_stops() {
    let origin = Origin::start().await.answering(|_| origin::ok("fine"));
    let tunnel = impatient(&origin.url()).await;
    let mut visitor = tunnel.visit().await;
    visitor.send("GET / HTTP/1.1\r\nX: ").await;
    let sent = AtomicUsize::new(0);
    while visitor.arrived().await.is_empty() && visitor.try_send(b"x").await.is_ok() {
        sent.fetch_add(1, Ordering::Relaxed);
        // A round trip between two bytes keeps the head far from its largest size.
        assert_eq!(tunnel.get("/").await.text(), "fine");
    }
    visitor.reply("GET").await.explained(408, "request-timed-out");
    assert!(sent.into_inner() > 1, "it trickled");
    assert!(metrics(&tunnel).await.contains("tunnel_slow_visitors_total{at=\"head\"} 1"));
}

/// The usual tool, in its four modes: slow heads, slow bodies, overlapping ranges, slow reading.
#[tokio::test]
async fn slowhttptest_holds_up_nobody_and_memory_stays_bounded() {
    let large = origin::ok(vec![b'x'; 200_000]);
    let origin = Origin::start().await.answering(move |request| match request.head.target() {
        "/large" => large.clone(),
        _ => origin::ok("fine"),
    });
    let tunnel = impatient(&origin.url()).await;
    assert_eq!(tunnel.get("/").await.text(), "fine");
    let path = program("slowhttptest", "slowhttptest");
    let memory = Watch::start(&tunnel.proxy.process);
    let url = format!("{}/proxy/request/{}/large", tunnel.proxy.url(), tunnel.client.label());
    for mode in
        [&["-H"][..], &["-B", "-s", "100000"], &["-R"], &["-X", "-w", "1", "-y", "64", "-n", "1", "-z", "16"]]
    {
        let fixed = ["-c", "300", "-r", "300", "-i", "1", "-l", "3", "-p", "1", "-u", &url];
        let arguments: Vec<&str> = mode.iter().chain(&fixed).copied().collect();
        let home = tunnel.proxy.home.path();
        let mut attack = Process::run("slowhttptest", home, &path, &arguments, &[]);
        let mut attack = std::pin::pin!(attack.exit());
        let mut served = 0;
        let exit = loop {
            tokio::select! {
                exit = &mut attack => break exit,
                reply = tunnel.get("/") => {
                    assert_eq!(reply.text(), "fine", "{mode:?}");
                    served += 1;
                }
            }
        };
        assert!(exit.stdout.contains("slow"), "{exit:?}");
        assert!(served > 10, "{mode:?}: only {served} visitors were served");
    }
    let rise = memory.rise();
    // 300 connections with a buffer each, and what an allocator keeps of that.
    assert!(rise < 100 * MIB, "memory rose by {} MiB", rise / MIB);
}
