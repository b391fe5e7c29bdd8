//! Every example plugin through a real tunnel, with the configuration of its README.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};

use crate::harness::{
    Frame, Opcode, Origin, Reply, Setup, Tunnel, compiled, guest, origin::ok, path_text, tunnel::Home,
    websocket,
};

/// The settings of a client with one plugin.
fn plugin(name: &str, rest: &str) -> String {
    format!(
        "plugin_cache = {:?}\n[[plugin]]\nname = '{name}'\nfile = {:?}\n{rest}\n",
        compiled(),
        guest(name)
    )
}

/// A tunnel to an origin that answers, with one plugin at the client.
async fn guarded(name: &str, rest: &str, origin: &str) -> Tunnel {
    Setup::new().client_file(&plugin(name, rest)).start(origin).await
}

async fn ask(tunnel: &Tunnel, start: &str, fields: &str, body: &str) -> Reply {
    let mut visitor = tunnel.visit().await;
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    visitor.send(format!("{start} HTTP/1.1\r\nHost: {}\r\n{fields}{length}\r\n{body}", tunnel.host())).await;
    visitor.reply(start.split(' ').next().unwrap_or_default()).await
}

#[tokio::test]
async fn basic_auth_lets_in_who_knows_the_password_and_tells_the_origin_who_came() {
    let origin = Origin::start().await.answering(|_| ok("inside"));
    let rest = "[plugin.config.users]\n\
                anna = '2a97516c354b68848cdbd8f54a226a0a55b21ed138e207ad6c5cbb9c00aa5aea'";
    let tunnel = guarded("basic-auth", rest, &origin.url()).await;
    for fields in ["", "Authorization: Basic YW5uYTp3cm9uZw==\r\n", "X-User: anna\r\n"] {
        assert_eq!(ask(&tunnel, "GET /", fields, "").await.status(), 401);
    }
    assert_eq!(origin.seen().len(), 0);
    // anna:demo
    let reply = ask(&tunnel, "GET /", "X-User: root\r\nAuthorization: Basic YW5uYTpkZW1v\r\n", "").await;
    assert_eq!((reply.status(), reply.text().as_str()), (200, "inside"));
    let seen = origin.seen().remove(0).head;
    assert_eq!((seen.texts("x-user"), seen.has("authorization")), (vec!["anna".to_owned()], false));
}

#[tokio::test]
async fn maintenance_answers_by_itself_but_for_what_it_lets_pass() {
    let origin = Origin::start().await.answering(|_| ok("up"));
    let rest = "config = { message = 'Back at nine.', retry_after = 600, except = ['/health'] }";
    let tunnel = guarded("maintenance", rest, &origin.url()).await;
    let reply = ask(&tunnel, "GET /", "Accept: application/json\r\n", "").await;
    assert_eq!((reply.status(), reply.head.text("retry-after").as_deref()), (503, Some("600")));
    assert!(reply.text().contains("Back at nine."), "{}", reply.text());
    assert_eq!(ask(&tunnel, "GET /health", "", "").await.text(), "up");
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn ip_allow_knows_visitors_by_the_address_that_the_proxy_established() {
    let origin = Origin::start().await.answering(|_| ok("in"));
    for (allow, status) in [("127.0.0.0/8", 200), ("203.0.113.0/24", 403)] {
        let tunnel = guarded("ip-allow", &format!("config = {{ allow = ['{allow}'] }}"), &origin.url()).await;
        let reply = ask(&tunnel, "GET /", "X-Forwarded-For: 203.0.113.9\r\n", "").await;
        assert_eq!(reply.status(), status, "{allow}");
    }
}

#[tokio::test]
async fn rewrite_changes_paths_headers_and_pages() {
    let page = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/html\r\nContent-Length: 32\r\n\r\n\
                <html><body>hello</body></html>\n";
    let origin = Origin::start().await.answering(|_| page.as_bytes().to_vec());
    let rest = "[plugin.config]\npaths = [{ from = '/api', to = '/v2' }]\nauthority = 'app.internal:8080'\n\
                request = { set = [['x-from', 'tunnel']], remove = ['cookie'] }\n\
                response = { set = [['x-frame-options', 'DENY']], remove = ['server'] }\ninject = '<b>!</b>'";
    let tunnel = guarded("rewrite", rest, &origin.url()).await;
    let reply = ask(&tunnel, "GET /api/users?page=2", "Cookie: a=b\r\n", "").await;
    assert_eq!(reply.text(), "<html><body>hello<b>!</b></body></html>\n");
    assert_eq!((reply.head.texts("x-frame-options"), reply.head.has("server")), (vec!["DENY".into()], false));
    let seen = origin.seen().remove(0).head;
    assert_eq!(
        (seen.target(), seen.text("host").as_deref()),
        ("/v2/users?page=2", Some("app.internal:8080"))
    );
    assert_eq!((seen.texts("x-from"), seen.has("cookie")), (vec!["tunnel".to_owned()], false));
}

#[tokio::test]
async fn rewrite_changes_each_event_as_it_passes() {
    let origin = Origin::start().await;
    let rest = "config = { events = [{ find = 'secret', replace = '*' }] }";
    let tunnel = guarded("rewrite", rest, &origin.url()).await;
    let mut visitor = tunnel.visit().await;
    visitor.send(format!("GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", tunnel.host())).await;
    let (mut source, _) = origin.request().await;
    source
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert_eq!(visitor.head().await.status(), 200);
    // Each has to arrive before the next is sent: nothing is held back until the stream ends.
    for n in 0..5 {
        source.send_chunk(format!("data: a secret {n}\n\n")).await;
        let expected = format!("data: a * {n}\n\n");
        assert_eq!(visitor.chunked(expected.len()).await, expected.as_bytes());
    }
    // An event that is cut anywhere is changed as a whole.
    source.send_chunk("data: sec").await;
    source.send_chunk("ret\n").await;
    source.send_chunk("\n").await;
    assert_eq!(visitor.chunked(9).await, b"data: *\n\n");
}

#[tokio::test]
async fn ws_guard_lets_pass_replaces_and_closes() {
    let origin = Origin::start().await;
    let rest = "[plugin.config]\nrequired = { text = 'text' }\nforbidden = ['damn']\nredact = ['email']";
    let tunnel = guarded("ws-guard", rest, &origin.url()).await;
    let (mut visitor, mut answers) = websocket::open(&tunnel, &origin, "/chat").await;
    let text = |text: &str| Frame::whole(Opcode::Text, text);
    visitor.send(text(r#"{"text":"one"}"#)).await;
    visitor.send(text(r#"{"text":"a Damn word"}"#)).await;
    visitor.send(text(r#"{"text":"three"}"#)).await;
    assert_eq!(answers.message().await, text(r#"{"text":"one"}"#));
    let replaced = answers.message().await;
    assert!(String::from_utf8_lossy(&replaced.payload).contains("a *** word"), "{replaced:?}");
    assert_eq!(answers.message().await, text(r#"{"text":"three"}"#));
    answers.send(text(r#"{"text":"hi","email":"a@example.com"}"#)).await;
    let redacted = String::from_utf8(visitor.message().await.payload).expect("text");
    assert!(redacted.contains("\"***\"") && !redacted.contains("example.com"), "{redacted}");
    visitor.send(text(r#"{"no":"text"}"#)).await;
    assert_eq!(visitor.message().await.code(), Some(1008));
    assert_eq!(answers.message().await.code(), Some(1008));
}

#[tokio::test]
async fn large_messages_pass_a_plugin_right_to_the_byte() {
    let origin = Origin::start().await;
    let every_byte: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    // Kept as they are, and taken into the guest and given back.
    for deed in ["keep", "echo"] {
        let rest = format!("config = {{ on-message = '{deed}' }}");
        let tunnel = guarded("hostile", &rest, &origin.url()).await;
        let (mut visitor, mut answers) = websocket::open(&tunnel, &origin, "/").await;
        for message in [
            Frame::whole(Opcode::Binary, every_byte.clone()),
            Frame::whole(Opcode::Text, "\u{1f980}".repeat(1 << 18)),
            Frame::whole(Opcode::Text, "small"),
        ] {
            visitor.send(message.clone()).await;
            assert!(answers.message().await == message, "{deed}");
            answers.send(message.clone()).await;
            assert!(visitor.message().await == message, "{deed}");
        }
    }
}

#[tokio::test]
async fn a_hundred_guarded_websockets_at_once_keep_their_messages_apart() {
    let origin = Origin::start().await;
    let tunnel = guarded("ws-guard", "config = { forbidden = ['damn'] }", &origin.url()).await;
    let mut open = Vec::new();
    for n in 0..100 {
        open.push((n, websocket::open(&tunnel, &origin, &format!("/{n}")).await));
    }
    for (n, (visitor, _)) in &mut open {
        for word in ["first", "damn", "last"] {
            visitor.send(Frame::whole(Opcode::Text, format!("{{\"{n}\":\"{word}\"}}"))).await;
        }
    }
    for (n, (_, answers)) in &mut open {
        for word in ["first", "***", "last"] {
            let message = answers.message().await;
            let told = String::from_utf8_lossy(&message.payload).replace(' ', "");
            assert_eq!(told, format!("{{\"{n}\":\"{word}\"}}"));
        }
    }
}

#[tokio::test]
async fn webhook_verify_lets_pass_what_the_sender_has_signed() {
    let origin = Origin::start().await.answering(|_| ok("taken"));
    let home = Home::new();
    let key = home.file("key.txt");
    std::fs::write(&key, "It's a Secret to Everybody\n").expect("a file");
    let rest = format!(
        "config = {{ sender = 'github' }}\ngrant = {{ secrets = {{ webhook = {{ file = '{}' }} }} }}",
        path_text(&key)
    );
    let tunnel = guarded("webhook-verify", &rest, &origin.url()).await;
    // The example of GitHub's own documentation.
    let right =
        "X-Hub-Signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17\r\n";
    let reply = ask(&tunnel, "POST /hook", right, "Hello, World!").await;
    assert_eq!((reply.status(), reply.text().as_str()), (200, "taken"));
    assert_eq!(origin.seen().remove(0).body, b"Hello, World!");
    for (fields, body) in [(right, "Hello, world!"), ("", "Hello, World!")] {
        assert_eq!(ask(&tunnel, "POST /hook", fields, body).await.status(), 401, "{fields}{body}");
    }
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn rate_by_user_counts_in_the_store_it_is_granted() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let rest = "config = { requests = 3, seconds = 3600 }\ngrant = { kv = true }";
    let tunnel = guarded("rate-by-user", rest, &origin.url()).await;
    for _ in 0..3 {
        assert_eq!(ask(&tunnel, "GET /", "", "").await.status(), 200);
    }
    let reply = ask(&tunnel, "GET /", "", "").await;
    assert_eq!(reply.status(), 429);
    assert!(reply.head.has("retry-after"));
    assert_eq!(origin.seen().len(), 3);
}

#[tokio::test]
async fn bearer_jwt_fetches_the_keys_it_checks_with() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let keys = format!(
        r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k1","alg":"EdDSA","use":"sig","x":"{}"}}]}}"#,
        encoded(key.verifying_key().as_bytes())
    );
    let provider = Origin::start().await.answering(move |_| {
        let length = keys.len();
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{keys}")
            .into()
    });
    let origin = Origin::start().await.answering(|_| ok("inside"));
    let idp = provider.url();
    let rest = format!(
        "config = {{ jwks = '{idp}/jwks.json', issuer = 'https://idp.example.com/', audience = 'my-app' }}\n\
         grant = {{ kv = true, http = ['{idp}'] }}"
    );
    let tunnel = guarded("bearer-jwt", &rest, &origin.url()).await;
    let token = |subject: &str, audience: &str| {
        let head = encoded(br#"{"alg":"EdDSA","typ":"JWT","kid":"k1"}"#);
        let claims = format!(
            r#"{{"iss":"https://idp.example.com/","aud":"{audience}","sub":"{subject}","exp":4102444800}}"#
        );
        let signed = format!("{head}.{}", encoded(claims.as_bytes()));
        format!("{signed}.{}", encoded(&key.sign(signed.as_bytes()).to_bytes()))
    };
    let bearing = |token: &str| format!("X-User: root\r\nAuthorization: Bearer {token}\r\n");
    let reply = ask(&tunnel, "GET /", &bearing(&token("anna", "my-app")), "").await;
    assert_eq!((reply.status(), reply.text().as_str()), (200, "inside"), "{}", reply.text());
    assert_eq!(origin.seen().remove(0).head.texts("x-user"), ["anna"]);
    let forged =
        token("anna", "my-app").replace(&encoded(br#"{"alg":"EdDSA","typ":"JWT","kid":"k1"}"#), "e30");
    for (fields, why) in [
        (String::new(), "no token"),
        (bearing(&token("anna", "other-app")), "for somebody else"),
        (bearing(&forged), "another head"),
        (bearing("a.b.c"), "no token at all"),
    ] {
        let reply = ask(&tunnel, "GET /", &fields, "").await;
        assert_eq!(reply.status(), 401, "{why}");
        assert!(reply.head.text("www-authenticate").is_some_and(|way| way.starts_with("Bearer")), "{why}");
    }
    assert_eq!(origin.seen().len(), 1);
    assert!(provider.seen().len() <= 2, "the keys are kept");
}

#[tokio::test]
async fn the_examples_say_what_they_have_to_be_granted() {
    let home = Home::new();
    for (name, needs) in [
        ("basic-auth", &[][..]),
        ("maintenance", &[]),
        ("ip-allow", &[]),
        ("rewrite", &[]),
        ("ws-guard", &[]),
        ("webhook-verify", &["secrets"]),
        ("rate-by-user", &["kv"]),
        ("bearer-jwt", &["kv", "http-client"]),
    ] {
        let exit = home.run(&["plugin", "check", path_text(&guest(name))]).await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        let told: Vec<&str> = exit.stdout.lines().filter(|line| line.contains("  needs ")).collect();
        assert_eq!(told.len(), needs.len(), "{name}: {told:?}");
        for need in needs {
            assert!(
                told.iter().any(|line| line.contains(&format!("tunnel:plugin/{need}@"))),
                "{name}: {told:?}"
            );
        }
    }
}
