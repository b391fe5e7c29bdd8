//! Requests that try to be two: of none does a second one reach an origin, and no answer goes to anybody else.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use crate::harness::{Nginx, Origin, Request, Setup, Tunnel, Wire, origin, origin::Handling};

/// One attempt.
struct Case {
    name: String,
    expected: Expected,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    /// One request, and the connection goes on.
    One,
    /// One request, or a refusal, and the connection ends.
    Last,
    /// A refusal of this kind, and the connection ends.
    Refused(String),
}

/// All cases of `tests/vectors/smuggling`, whose README says what they look like, for this host.
fn cases(host: &str) -> Vec<Case> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/smuggling"));
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files.iter().flat_map(|file| read(&std::fs::read_to_string(file).expect("text"), host)).collect()
}

fn read(text: &str, host: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("=== ") {
            let (name, expected) = title.split_once(": ").expect("a name and what is expected");
            let expected = match expected {
                "one" => Expected::One,
                "last" => Expected::Last,
                kind => Expected::Refused(kind.to_owned()),
            };
            cases.push(Case { name: name.to_owned(), expected, bytes: Vec::new() });
        } else if !line.starts_with('#')
            && let Some(case) = cases.last_mut()
        {
            case.bytes.extend(unescaped(&line.replace("{host}", host)));
        }
    }
    cases
}

fn unescaped(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, if byte == b'\\' { rest.next() } else { None }) {
            (_, Some(b'r')) => b'\r',
            (_, Some(b'n')) => b'\n',
            (_, Some(b't')) => b'\t',
            (_, Some(b'0')) => 0,
            (_, Some(b'\\')) => b'\\',
            (_, Some(b'x')) => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).expect("two digits")
            }
            (b'\\', other) => panic!("an escape that nobody knows, {other:?}, in {line}"),
            (byte, _) => byte,
        });
    }
    bytes
}

type Seen = Arc<Mutex<Vec<Request>>>;

/// A service that keeps each whole request, and answers with its target.
async fn recording() -> (Handling, Seen) {
    let seen = Seen::default();
    let record = Arc::clone(&seen);
    let origin = Origin::start().await.handling(move |mut wire: Wire| {
        let record = Arc::clone(&record);
        async move {
            while let Ok(head) = wire.try_head().await {
                let Ok((body, trailers)) = wire.try_rest_of_request(&head).await else { return };
                let mut answer = origin::ok(head.target());
                if head.method() == "HEAD" {
                    answer.truncate(answer.len() - head.target().len());
                }
                record.lock().expect("no panic under the lock").push(Request { head, body, trailers });
                if wire.try_send(&answer).await.is_err() {
                    return;
                }
            }
        }
    });
    (origin, seen)
}

/// What the origin has seen since the last time: targets, of requests that say once at most how long they are.
fn targets(seen: &Seen, name: &str) -> Vec<String> {
    let seen: Vec<Request> = seen.lock().expect("no panic under the lock").drain(..).collect();
    for Request { head, .. } in &seen {
        let framings = head.all("content-length").len() + head.all("transfer-encoding").len();
        assert!(framings <= 1, "{name}: {:?}", head);
        let aliases = head.fields.iter().any(|(name, _)| name.contains('_'));
        assert!(!aliases, "{name}: {:?}", head);
    }
    seen.iter().map(|request| request.head.target().to_owned()).collect()
}

/// Sends one case, alone or between two good requests, and holds what comes back and what the origin saw.
async fn attempt(tunnel: &Tunnel, seen: &Seen, case: &Case, between: bool) {
    let Case { name, expected, bytes } = case;
    let name = format!("{name}{}", if between { ", between two" } else { "" });
    let (good, after) = (tunnel.head("GET /good", &[]), tunnel.head("GET /after", &[]));
    let mut visitor = tunnel.visit().await;
    let mut wanted = Vec::new();
    if between {
        visitor.send([&good[..], bytes, &after].concat()).await;
        assert_eq!(visitor.reply("GET").await.text(), "/good", "{name}");
        wanted.push("/good");
    } else {
        visitor.send(bytes).await;
    }
    let method = if bytes.starts_with(b"HEAD ") { "HEAD" } else { "GET" };
    let reply = visitor.reply(method).await;
    match expected {
        Expected::One => {
            if !between {
                visitor.send(&after).await;
            }
            let text = if method == "HEAD" { "" } else { "/first" };
            assert_eq!((reply.status(), reply.text().as_str()), (200, text), "{name}");
            assert_eq!(visitor.reply("GET").await.text(), "/after", "{name}");
            wanted.extend(["/first", "/after"]);
        }
        Expected::Last => {
            if reply.status() == 200 {
                assert_eq!(reply.text(), "/first", "{name}");
                wanted.push("/first");
            }
            assert_eq!(visitor.closed().await, b"", "{name}: nothing follows");
        }
        Expected::Refused(_) => {
            let text = reply.text();
            assert!(matches!(reply.status(), 400 | 405 | 501), "{name}: {} {text}", reply.status());
            assert!(reply.error().is_some() && text.contains("What happened: "), "{name}: {text}");
            assert_eq!(visitor.closed().await, b"", "{name}: nothing follows");
        }
    }
    // The pool behind is as well as before.
    assert_eq!(tunnel.get("/next").await.text(), "/next", "{name}");
    wanted.push("/next");
    assert_eq!(targets(seen, &name), wanted, "{name}");
}

async fn counted(tunnel: &Tunnel) -> BTreeMap<String, usize> {
    let mut asking = Wire::connect(tunnel.proxy.admin.expect("an admin listener")).await;
    asking.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    let text = asking.reply("GET").await.text();
    let lines = text.lines().filter_map(|line| line.strip_prefix("tunnel_bad_requests_total{kind=\""));
    let of_line = |line: &str| {
        let (kind, count) = line.split_once("\"} ").expect("a kind and a number");
        (kind.to_owned(), count.parse().expect("a number"))
    };
    lines.map(of_line).collect()
}

#[tokio::test]
async fn no_request_becomes_two_and_each_refusal_is_counted_by_kind() {
    let (origin, seen) = recording().await;
    let tunnel = Setup::new().proxy(&["--admin", "127.0.0.1:0"]).start(&origin.url()).await;
    let cases = cases(tunnel.host());
    assert!(cases.len() > 150, "only {} cases", cases.len());
    let mut refused = BTreeMap::new();
    for case in &cases {
        attempt(&tunnel, &seen, case, false).await;
        attempt(&tunnel, &seen, case, true).await;
        if let Expected::Refused(kind) = &case.expected {
            *refused.entry(kind.clone()).or_insert(0) += 2;
        }
    }
    assert_eq!(counted(&tunnel).await, refused);
}

/// Answers that don't wait for the body leave it on the connection, where it would be read as the next request.
#[tokio::test]
async fn what_is_left_of_a_body_is_no_request() {
    let (origin, seen) = recording().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    let smuggled = tunnel.head("GET /smuggled", &[]);
    for (line, host, status) in [
        ("POST /nothing-here", "localhost", 404),
        ("POST /", "unknown.example", 404),
        ("POST /proxy/subscribe", "localhost", 426),
        ("POST /too-large", tunnel.host(), 413),
    ] {
        for length in [smuggled.len(), 400_000, 600_000] {
            if status == 413 && length < 500_000 {
                continue;
            }
            let mut body = smuggled.clone();
            body.resize(length, b'\n');
            let mut visitor = tunnel.visit().await;
            let head = format!("{line} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n");
            visitor.send(head).await;
            assert_eq!(visitor.reply("POST").await.status(), status, "{line}");
            // It may be closed at any moment.
            let _ = visitor
                .try_send(&[&body[..], &tunnel.head("GET /after", &["Connection: close"])].concat())
                .await;
            let rest = visitor.closed().await;
            let rest = String::from_utf8_lossy(&rest);
            assert!(rest.is_empty() || rest.ends_with("\r\n\r\n/after"), "{line}: {rest}");
            let seen = targets(&seen, line);
            assert!(seen.iter().all(|target| target == "/after"), "{line}: {seen:?}");
        }
    }
}

/// Two parsers in a row are what smuggling needs: each request that the origin gets is one that nginx meant to send.
#[tokio::test]
async fn behind_an_nginx_no_request_becomes_two_either() {
    let (origin, seen) = recording().await;
    let tunnel = Setup::new().start(&origin.url()).await;
    let address = origin::vacant().await;
    let http = format!(
        "upstream node {{ server {}; keepalive 8; }}\n\
         map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://node; proxy_http_version 1.1;\n\
         proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection $connection_upgrade; proxy_set_header X-Meant $request_uri;\n\
         proxy_request_buffering off; proxy_buffering off; }} }}",
        tunnel.proxy.address
    );
    let nginx = Nginx::start(address, &http).await;
    for case in cases(tunnel.host()) {
        let mut visitor = Wire::connect(nginx.address()).await;
        visitor.send(&case.bytes).await;
        visitor.finish().await;
        visitor.closed().await;
        let mut next = Wire::connect(nginx.address()).await;
        next.send(tunnel.head("GET /next", &["Connection: close"])).await;
        assert_eq!(next.reply("GET").await.text(), "/next", "{}", case.name);
        for Request { head, .. } in seen.lock().expect("no panic under the lock").drain(..) {
            // What nginx took for a body says nothing of that.
            let meant = head.text("x-meant").map(|meant| meant.trim_start_matches("http://").to_owned());
            let meant = meant.as_deref().map(|meant| meant.trim_start_matches(tunnel.host()));
            assert_eq!(meant, Some(head.target()), "{}", case.name);
        }
    }
}
