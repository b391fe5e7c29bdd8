//! What a visitor gets when there is no answer from the origin: a code, an id, and a sentence for it.

use crate::harness::{Origin, Setup, Tunnel, origin};

#[tokio::test]
async fn an_origin_that_does_not_listen_is_named() {
    let address = origin::vacant().await;
    let tunnel = Tunnel::to(&format!("http://{address}")).await;
    let reply = tunnel.get("/").await;
    let text = reply.explained(502, "origin-unreachable").to_lowercase();
    assert!(text.contains(&format!("nothing answers at http://{address}")), "{text}");
}

#[tokio::test]
async fn an_origin_that_starts_later_is_reached() {
    let address = origin::vacant().await;
    let tunnel = Tunnel::to(&format!("http://{address}")).await;
    assert_eq!(tunnel.get("/").await.status(), 502);
    let listener = tokio::net::TcpListener::bind(address).await.expect("still vacant");
    let mut visitor = tunnel.ask("GET /", &[]).await;
    let (stream, _) = listener.accept().await.expect("the client connects");
    let mut answers = crate::harness::Wire::over(stream);
    answers.request().await;
    answers.send(origin::ok("up")).await;
    assert_eq!(visitor.reply("GET").await.text(), "up");
}

#[tokio::test]
async fn an_origin_that_hangs_up_or_talks_nonsense_is_blamed() {
    let origin = Origin::start().await;
    let tunnel = Tunnel::to(&origin.url()).await;
    for nonsense in ["", "SSH-2.0-OpenSSH_9.6\r\n", "HTTP/1.1 2xx What\r\n\r\n"] {
        let mut visitor = tunnel.ask("POST /", &["Content-Length: 0"]).await;
        let (mut answers, _) = origin.request().await;
        answers.send(nonsense).await;
        drop(answers);
        visitor.reply("POST").await.explained(502, "origin-failed");
    }
}

#[tokio::test]
async fn the_sentence_comes_as_the_visitor_reads_it() {
    let address = origin::vacant().await;
    let tunnel = Tunnel::to(&format!("http://{address}")).await;
    let sentence = format!("nothing answers at http://{address}");
    let browser = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for (accept, kind) in [
        (browser, "text/html"),
        ("Accept: application/json", "application/json"),
        ("Accept: text/html;q=0.1, application/json", "application/json"),
        ("Accept: */*", "text/plain"),
        ("X-No-Accept: 1", "text/plain"),
        ("Accept: image/png", "text/plain"),
    ] {
        let reply = tunnel.ask("GET /", &[accept]).await.reply("GET").await;
        let text = reply.explained(502, "origin-unreachable");
        let content_type = reply.head.text("content-type").expect("a type");
        assert!(content_type.starts_with(kind), "{accept} gives {content_type}");
        assert!(text.to_lowercase().contains(&sentence), "{text}");
        match kind {
            "text/html" => assert!(text.to_lowercase().contains("<html"), "{text}"),
            "application/json" => {
                let json: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
                assert!(json.to_string().contains("origin-unreachable"), "{json}");
            }
            _ => assert!(!text.contains('<'), "{text}"),
        }
    }
    // No body, the same head.
    let reply = tunnel.ask("HEAD /", &[]).await.reply("HEAD").await;
    assert_eq!((reply.status(), reply.error().as_deref()), (502, Some("origin-unreachable")));
}

#[tokio::test]
async fn nothing_that_a_visitor_sends_becomes_markup() {
    let tunnel = Tunnel::to("http://127.0.0.1:9").await;
    for host in ["<script>alert(1)</script>.localhost", "\"><script>x</script>"] {
        let mut visitor = tunnel.visit().await;
        let target = "/<script>alert(2)</script>?<script>";
        visitor.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n\r\n")).await;
        let reply = visitor.reply("GET").await;
        assert!((400..500).contains(&reply.status()), "{}", reply.status());
        assert!(!reply.text().contains("<script"), "{}", reply.text());
    }
}

#[tokio::test]
async fn a_name_that_nobody_ever_had_is_not_found() {
    let tunnel = Tunnel::to("http://127.0.0.1:9").await;
    let nobody = "a".repeat(51) + "q";
    for (host, path) in [
        (format!("{nobody}.localhost"), "/".to_owned()),
        (tunnel.proxy.address.to_string(), format!("/proxy/request/{nobody}/x")),
        ("not-a-name.localhost".to_owned(), "/".to_owned()),
    ] {
        let mut visitor = tunnel.visit().await;
        visitor.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        visitor.reply("GET").await.explained(404, "no-such-tunnel");
    }
}

#[tokio::test]
async fn a_known_name_without_a_session_says_to_come_back() {
    let origin = Origin::start().await.answering(|_| origin::ok("back"));
    let mut tunnel = Tunnel::to(&origin.url()).await;
    let host = tunnel.host().to_owned();
    tunnel.proxy.process.event("registered").await;
    let exit = tunnel.client.process.stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    tunnel.proxy.process.event("unregistered").await;
    let reply = tunnel.get("/").await;
    reply.explained(503, "tunnel-offline");
    let seconds = reply.head.text("retry-after").expect("when to come back");
    assert!(seconds.parse::<u32>().is_ok(), "{seconds}");

    tunnel.client = crate::harness::Client::start(&tunnel.proxy.url(), &origin.url(), &tunnel.key, &[]).await;
    assert_eq!(tunnel.host(), host, "a key's name lasts");
    assert_eq!(tunnel.get("/").await.text(), "back");
}

#[tokio::test]
async fn the_origins_own_errors_pass_untouched() {
    let origin = Origin::start().await.answering(|request| {
        let status = request.head.target().trim_start_matches('/');
        format!("HTTP/1.1 {status} Own\r\nContent-Length: 3\r\nX-Own: 1\r\n\r\nown").into_bytes()
    });
    let tunnel = Tunnel::to(&origin.url()).await;
    for status in [400, 401, 404, 413, 418, 429, 451, 500, 502, 503, 504, 599] {
        let reply = tunnel.get(&format!("/{status}")).await;
        assert_eq!((reply.status(), reply.text().as_str(), reply.error()), (status, "own", None));
        assert_eq!(reply.head.text("x-own").as_deref(), Some("1"));
    }
}

#[tokio::test]
async fn every_answer_has_an_id_and_no_two_the_same() {
    let address = origin::vacant().await;
    let tunnel = Setup::new().start(&format!("http://{address}")).await;
    let mut ids = std::collections::HashSet::new();
    for _ in 0..20 {
        ids.insert(tunnel.get("/").await.head.text("tunnel-request-id").expect("an id"));
    }
    assert_eq!(ids.len(), 20);
}
