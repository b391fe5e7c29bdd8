//! Policies and plugins at the proxy: what they refuse never reaches the client.

use crate::harness::{Origin, Reply, Setup, Tunnel, Wire, compiled, guest, origin::ok, path_text};

/// A `[[plugin]]` that does this in these hooks.
fn plugin(name: &str, config: &str) -> String {
    let wasm = guest("hostile");
    format!("[[plugin]]\nname = '{name}'\nfile = {wasm:?}\nconfig = {{ {config} }}\n")
}

fn policy(lines: &str) -> String {
    format!("[[policy]]\n{lines}\n")
}

async fn start(origin: &str, file: &str) -> Tunnel {
    Setup::new().proxy_file(file).proxy(&["--plugin-cache", &compiled()]).start(origin).await
}

#[tokio::test]
async fn what_a_plugin_answers_the_client_never_sees() {
    let origin = Origin::start().await.answering(|_| ok("from the origin"));
    let file = plugin("wall", "on-request = 'respond'") + &policy("domain = '*'\nplugins = ['wall']");
    let tunnel = start(&origin.url(), &file).await;
    let reply = tunnel.get("/").await;
    assert_eq!((reply.status(), reply.text().as_str()), (418, "a teapot"));
    assert_eq!(tunnel.client.process.events("exchange").len(), 0, "the client wasn't asked");
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn one_file_serves_at_both_ends_and_runs_at_each() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let (cache, wasm) = (compiled(), guest("hostile"));
    let file = plugin("at-proxy", "on-request = 'mark:proxy', on-response = 'mark:proxy'")
        + &policy("domain = '*'\nplugins = ['at-proxy']");
    let flag = format!("{}?on-request=mark:client&on-response=mark:client", path_text(&wasm));
    let setup = Setup::new().proxy_file(&file).proxy(&["--plugin-cache", &cache]);
    let tunnel = setup.client(&["--plugin-cache", &cache, "--plugin", &flag]).start(&origin.url()).await;
    let reply = tunnel.get("/").await;
    assert_eq!(origin.seen()[0].head.texts("x-mark"), ["proxy", "client"]);
    assert_eq!(reply.head.texts("x-mark"), ["client", "proxy"]);
}

#[tokio::test]
async fn the_first_policy_that_fits_holds() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let file = plugin("a", "on-request = 'mark:a'")
        + &plugin("b", "on-request = 'mark:b'")
        + &policy("domain = '*'\npath = '/open'")
        + &policy("domain = '*'\npath = '/both/*'\nplugins = ['b', 'a']")
        + &policy("domain = '*.localhost'\nplugins = ['a']")
        + &policy("domain = '*.elsewhere.example'\nplugins = ['b']");
    let tunnel = start(&origin.url(), &file).await;
    for (path, marks) in
        [("/open", &[][..]), ("/both/x", &["b", "a"]), ("/both", &["b", "a"]), ("/openly", &["a"])]
    {
        assert_eq!(tunnel.get(path).await.status(), 200);
        assert_eq!(origin.seen().last().expect("it came").head.texts("x-mark"), marks, "{path}");
        assert_eq!(origin.seen().last().expect("it came").head.target(), path, "the bytes as sent");
    }
}

#[tokio::test]
async fn no_spelling_of_a_path_or_host_slips_past_a_policy() {
    let origin = Origin::start().await.answering(|_| ok("past the wall"));
    let file = plugin("wall", "on-request = 'respond'")
        + &policy("domain = '*.localhost'\npath = '/api/*'\nplugins = ['wall']");
    let tunnel = start(&origin.url(), &file).await;
    for path in [
        "/api",
        "/api/",
        "/api/x?y",
        "/%61pi",
        "/%61%70%69/x",
        "//api",
        "/x/../api/",
        "/./api",
        "/x/%2e%2e/api",
        "/x%2f..%2fapi",
        "/api;a=b",
        "/\\api",
        "/api/../api/x",
    ] {
        let status = tunnel.get(path).await.status();
        assert!([418, 400].contains(&status), "{path}: {status}");
    }
    // The other way to a tunnel, by the proxy's own host; and the host in another case.
    let label = tunnel.client.label().to_owned();
    for (host, path) in [
        (tunnel.proxy.address.to_string(), format!("/proxy/request/{label}/api/x")),
        ("localhost".to_owned(), format!("/proxy/request/{label}/api")),
        (tunnel.host().to_uppercase(), "/api".to_owned()),
    ] {
        let mut visitor = tunnel.visit().await;
        visitor.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(visitor.reply("GET").await.status(), 418, "{host} {path}");
    }
    assert_eq!(origin.seen().len(), 0);
    assert_eq!(tunnel.get("/apix//y%2Fz").await.text(), "past the wall");
    assert_eq!(origin.seen()[0].head.target(), "/apix//y%2Fz", "the bytes as sent");
}

#[tokio::test]
async fn a_policy_has_its_own_limits_and_says_so() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let file = policy("domain = '*'\npath = '/small'\nmax_body = '10B'")
        + &policy("domain = '*'\npath = '/large'\nmax_body = 'unlimited'")
        + &policy("domain = '*'\npath = '/seldom'\nrate = { requests = 1, per = '1h', burst = 1 }");
    let tunnel = start(&origin.url(), &file).await;
    let told = tunnel.post("/small", &[0; 11]).await.explained(413, "request-too-large");
    assert!(told.contains("max_body in its policy"), "{told}");
    assert_eq!(tunnel.post("/large", &[0; 600_000]).await.status(), 200);
    assert_eq!(tunnel.post("/other", &[0; 600_000]).await.status(), 413);
    assert_eq!(tunnel.get("/seldom").await.status(), 200);
    let told = tunnel.get("/seldom").await.explained(429, "too-many-requests");
    assert!(told.contains("1 requests in 3600s"), "{told}");
    assert_eq!(tunnel.get("/other").await.status(), 200, "a bucket of its own");
}

#[tokio::test]
async fn an_answer_may_take_as_long_as_its_policy_says() {
    let origin = Origin::start().await.handling(|mut wire: Wire| async move {
        wire.request().await;
        // No answer: the connection stays open until the other side has had enough.
        let _ = wire.try_head().await;
    });
    let tunnel = start(&origin.url(), &policy("domain = '*'\ntimeout = '10ms'")).await;
    let reply: Reply = tunnel.get("/").await;
    let told = reply.explained(504, "timed-out");
    assert!(told.contains("timeout in its policy"), "{told}");
}

#[tokio::test]
async fn a_secret_reaches_the_plugin_that_it_is_granted_to() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let (probe, home) = (guest("probe"), tempfile::tempdir().expect("a folder"));
    std::fs::write(home.path().join("key"), "hush\n").expect("a file");
    let file = format!(
        "[secrets]\njwt-key = {{ file = {:?} }}\n[[plugin]]\nname = 'probe'\nfile = {probe:?}\n\
         grant = {{ kv = true, http = ['http://127.0.0.1:9'], secrets = ['jwt-key'] }}\n\
         [[policy]]\ndomain = '*'\nplugins = ['probe']\n",
        home.path().join("key")
    );
    let tunnel = start(&origin.url(), &file).await;
    let mut visitor =
        tunnel.ask("GET /", &["script: [[\"secret\", \"jwt-key\"], [\"secret\", \"other\"]]"]).await;
    let reply = visitor.reply("GET").await;
    assert!(reply.text().contains("hush"), "{}", reply.text());
}
