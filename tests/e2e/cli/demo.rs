//! `tunnel demo`: everything at once, out of the box.

use std::net::SocketAddr;

use sha2::{Digest, Sha256};

use crate::harness::{Frame, Frames, Opcode, Process, Signal, Wire, guest, path_text, tunnel::Home};

/// A running demo, and how its page is reached.
struct Demo {
    process: Process,
    host: String,
    address: SocketAddr,
    _home: Home,
}

impl Demo {
    async fn start() -> Self {
        let home = Home::new();
        let mut process = Process::start("demo", home.path(), ["demo", "--listen", "127.0.0.1:0"]);
        let line = process.words(".localhost:").await;
        let url = line.split_whitespace().find_map(|word| word.strip_prefix("http://"));
        let url = url.unwrap_or_else(|| panic!("no URL in {line}"));
        let host = url.trim_end_matches(|last: char| !last.is_ascii_digit()).to_owned();
        let port = host.rsplit(':').next().and_then(|port| port.parse().ok());
        let port: u16 = port.unwrap_or_else(|| panic!("no port in {line}"));
        Self { process, host, address: SocketAddr::from(([127, 0, 0, 1], port)), _home: home }
    }

    async fn ask(&self, line: &str, fields: &str) -> Wire {
        let mut visitor = Wire::connect(self.address).await;
        visitor.send(format!("{line} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", self.host)).await;
        visitor
    }
}

#[tokio::test]
async fn the_demo_works_as_printed_and_ends_with_ctrl_c() {
    let mut demo = Demo::start().await;
    let page = demo.ask("GET /", "Accept: text/html\r\n").await.reply("GET").await;
    assert_eq!(page.status(), 200, "{}", page.text());
    assert!(page.head.text("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    assert!(page.text().to_lowercase().contains("<html"), "{}", page.text());

    let mut visitor = demo.ask("POST /echo?a=%2F", "Content-Length: 5\r\nX-Mine: yes\r\n").await;
    visitor.send("hello").await;
    let echo = visitor.reply("POST").await;
    assert_eq!(echo.status(), 200, "{}", echo.text());
    for part in ["POST", "/echo?a=%2F", "yes"] {
        assert!(echo.text().contains(part), "{part} is not in {}", echo.text());
    }

    demo.process.signal(Signal::INT);
    let exit = demo.process.exit().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[tokio::test]
async fn the_demo_ends_whoever_is_stuck() {
    let mut demo = Demo::start().await;
    // More than the sockets' buffers hold, and never read.
    let mut download = demo.ask("GET /download?bytes=1000000000", "").await;
    assert_eq!(download.head().await.status(), 200);
    let mut upload = demo.ask("POST /upload", "Content-Length: 100\r\n").await;
    upload.send("half").await;
    demo.process.signal(Signal::INT);
    let exit = demo.process.exit().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[tokio::test]
async fn the_demo_shows_events_uploads_and_websockets() {
    let demo = Demo::start().await;
    let mut events = demo.ask("GET /events", "Accept: text/event-stream\r\n").await;
    let head = events.head().await;
    assert_eq!(
        head.text("content-type").as_deref().map(|kind| kind.starts_with("text/event-stream")),
        Some(true)
    );
    let first = events.chunk().await.expect("an event");
    assert!(String::from_utf8_lossy(&first).contains("data:"), "{first:?}");

    let body = vec![7; 100_000];
    let mut upload = demo.ask("POST /upload", "Content-Length: 100000\r\n").await;
    upload.send(&body).await;
    let reply = upload.reply("POST").await;
    let sum: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(reply.text().contains(&sum), "{}", reply.text());

    let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut chat = demo.ask("GET /chat", upgrade).await;
    crate::harness::websocket::accepted(&mut chat).await;
    let mut chat = Frames::of_visitor(chat);
    chat.send(Frame::whole(Opcode::Text, "hello there")).await;
    loop {
        let heard = chat.message().await;
        if String::from_utf8_lossy(&heard.payload).contains("hello there") {
            break;
        }
    }
    let mut clock = demo.ask("GET /clock", upgrade).await;
    crate::harness::websocket::accepted(&mut clock).await;
    assert_eq!(Frames::of_visitor(clock).message().await.opcode, Opcode::Text);
}

#[tokio::test]
async fn the_demo_shows_plugins_at_work() {
    let demo = Demo::start().await;
    let page = demo.ask("GET /", "Accept: text/html\r\n").await.reply("GET").await;
    assert_eq!(page.head.text("x-demo-plugin").as_deref(), Some("rewrite.wasm"));
    assert!(page.text().contains("by a plugin, rewrite.wasm"), "the line is in the page");

    let refused = demo.ask("GET /members/", "").await.reply("GET").await;
    assert_eq!(refused.status(), 401);
    assert!(refused.head.text("www-authenticate").is_some_and(|way| way.starts_with("Basic ")));
    // demo:demo
    let welcome = demo.ask("GET /members/", "Authorization: Basic ZGVtbzpkZW1v\r\n").await.reply("GET").await;
    assert_eq!(welcome.status(), 200, "{}", welcome.text());
    assert!(welcome.text().contains("Welcome, demo"), "{}", welcome.text());
    for disguise in ["/%6Dembers/", "//members/", "/x/../members/", "/proxy/../members"] {
        let reply = demo.ask(&format!("GET {disguise}"), "").await.reply("GET").await;
        assert!(matches!(reply.status(), 400 | 401), "{disguise}: {}", reply.status());
    }
}

#[tokio::test]
async fn the_plugins_of_the_demo_are_those_of_the_examples() {
    let home = Home::new();
    for name in ["basic-auth", "rewrite"] {
        let kept = format!("{}/src/demo/plugins/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
        let built = guest(name);
        let mut told = Vec::new();
        for file in [kept.as_str(), path_text(&built)] {
            let exit = home.run(&["plugin", "check", file]).await;
            assert_eq!(exit.code, Some(0), "{exit:?}");
            let about = exit.stdout.lines().filter(|line| !line.contains(".wasm") && !line.contains("size"));
            told.push(about.filter(|line| !line.contains("kind")).map(str::to_owned).collect::<Vec<_>>());
        }
        assert_eq!(told[0], told[1], "{kept} is out of date: run `cargo xtask demo-plugins`");
    }
}
