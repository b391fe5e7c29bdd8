//! What HTTP/2 lets one visitor do to a server (docs/threats.md): each ends that visitor's connection, and nobody else's.

use h2::Reason;

use crate::harness::{
    Origin, Setup, Tunnel, Wire,
    h2::{
        CONTINUATION, DATA, END_HEADERS, Frames, GOAWAY, HEADERS, PING, PRIORITY, RESET, SETTINGS, Visitor,
        WINDOW, field, frame,
    },
    memory::{MIB, Watch},
    origin::{self, Answering},
    within,
};

/// A tunnel whose proxy says how it counts.
async fn tunnel(origin: &Answering) -> Tunnel {
    Setup::new().proxy(&["--admin", "127.0.0.1:0", "--rate", "off"]).start(&origin.url()).await
}

async fn answering() -> Answering {
    Origin::start().await.answering(|_| origin::ok("fine"))
}

/// Another visitor is served, and the end was counted by its reason.
async fn only_that_visitor_suffered(tunnel: &Tunnel, reason: &str) {
    assert_eq!(Visitor::connect(&tunnel.door()).await.get("/other").await.text(), "fine");
    assert_eq!(tunnel.get("/http1").await.text(), "fine");
    let line = format!(
        "tunnel_http2_connections_ended_total{{reason=\"{reason}\"}} 1
"
    );
    let counted = async {
        // The connection ends once its visitor has had the time to read why.
        while !metrics(tunnel).await.contains(&line) {}
    };
    within(&line, counted).await;
}

async fn metrics(tunnel: &Tunnel) -> String {
    let mut asking = Wire::connect(tunnel.proxy.admin.expect("an admin listener")).await;
    asking
        .send(
            "GET /metrics HTTP/1.1
Host: localhost
Connection: close

",
        )
        .await;
    asking.reply("GET").await.text()
}

#[tokio::test]
async fn streams_that_are_reset_at_once() {
    let origin = answering().await;
    let tunnel = tunnel(&origin).await;
    let mut raw = Frames::connect(&tunnel.door(), &[]).await;
    let sent = raw
        .flood(100_000, |raw, round| {
            let stream = round * 2 + 1;
            [raw.get(stream, "/reset"), frame(RESET, 0, stream, &8_u32.to_be_bytes())].concat()
        })
        .await;
    assert!(sent < 100_000);
    assert_eq!(raw.told_to_go().await, Reason::ENHANCE_YOUR_CALM);
    only_that_visitor_suffered(&tunnel, "resets").await;
    assert!(origin.seen().len() < 1000, "{} requests reached the origin", origin.seen().len());
}

#[tokio::test]
async fn frames_that_carry_nothing() {
    let floods: [(u8, u32, &[u8]); 4] =
        [(PING, 0, &[0; 8]), (SETTINGS, 0, &[]), (PRIORITY, 1, &[0, 0, 0, 3, 1]), (WINDOW, 0, &[0, 0, 0, 1])];
    for (kind, stream, payload) in floods {
        let origin = answering().await;
        let tunnel = tunnel(&origin).await;
        let mut raw = Frames::connect(&tunnel.door(), &[]).await;
        let memory = Watch::start(&tunnel.proxy.process);
        let many = frame(kind, 0, stream, payload).repeat(100);
        let sent = raw.flood(10_000, |_, _| many.clone()).await;
        assert!(sent < 10_000, "frames of type {kind}");
        assert_eq!(raw.told_to_go().await, Reason::ENHANCE_YOUR_CALM, "frames of type {kind}");
        only_that_visitor_suffered(&tunnel, "idle-frames").await;
        assert!(memory.rise() < 16 * MIB, "{} bytes", memory.rise());
    }
}

#[tokio::test]
async fn parts_of_a_body_that_are_empty() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut raw = Frames::connect(&tunnel.door(), &[]).await;
    let head = raw.head("POST", "/empty");
    raw.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
    let many = frame(DATA, 0, 1, &[]).repeat(100);
    let sent = raw.flood(10_000, |_, _| many.clone()).await;
    assert!(sent < 10_000);
    assert_eq!(raw.told_to_go().await, Reason::ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn a_head_that_never_ends() {
    let origin = answering().await;
    let tunnel = tunnel(&origin).await;
    let mut raw = Frames::connect(&tunnel.door(), &[]).await;
    let memory = Watch::start(&tunnel.proxy.process);
    let head = raw.head("GET", "/");
    raw.send(&frame(HEADERS, 0, 1, &head)).await;
    let more = frame(CONTINUATION, 0, 1, &field("x-more", &"y".repeat(1000)));
    let sent = raw.flood(100_000, |_, _| more.clone()).await;
    assert!(sent < 10_000);
    assert_eq!(raw.told_to_go().await, Reason::ENHANCE_YOUR_CALM);
    assert!(memory.rise() < 16 * MIB, "{} bytes", memory.rise());
    only_that_visitor_suffered(&tunnel, "too-much").await;
    assert!(origin.seen().iter().all(|request| request.head.target() != "/"));
}

#[tokio::test]
async fn a_head_that_is_small_on_the_wire_and_large_in_memory() {
    let origin = answering().await;
    let tunnel = tunnel(&origin).await;
    let mut raw = Frames::connect(&tunnel.door(), &[]).await;
    let memory = Watch::start(&tunnel.proxy.process);
    // A field of 4 kB goes into the table once, and is named by one byte after that (RFC 7541 section 6.1).
    let mut remembered = field("x-bomb", &"y".repeat(4000));
    remembered[0] = 0x40;
    for stream in (1..100).step_by(2) {
        let first = if stream == 1 { remembered.clone() } else { Vec::new() };
        let head = [raw.head("GET", "/bomb"), first, vec![0x80 | 62; 10_000]].concat();
        if !raw.send(&frame(HEADERS, 5, stream, &head)).await {
            break;
        }
    }
    // Refused, one way or another: with 431, or with the end of the connection.
    while let Some(frame) = raw.next().await {
        if matches!(frame.kind, HEADERS | GOAWAY) {
            break;
        }
    }
    assert!(memory.rise() < 32 * MIB, "{} bytes", memory.rise());
    assert_eq!(tunnel.get("/other").await.text(), "fine");
    assert!(origin.seen().iter().all(|request| request.head.target() != "/bomb"));
}

#[tokio::test]
async fn streams_that_we_are_made_to_reset() {
    let origin = answering().await;
    let tunnel = tunnel(&origin).await;
    let mut raw = Frames::connect(&tunnel.door(), &[]).await;
    let sent = raw
        .flood(100_000, |raw, round| {
            let stream = round * 2 + 1;
            // A window over its maximum is an error of the stream (RFC 9113 section 6.9.1).
            [raw.get(stream, "/made"), frame(WINDOW, 0, stream, &[0x7f, 0xff, 0xff, 0xff])].concat()
        })
        .await;
    assert!(sent < 100_000);
    assert_eq!(raw.told_to_go().await, Reason::ENHANCE_YOUR_CALM);
    only_that_visitor_suffered(&tunnel, "too-much").await;
    assert!(origin.seen().len() < 1000, "{} requests reached the origin", origin.seen().len());
}

#[tokio::test]
async fn more_streams_than_are_allowed() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let mut raw = Frames::connect(&tunnel.door(), &[]).await;
    for stream in (1..400).step_by(2) {
        let request = raw.get(stream, "/held");
        assert!(raw.send(&request).await);
    }
    let refused = raw.next_of(RESET).await;
    assert_eq!(refused.stream, 2 * 128 + 1);
    assert_eq!(refused.payload, u32::from(Reason::REFUSED_STREAM).to_be_bytes());
    assert_eq!(tunnel.door().visit().await.arrived().await, b"");
}

#[tokio::test]
async fn windows_that_never_open() {
    let large = vec![7; 400_000];
    let origin = Origin::start().await.answering(move |request| match request.head.target() {
        "/large" => origin::ok(&large),
        _ => origin::ok("fine"),
    });
    let tunnel = tunnel(&origin).await;
    assert_eq!(tunnel.get("/warm").await.text(), "fine");
    let memory = Watch::start(&tunnel.proxy.process);
    let mut waiting = Vec::new();
    for _ in 0..4 {
        // SETTINGS_INITIAL_WINDOW_SIZE is nothing.
        let mut raw = Frames::connect(&tunnel.door(), &[(4, 0)]).await;
        for stream in (1..200).step_by(2) {
            let request = raw.get(stream, "/large");
            assert!(raw.send(&request).await);
        }
        for _ in 0..100 {
            raw.next_of(HEADERS).await;
        }
        waiting.push(raw);
    }
    // 160 MB are asked for. A stream holds what its session's window lets through, and the part in hand.
    assert!(memory.rise() < 120 * MIB, "{} bytes", memory.rise());
    assert_eq!(Visitor::connect(&tunnel.door()).await.get("/other").await.text(), "fine");
    assert_eq!(tunnel.get("/http1").await.text(), "fine");
}
