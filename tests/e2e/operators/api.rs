//! The admin API, and the commands that use it.

use std::{fs, net::SocketAddr};

use serde_json::Value;

use crate::harness::{Origin, Reply, Setup, Tunnel, Wire, compiled, guest, origin::ok, path_text};

async fn start(origin: &str, arguments: &[&str], file: &str) -> (Tunnel, SocketAddr) {
    let cache = compiled();
    let setup = Setup::new().proxy_file(file).proxy(&["--admin", "127.0.0.1:0", "--plugin-cache", &cache]);
    let tunnel = setup.proxy(arguments).start(origin).await;
    let admin = tunnel.proxy.admin.expect("an admin listener");
    (tunnel, admin)
}

async fn ask(admin: SocketAddr, line: &str, fields: &[&str]) -> Reply {
    let mut wire = Wire::connect(admin).await;
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let host = if fields.contains("Host:") { String::new() } else { format!("Host: {admin}\r\n") };
    wire.send(format!("{line} HTTP/1.1\r\n{host}{fields}\r\n")).await;
    wire.reply(line.split(' ').next().expect("a method")).await
}

async fn json(admin: SocketAddr, path: &str) -> Value {
    let reply = ask(admin, &format!("GET /api/v1/{path}"), &[]).await;
    assert_eq!((reply.status(), reply.head.text("content-type").as_deref()), (200, Some("application/json")));
    serde_json::from_str(&reply.text()).expect("JSON")
}

#[tokio::test]
async fn it_shows_the_node_its_sessions_policies_and_plugins() {
    let origin = Origin::start().await.answering(|request| ok(request.body.clone()));
    let wasm = guest("hostile");
    let file = format!(
        "[[plugin]]\nname = 'mark'\nfile = {wasm:?}\nconfig = {{ on-request = 'mark:x' }}\n\
         [[policy]]\ndomain = '*.localhost'\npath = '/a/*'\nplugins = ['mark']\nmax_body = '2kB'\n"
    );
    let (tunnel, admin) = start(&origin.url(), &[], &file).await;
    assert_eq!(tunnel.post("/x", b"12345").await.text(), "12345");

    let node = json(admin, "node").await;
    assert_eq!(
        (&node["sessions"], &node["state"], &node["bus"]),
        (&1.into(), &"ready".into(), &"memory".into())
    );
    assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    let sessions = json(admin, "sessions").await;
    assert_eq!((sessions["sessions"].as_array().map(Vec::len), &sessions["next"]), (Some(1), &Value::Null));
    let session = &sessions["sessions"][0];
    let (label, url) = (tunnel.client.label(), tunnel.client.public_url.trim_end_matches('/'));
    assert_eq!(session["tunnels"][0]["tunnel"], label, "{session:#}");
    assert_eq!(session["tunnels"][0]["public_url"], url);
    for (key, value) in
        [("dialect", Value::from("v2")), ("exchanges", 1.into()), ("exchanges_open", 0.into())]
    {
        assert_eq!(session[key], value, "{key} in {session:#}");
    }
    let program = session["program"].as_str().unwrap_or_default();
    assert_eq!(program, concat!("tunnel/", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        (&session["bytes_to_client"], &session["bytes_from_client"]),
        (&5.into(), &5.into()),
        "{session:#}"
    );
    assert_eq!(json(admin, &format!("sessions/{}", session["id"])).await["id"], session["id"]);
    assert_eq!(json(admin, &format!("sessions?tunnel={label}")).await["sessions"][0]["id"], session["id"]);
    assert_eq!(json(admin, "sessions?tunnel=other").await["sessions"], serde_json::json!([]));
    assert_eq!(json(admin, "names").await["names"][0]["tunnel"], label);

    let policy = &json(admin, "policies").await["policies"][0];
    let expected = serde_json::json!({
        "domain": "*.localhost", "path": "/a/*", "plugins": ["mark"], "serve": null, "max_body": 2000
    });
    assert_eq!(policy, &expected);
    let plugin = &json(admin, "plugins").await["plugins"][0];
    assert_eq!((&plugin["name"], &plugin["state"]), (&"mark".into(), &"in use".into()), "{plugin:#}");
    assert_eq!(plugin["sha256"].as_str().map(str::len), Some(64));

    for (line, status) in [
        ("GET /api/v1/nothing", 404),
        ("GET /api/v1/sessions/999", 404),
        ("GET /api/v1/sessions/x", 400),
        ("GET /api/v1/sessions?limit=0", 400),
        ("GET /api/v1/sessions?limit=100000", 400),
        ("GET /api/v1/sessions?unknown=1", 400),
        ("POST /api/v1/sessions", 405),
        ("GET /api/v1/drain", 405),
        ("PUT /api/v1/node", 405),
    ] {
        let reply = ask(admin, line, &[]).await;
        assert_eq!(reply.status(), status, "{line}: {}", reply.text());
    }
}

#[tokio::test]
async fn sessions_come_in_pages() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let (tunnel, admin) = start(&origin.url(), &[], "").await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients
            .push(crate::harness::Client::start(&tunnel.proxy.url(), &origin.url(), &tunnel.key, &[]).await);
    }
    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let page = json(admin, &format!("sessions?limit=2&after={after}")).await;
        let sessions = page["sessions"].as_array().expect("a list");
        assert!(sessions.len() <= 2);
        seen.extend(sessions.iter().filter_map(|session| session["id"].as_u64()));
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(seen, [1, 2, 3]);
    let listed = tunnel.proxy.home.run(&["proxy", "sessions", "--admin", &admin.to_string(), "--json"]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn a_session_that_is_ended_is_gone_and_its_client_comes_back() {
    let origin = Origin::start().await.answering(|_| ok("again"));
    let (mut tunnel, admin) = start(&origin.url(), &[], "").await;
    let url = format!("http://{admin}");
    let exit = tunnel.proxy.home.run(&["proxy", "disconnect", "1", "--admin", &url]).await;
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(0), "session 1 is ended\n"), "{exit:?}");
    tunnel.client.process.event("disconnected").await;
    tunnel.client.process.event("reconnected").await;
    assert_eq!(tunnel.get("/").await.text(), "again");
    let sessions = json(admin, "sessions").await;
    assert_eq!(sessions["sessions"][0]["id"], 2, "{sessions:#}");
    let exit = tunnel.proxy.home.run(&["proxy", "disconnect", "1", "--admin", &url]).await;
    assert_eq!(exit.code, Some(1));
    assert!(
        exit.stderr.contains("says 404") && exit.stderr.contains("no session of this id"),
        "{}",
        exit.stderr
    );
}

#[tokio::test]
async fn a_node_that_is_told_to_drain_ends_as_by_a_signal() {
    let origin = Origin::start().await;
    let (mut tunnel, admin) = start(&origin.url(), &[], "").await;
    let mut waiting = tunnel.ask("GET /waiting", &[]).await;
    let (mut answers, _) = origin.request().await;
    let admin_text = admin.to_string();
    let status = tunnel.proxy.home.run(&["proxy", "status", "--admin", &admin_text]).await;
    assert!(status.stdout.contains("exchanges    1\n"), "{}", status.stdout);
    let exit = tunnel.proxy.home.run(&["proxy", "drain", "--admin", &admin_text]).await;
    assert_eq!(exit.stdout, "it drains; exchanges under way: 1\n", "{exit:?}");
    tunnel.proxy.process.event("draining").await;
    answers.send(ok("waited")).await;
    assert_eq!(waiting.reply("GET").await.text(), "waited");
    assert_eq!(tunnel.proxy.process.exit().await.code, Some(0));
    let exit = tunnel.proxy.home.run(&["proxy", "status", "--admin", &admin_text]).await;
    assert!(exit.stderr.contains("nobody answers at http://"), "{}", exit.stderr);
}

#[tokio::test]
async fn a_token_is_wanted_and_no_page_of_a_browser_gets_in() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    fs::write(&file, "0123456789abcdef0123\n").expect("written");
    let (tunnel, admin) = start(&origin.url(), &["--admin-token-file", path_text(&file)], "").await;
    let bearer = "Authorization: Bearer 0123456789abcdef0123";
    for (line, fields, status) in [
        ("GET /healthz", &[][..], 200),
        ("GET /readyz", &[], 200),
        ("GET /metrics", &[], 401),
        ("GET /api/v1/node", &[], 401),
        ("GET /api/v1/node", &["Authorization: Bearer 0123456789abcdef012"], 401),
        ("GET /api/v1/node", &[bearer], 200),
        ("GET /metrics", &[bearer], 200),
        ("DELETE /api/v1/sessions/1", &[], 401),
        ("DELETE /api/v1/sessions/1", &[bearer, "Origin: https://evil.example"], 403),
        ("POST /api/v1/drain", &[bearer, "Sec-Fetch-Site: cross-site"], 403),
    ] {
        assert_eq!(ask(admin, line, fields).await.status(), status, "{line} {fields:?}");
    }
    let home = &tunnel.proxy.home;
    let refused = home.run(&["proxy", "status", "--admin", &admin.to_string()]).await;
    assert!(refused.stderr.contains("says 401"), "{}", refused.stderr);
    let token = ["--admin-token-file", path_text(&file)];
    let admin = admin.to_string();
    let arguments = [&["proxy", "status", "--admin", &admin][..], &token].concat();
    assert_eq!(home.run(&arguments).await.code, Some(0));
    assert_eq!(tunnel.proxy.process.events("unregistered").len(), 0);
}

#[tokio::test]
async fn without_a_token_a_rebound_name_gets_nothing() {
    let origin = Origin::start().await;
    let (tunnel, admin) = start(&origin.url(), &[], "").await;
    for line in ["GET /api/v1/sessions", "GET /metrics", "POST /api/v1/drain"] {
        let reply = ask(admin, line, &["Host: rebound.example"]).await;
        assert_eq!(reply.status(), 403, "{line}");
    }
    let reply = ask(admin, "POST /api/v1/drain", &["Origin: http://localhost:3000"]).await;
    assert_eq!(reply.status(), 403);
    assert_eq!(tunnel.proxy.process.events("draining").len(), 0);

    let exit = tunnel.proxy.home.run(&["proxy", "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"]).await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(exit.stderr.contains("asks nobody for a token"), "{}", exit.stderr);
}
