//! The access log of a real proxy: what stands in a line, what never does, and files that are moved away.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::harness::{
    Exposition, Frame, Opcode, Origin, Setup, Signal, Tunnel, compiled, guest, origin::ok, websocket, within,
};

/// A tunnel whose proxy writes `access.log` in its folder.
async fn start(origin: &str, file: &str) -> (Tunnel, PathBuf) {
    let cache = compiled();
    let setup = Setup::new().proxy_file(file).proxy(&["--admin", "127.0.0.1:0", "--plugin-cache", &cache]);
    let tunnel = setup.start(origin).await;
    let log = tunnel.proxy.home.file("access.log");
    (tunnel, log)
}

/// All lines, once the proxy has ended.
async fn lines(tunnel: &mut Tunnel, log: &PathBuf) -> Vec<String> {
    let exit = tunnel.proxy.process.stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    fs::read_to_string(log).expect("a log").lines().map(str::to_owned).collect()
}

/// The line of the request that asked for this path.
fn of<'a>(lines: &'a [Value], path: &str) -> &'a Value {
    let found = lines.iter().find(|line| line["path"].as_str().is_some_and(|has| has.starts_with(path)));
    found.unwrap_or_else(|| panic!("no line for {path} in {lines:#?}"))
}

#[tokio::test]
async fn each_request_is_a_line_that_says_what_became_of_it() {
    let origin = Origin::start().await.answering(|request| match request.head.target() {
        "/none" => "HTTP/1.1 204 No Content\r\n\r\n".into(),
        _ => ok(request.body.clone()),
    });
    let wasm = guest("hostile");
    let file = format!(
        "[access_log]\nfile = 'access.log'\nheaders = ['x-seen']\n[limits]\nmax_body = '1kB'\n\
         [[plugin]]\nname = 'wall'\nfile = {wasm:?}\nconfig = {{ on-request = 'respond' }}\n\
         [[policy]]\ndomain = '*'\npath = '/wall'\nplugins = ['wall']\n"
    );
    let (mut tunnel, log) = start(&origin.url(), &file).await;
    let mut wire = tunnel
        .ask(
            "POST /echo?a=1&token=hidden-1&b=2",
            &[
                "Content-Length: 5",
                "User-Agent: test/1",
                "Referer: https://u:hidden-2@from.example/x?hidden-3",
                "Authorization: Bearer hidden-4",
                "Cookie: c=hidden-5",
                "X-Seen: yes",
            ],
        )
        .await;
    wire.send("12345").await;
    assert_eq!(wire.reply("POST").await.text(), "12345");
    assert_eq!(tunnel.get("/none").await.status(), 204);
    assert_eq!(tunnel.get("/wall").await.status(), 418);
    assert_eq!(tunnel.post("/large", &[0; 2000]).await.status(), 413);
    let mut own = tunnel.visit().await;
    own.send("GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert_eq!(own.reply("GET").await.status(), 404);

    let mut unreadable = tunnel.visit().await;
    unreadable.send("GET /never HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n").await;
    assert_eq!(unreadable.reply("GET").await.status(), 400);

    let (label, host) = (tunnel.client.label().to_owned(), tunnel.host().to_owned());
    let lines = lines(&mut tunnel, &log).await;
    assert!(!lines.concat().contains("hidden"), "{lines:#?}");
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    let echo = of(&lines, "/echo");
    for (key, value) in [
        ("path", Value::from("/echo?a=1&token=REDACTED&b=2")),
        ("visitor", "127.0.0.1".into()),
        ("method", "POST".into()),
        ("host", host.into()),
        ("protocol", "HTTP/1.1".into()),
        ("status", 200.into()),
        ("outcome", "ok".into()),
        ("bytes_in", 5.into()),
        ("bytes_out", 5.into()),
        ("tunnel", label.into()),
        ("session", 1.into()),
        ("user_agent", "test/1".into()),
        ("referer", "https://from.example/x".into()),
        ("headers", serde_json::json!({ "x-seen": "yes" })),
    ] {
        assert_eq!(echo[key], value, "{key} in {echo:#}");
    }
    assert!(echo["first_byte_ms"].as_f64() <= echo["duration_ms"].as_f64(), "{echo:#}");
    assert_eq!(
        (&of(&lines, "/none")["status"], &of(&lines, "/none")["outcome"]),
        (&204.into(), &"ok".into())
    );
    let wall = of(&lines, "/wall");
    assert_eq!((&wall["plugin"], &wall["session"]), (&"wall".into(), &Value::Null), "{wall:#}");
    assert_eq!(of(&lines, "/large")["outcome"], "request-too-large");
    assert_eq!(
        (&of(&lines, "/nothing")["status"], &of(&lines, "/nothing")["tunnel"]),
        (&404.into(), &Value::Null)
    );
    assert_eq!(of(&lines, "/proxy/subscribe")["status"], 101, "a client came");
    let unreadable = of(&lines, "-");
    assert_eq!((&unreadable["status"], &unreadable["outcome"]), (&400.into(), &"bad-request".into()));
}

#[tokio::test]
async fn a_websocket_is_one_line_at_its_end_and_a_visitor_who_leaves_is_one_too() {
    let origin = Origin::start().await;
    let (mut tunnel, log) = start(&origin.url(), "[access_log]\nfile = 'access.log'\n").await;
    let (mut visitor, mut service) = websocket::open(&tunnel, &origin, "/socket").await;
    visitor.send(Frame::whole(Opcode::Text, "four")).await;
    assert_eq!(service.next().await.payload, b"four");
    visitor.send(Frame::close(1000, "")).await;
    assert_eq!(service.next().await.code(), Some(1000));
    service.send(Frame::close(1000, "")).await;
    assert_eq!(visitor.next().await.code(), Some(1000));
    visitor.ended().await;

    let left = tunnel.ask("GET /left", &[]).await;
    let (mut answers, _) = origin.request().await;
    drop(left);
    answers.closed().await;

    let lines = lines(&mut tunnel, &log).await;
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    let socket = of(&lines, "/socket");
    assert_eq!((&socket["status"], &socket["outcome"]), (&101.into(), &"ok".into()), "{socket:#}");
    assert_eq!((&socket["bytes_in"], &socket["bytes_out"]), (&4.into(), &0.into()), "{socket:#}");
    let left = of(&lines, "/left");
    assert_eq!((&left["status"], &left["outcome"]), (&Value::Null, &"cancelled".into()), "{left:#}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_told_from_one_that_ends() {
    let origin = Origin::start().await;
    let (mut tunnel, log) = start(&origin.url(), "[access_log]\nfile = 'access.log'\n").await;
    let mut visitor = tunnel.ask("GET /broken", &[]).await;
    let (mut answers, _) = origin.request().await;
    answers.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1234").await;
    assert_eq!(visitor.head().await.status(), 200);
    assert_eq!(visitor.exactly(4).await, b"1234");
    drop(answers);
    visitor.closed().await;
    let lines = lines(&mut tunnel, &log).await;
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    let broken = of(&lines, "/broken");
    assert_eq!((&broken["status"], &broken["bytes_out"]), (&200.into(), &4.into()), "{broken:#}");
    assert_eq!(broken["outcome"], "broken-off", "{broken:#}");
}

#[tokio::test]
async fn nobody_forges_a_line_in_the_combined_format() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let (mut tunnel, log) =
        start(&origin.url(), "[access_log]\nfile = 'access.log'\nformat = 'combined'\n").await;
    let fields = ["User-Agent: a\" 200 \"b\t\u{9b}31m", "Referer: \\x\u{202e}"];
    assert_eq!(tunnel.ask("GET /%0d%0aforged", &fields).await.reply("GET").await.status(), 200);
    let lines = lines(&mut tunnel, &log).await;
    let line = lines.iter().find(|line| line.contains("forged")).expect("a line");
    assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
    assert_eq!(line.matches('"').count(), 6, "{line}");
    assert!(
        line.starts_with("127.0.0.1 - - [") && line.contains("] \"GET /%0d%0aforged HTTP/1.1\" 200 0 \""),
        "{line}"
    );
}

#[tokio::test]
async fn a_file_that_is_moved_away_is_followed_by_a_new_one() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let (mut tunnel, log) = start(&origin.url(), "[access_log]\nfile = 'access.log'\n").await;
    for (turn, hangup) in [(1, true), (2, false)] {
        assert_eq!(tunnel.get(&format!("/before/{turn}")).await.status(), 200);
        let old = log.with_extension(turn.to_string());
        let exists = async {
            while fs::read_to_string(&log).unwrap_or_default().matches("/before").count() == 0 {
                tunnel.get("/more").await;
            }
        };
        within("the line to be written", exists).await;
        fs::rename(&log, &old).expect("it can be moved");
        if hangup {
            tunnel.proxy.process.signal(Signal::HUP);
        }
        // Requests go on; none of their lines is lost, in whichever of the two files it is.
        let mut asked = 0;
        let moved = async {
            while fs::metadata(&log).map_or(0, |file| file.len()) == 0 {
                asked += 1;
                assert_eq!(tunnel.get(&format!("/after/{turn}")).await.status(), 200);
            }
        };
        within("a new file", moved).await;
        assert!(asked > 0);
        let admin = tunnel.proxy.admin.expect("an admin listener");
        let metrics = Exposition::of(admin).await;
        assert_eq!(metrics.value("tunnel_access_log_lines_dropped_total", &[]), 0.0);
    }
    let last = lines(&mut tunnel, &log).await;
    assert!(last.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{last:#?}");
}

#[tokio::test]
async fn it_goes_to_stdout_beside_the_events_and_a_file_that_cannot_be_written_ends_the_start() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let (mut tunnel, _) = start(&origin.url(), "[access_log]\nfile = 'stdout'\n").await;
    assert_eq!(tunnel.get("/here").await.status(), 200);
    let exit = tunnel.proxy.process.stop().await;
    assert!(exit.stdout.lines().any(|line| line.contains("\"path\":\"/here\"")), "{}", exit.stdout);

    let home = &tunnel.proxy.home;
    fs::write(home.file("bad.toml"), "listen = '127.0.0.1:0'\n[access_log]\nfile = 'no/such/folder/log'\n")
        .expect("written");
    let exit = home.run(&["proxy", "--config", "bad.toml"]).await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(
        exit.stderr.contains("the access log") && exit.stderr.contains("no/such/folder/log"),
        "{}",
        exit.stderr
    );
}
