use std::sync::Mutex;

use super::*;

fn log(format: Format, headers: &[&'static str]) -> (AccessLog, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let log = AccessLog {
        format,
        redacted: Redacted::default(),
        headers: headers.iter().map(|name| HeaderName::from_static(name)).collect(),
        sink: Arc::new(move |line| sink.lock().unwrap().push(line)),
    };
    (log, lines)
}

/// The line of a request with these headers.
fn written(format: Format, listed: &[&'static str], target: &str, headers: &[(&str, &[u8])]) -> String {
    let (log, lines) = log(format, listed);
    let mut request = http::Request::get(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let head = log.head_of(&request.body(()).unwrap(), None);
    log.write(&Line {
        time: "2026-11-30T07:08:09.123456Z".parse().unwrap(),
        visitor: "192.0.2.7:1234".parse().unwrap(),
        head: &head,
        tunnel: Some(&"a".repeat(52).parse().unwrap()),
        status: Some(StatusCode::OK),
        outcome: "ok",
        bytes_in: 3,
        bytes_out: 4,
        duration: Duration::from_micros(1500),
        first_byte: Some(Duration::from_micros(1200)),
        exchange: ExchangeId(0xab),
        session: Some(7),
        node: NodeId(1),
        plugin: None,
    });
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 1);
    lines[0].clone()
}

#[test]
fn a_line_in_json() {
    let headers: &[(&str, &[u8])] = &[
        ("host", b"x.example"),
        ("user-agent", b"curl/8"),
        ("referer", b"https://user:pw@a.example/b?token=1#c"),
        ("x-trace", b"1"),
        ("x-trace", b"2"),
    ];
    let line = written(Format::Json, &["x-trace"], "/a?b=c", headers);
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    let expected = serde_json::json!({
        "time": "2026-11-30T07:08:09.123Z", "visitor": "192.0.2.7", "method": "GET", "host": "x.example", "path": "/a?b=c",
        "protocol": "HTTP/1.1", "status": 200, "outcome": "ok", "bytes_in": 3, "bytes_out": 4, "duration_ms": 1.5,
        "first_byte_ms": 1.2, "tunnel": "a".repeat(52), "request_id": "00000000000000ab", "session": 7,
        "node": "0000000000000001", "referer": "https://a.example/b", "user_agent": "curl/8",
        "headers": { "x-trace": "1, 2" },
    });
    assert_eq!(object, expected);
}

#[test]
fn a_line_as_apache_writes_it() {
    let line = written(Format::Combined, &[], "/a?b=c", &[("user-agent", b"curl/8 \"x\"")]);
    let agent = r#"curl/8 \x22x\x22"#;
    assert_eq!(
        line,
        format!("192.0.2.7 - - [30/Nov/2026:07:08:09 +0000] \"GET /a?b=c HTTP/1.1\" 200 4 \"-\" \"{agent}\"")
    );
}

#[test]
fn credentials_and_cookies_never_stand_in_a_line_even_if_they_are_listed() {
    let headers: &[(&str, &[u8])] = &[
        ("authorization", b"Bearer hidden-1"),
        ("cookie", b"a=hidden-2"),
        ("proxy-authorization", b"Basic hidden-3"),
        ("set-cookie", b"hidden-4"),
        ("x-api-key", b"hidden-5"),
    ];
    let listed = ["authorization", "cookie", "proxy-authorization", "set-cookie"];
    for format in [Format::Json, Format::Combined] {
        let line = written(format, &listed, "/", headers);
        assert!(!line.contains("hidden"), "{line}");
    }
}

#[test]
fn secrets_in_a_query_keep_their_names_alone() {
    let redacted = Redacted::default();
    for (target, shown) in [
        ("/a", "/a"),
        ("/a?", "/a?"),
        ("/a?b=1&token=x&c=2", "/a?b=1&token=REDACTED&c=2"),
        ("/a?TOKEN=x", "/a?TOKEN=REDACTED"),
        ("/a?t%6fken=x&acce%73s_token=y", "/a?t%6fken=REDACTED&acce%73s_token=REDACTED"),
        ("/a?user[password]=x&login.password=y", "/a?user[password]=REDACTED&login.password=REDACTED"),
        ("/a?code=1;2&b=3", "/a?code=REDACTED;REDACTED&b=3"),
        ("/a?password=a=b", "/a?password=REDACTED"),
        ("/a?token=&x=1", "/a?token=&x=1"),
        ("/a?token", "/a?token"),
        ("/a?b=?token=x", "/a?b=?token=x"),
        ("/token/x", "/token/x"),
    ] {
        assert_eq!(redacted.target(target), shown, "{target}");
    }
    assert_eq!(Redacted::All.target("/a?b=1&c"), "/a?b=REDACTED&REDACTED");
    assert_eq!(Redacted::named(["Mine".to_owned()]).target("/?mine=1&token=2"), "/?mine=REDACTED&token=2");
}

#[test]
fn nobody_writes_lines_but_us() {
    let hostile = "a\u{1b}]0;x\u{7f}\u{9b}2J\u{202e}\u{2028}\"\\é".as_bytes();
    let headers: &[(&str, &[u8])] =
        &[("user-agent", b"tab\there"), ("host", b"x\xff\xfey"), ("x-a", b"\x80\x9b")];
    for format in [Format::Json, Format::Combined] {
        let line = written(format, &["x-a"], "/\u{9b}\u{202e}", headers);
        assert!(!line.chars().any(deceives), "{line:?}");
    }
    // Header values can't carry all of these; fields are made of whatever text there is.
    let mut head = log(Format::Json, &[]).0.head_of(&http::Request::new(()), None);
    head.agent = Some(String::from_utf8(hostile.to_vec()).unwrap());
    head.path = "/\r\n192.0.2.1 - - [x] \"GET / HTTP/1.1\" 200".to_owned();
    for format in [Format::Json, Format::Combined] {
        let (log, lines) = log(format, &[]);
        log.write(&Line {
            time: Timestamp::UNIX_EPOCH,
            visitor: "[::1]:1".parse().unwrap(),
            head: &head,
            tunnel: None,
            status: None,
            outcome: "cancelled",
            bytes_in: 0,
            bytes_out: 0,
            duration: Duration::ZERO,
            first_byte: None,
            exchange: ExchangeId(1),
            session: None,
            node: NodeId(1),
            plugin: None,
        });
        let line = lines.lock().unwrap()[0].clone();
        assert!(!line.chars().any(deceives) && line.contains('é'), "{line:?}");
        if format == Format::Json {
            let object: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(object["user_agent"].as_str().unwrap().as_bytes(), hostile, "nothing is lost");
            assert_eq!(
                (&object["status"], &object["path"]),
                (&serde_json::Value::Null, &head.path.clone().into())
            );
        } else {
            assert_eq!(line.matches('"').count(), 6, "{line}");
        }
    }
}

#[test]
fn a_long_field_is_cut() {
    let path = format!("/{}", "é".repeat(LONGEST));
    let long = "x".repeat(3 * LONGEST);
    let mut head = log(Format::Json, &[]).0.head_of(&http::Request::new(()), None);
    head.path = cut(path);
    assert!(head.path.len() <= LONGEST + 3 && head.path.ends_with('…'));
    let line = written(Format::Json, &[], "/", &[("user-agent", long.as_bytes())]);
    assert!(line.len() < LONGEST + 600, "{}", line.len());
}
