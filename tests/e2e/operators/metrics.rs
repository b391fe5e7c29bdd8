//! Numbers of a proxy and of a client, as a collector reads them, and the documents that name them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::harness::{
    Exposition, Frame, Opcode, Origin, Setup, Tunnel, compiled, guest, origin::ok, process::find, websocket,
};

async fn start(origin: &str, file: &str) -> (Tunnel, SocketAddr, SocketAddr) {
    let cache = compiled();
    let setup = Setup::new().proxy_file(file).proxy(&["--admin", "127.0.0.1:0", "--plugin-cache", &cache]);
    let mut tunnel = setup.client(&["--metrics", "127.0.0.1:0"]).start(origin).await;
    let admin = tunnel.proxy.admin.expect("an admin listener");
    let event = tunnel.client.process.event("metrics").await;
    let client = event["address"].as_str().and_then(|address| address.parse().ok()).expect("an address");
    (tunnel, admin, client)
}

fn plugin(name: &str, config: &str) -> String {
    format!("[[plugin]]\nname = '{name}'\nfile = {:?}\nconfig = {{ {config} }}\n", guest("hostile"))
}

#[tokio::test]
async fn what_visitors_do_is_counted_at_both_ends() {
    let origin = Origin::start().await.answering(|request| ok(request.body.clone()));
    let file = plugin("wall", "on-request = 'respond'")
        + "[[policy]]\ndomain = '*'\npath = '/wall'\nplugins = ['wall']\n[limits]\nmax_body = '1kB'\n";
    let (tunnel, admin, client) = start(&origin.url(), &file).await;
    assert_eq!(tunnel.post("/echo", b"12345").await.status(), 200);
    assert_eq!(tunnel.post("/large", &[0; 2000]).await.status(), 413);
    assert_eq!(tunnel.get("/wall").await.status(), 418);

    let metrics = Exposition::of(admin).await;
    for (name, labels, value) in [
        ("tunnel_requests_total", &[("protocol", "HTTP/1.1"), ("scheme", "http")][..], 4.0),
        ("tunnel_exchanges_total", &[("outcome", "2xx")], 1.0),
        ("tunnel_exchanges_total", &[("outcome", "request-too-large")], 1.0),
        ("tunnel_limits_hit_total", &[("limit", "request-body")], 1.0),
        ("tunnel_attachments_total", &[("dialect", "v2"), ("outcome", "registered")], 1.0),
        ("tunnel_registrations_total", &[("outcome", "accepted")], 1.0),
        ("tunnel_sessions_open", &[], 1.0),
        (
            "tunnel_plugin_calls_total",
            &[("plugin", "wall"), ("hook", "on-request"), ("verdict", "respond")],
            1.0,
        ),
        ("tunnel_plugin_call_duration_seconds_count", &[("plugin", "wall"), ("hook", "on-request")], 1.0),
        ("tunnel_plugin_paused", &[("plugin", "wall")], 0.0),
        ("tunnel_plugin_instances_idle", &[("plugin", "wall")], 1.0),
    ] {
        assert_eq!(metrics.value(name, labels), value, "{name} {labels:?}\n{}", metrics.text());
    }
    assert!(metrics.value("tunnel_visitor_bytes_total", &[("direction", "in")]) >= 5.0);
    assert!(metrics.value("tunnel_visitor_bytes_total", &[("direction", "out")]) >= 5.0);
    if cfg!(target_os = "linux") {
        assert!(metrics.value("process_open_fds", &[]) > 3.0, "{}", metrics.text());
    }
    // What visitors and clients choose is no label.
    let labels = metrics.labels();
    let chosen = [tunnel.client.label(), tunnel.host(), "/echo", "127.0.0.1"];
    assert!(chosen.iter().all(|chosen| !labels.contains(chosen)), "{labels:?}");

    let echoed = [("outcome", "2xx")];
    let counted = |metrics: &Exposition| metrics.value("tunnel_client_exchanges_total", &echoed) == 1.0;
    let metrics = Exposition::until(client, "the exchange to be counted", counted).await;
    for (name, labels, value) in [
        ("tunnel_client_connected", &[("target", "service")][..], 1.0),
        ("tunnel_client_exchanges_total", &[("outcome", "2xx")], 1.0),
        ("tunnel_client_exchange_bytes_total", &[("direction", "in")], 5.0),
        ("tunnel_client_exchange_duration_seconds_count", &[], 1.0),
    ] {
        assert_eq!(metrics.value(name, labels), value, "{name} {labels:?}\n{}", metrics.text());
    }
}

#[tokio::test]
async fn messages_of_websockets_are_counted_while_they_pass() {
    let origin = Origin::start().await;
    let (tunnel, admin, _) = start(&origin.url(), "").await;
    let (mut visitor, mut service) = websocket::open(&tunnel, &origin, "/").await;
    visitor.send(Frame::whole(Opcode::Text, "four")).await;
    assert_eq!(service.next().await.payload, b"four");
    service.send(Frame::whole(Opcode::Binary, "123456")).await;
    assert_eq!(visitor.next().await.payload, b"123456");
    let metrics = Exposition::of(admin).await;
    for (name, direction, value) in [
        ("tunnel_websockets_open", None, 1.0),
        ("tunnel_websocket_messages_total", Some("in"), 1.0),
        ("tunnel_websocket_messages_total", Some("out"), 1.0),
        ("tunnel_visitor_bytes_total", Some("in"), 4.0),
        ("tunnel_visitor_bytes_total", Some("out"), 6.0),
    ] {
        let labels: Vec<_> = direction.map(|direction| ("direction", direction)).into_iter().collect();
        assert_eq!(metrics.value(name, &labels), value, "{name} {direction:?}\n{}", metrics.text());
    }
}

#[tokio::test]
async fn tunnels_have_series_only_where_that_is_asked_for() {
    let origin = Origin::start().await.answering(|_| ok("1234"));
    let (tunnel, admin, _) = start(&origin.url(), "metrics_per_tunnel = 1\n").await;
    assert_eq!(tunnel.get("/").await.status(), 200);
    let named = [("tunnel", tunnel.client.label())];
    let counted = |metrics: &Exposition| metrics.value("tunnel_by_tunnel_exchanges_total", &named) == 1.0;
    let metrics = Exposition::until(admin, "the exchange to be counted", counted).await;
    let out = [("tunnel", tunnel.client.label()), ("direction", "out")];
    assert_eq!(metrics.value("tunnel_by_tunnel_bytes_total", &out), 4.0, "{}", metrics.text());
}

fn docs(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    fs::read_to_string(root.join("docs").join(name)).unwrap_or_else(|error| panic!("docs/{name}: {error}"))
}

/// Names and kinds of the tables in docs/metrics.md.
fn documented() -> BTreeMap<String, String> {
    let text = docs("metrics.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let rows =
        rows.filter_map(|(name, rest)| Some((name.to_owned(), rest.split('|').nth(1)?.trim().to_owned())));
    rows.collect()
}

/// As a collector stores it: what docs, rules and dashboards name.
fn stored(family: &str, kind: &str) -> String {
    match kind {
        "counter" => format!("{family}_total"),
        "info" => format!("{family}_info"),
        _ => family.to_owned(),
    }
}

#[tokio::test]
async fn every_metric_is_documented_and_every_document_names_real_ones() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let file = plugin("mark", "on-request = 'mark:x'")
        + "[[policy]]\ndomain = '*'\nplugins = ['mark']\n[access_log]\nfile = 'access.log'\n";
    let file = format!("metrics_per_tunnel = 1\n{file}[limits]\nmax_body = '1kB'\n");
    let (mut tunnel, admin, client) = start(&origin.url(), &file).await;
    // A family is there once it has a series: something of every kind has to happen.
    assert_eq!(tunnel.get("/").await.status(), 200);
    assert_eq!(tunnel.post("/", &[0; 2000]).await.status(), 413);
    let mut nonsense = tunnel.visit().await;
    nonsense.send("NONSENSE\r\n\r\n").await;
    assert_eq!(nonsense.reply("GET").await.status(), 400);
    let ended = tunnel.proxy.home.run(&["proxy", "disconnect", "1", "--admin", &admin.to_string()]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    tunnel.client.process.event("reconnected").await;
    let counted = |metrics: &Exposition| metrics.value("tunnel_by_tunnel_exchanges_total", &[]) == 1.0;
    Exposition::until(admin, "the exchange to be counted", counted).await;
    let mut real = BTreeMap::new();
    for address in [admin, client] {
        let metrics = Exposition::of(address).await;
        real.extend(metrics.kinds.iter().map(|(name, kind)| (stored(name, kind), kind.clone())));
    }
    let documented = documented();
    assert!(documented.len() > 30, "{documented:?}");
    for (name, kind) in &real {
        assert_eq!(documented.get(name), Some(kind), "{name} in docs/metrics.md");
    }
    // Those that take a Redis, a client of the original's dialect, a plugin that is refused something, a proxy that leaves, TLS, a crowd,
    // a visitor who is slow, or floods.
    let rest = [
        "tunnel_v1_losses_total",
        "tunnel_client_moves_total",
        "tunnel_connections_refused_total",
        "tunnel_slow_visitors_total",
        "tunnel_http2_connections_ended_total",
        "tunnel_tls_handshakes_total",
    ];
    let elsewhere = |name: &str| {
        name.starts_with("tunnel_bus_") || name.starts_with("tunnel_plugin_") || rest.contains(&name)
    };
    for name in documented.keys().filter(|name| !elsewhere(name)) {
        assert!(real.contains_key(name), "docs/metrics.md has {name}, which nobody tells");
    }
    for document in ["grafana/tunnel.json", "prometheus-rules.yaml", "operations.md"] {
        for name in named_in(&docs(document)) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let known = documented.contains_key(&name)
                || base.is_some_and(|base| documented.get(base).is_some_and(|kind| kind == "histogram"));
            assert!(known, "docs/{document} names {name}, which docs/metrics.md doesn't have");
        }
    }
}

/// Words that look like our metrics.
fn named_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("tunnel_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_dashboard_is_one() {
    let dashboard: serde_json::Value = serde_json::from_str(&docs("grafana/tunnel.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.len() > 8);
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "each has an id of its own");
    let asks = |panel: &serde_json::Value| {
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        targets.iter().all(|target| target["expr"].as_str().is_some_and(|expr| !named_in(expr).is_empty()))
    };
    assert!(
        panels.iter().filter(|panel| panel["type"] != "row").all(asks),
        "each asks for something of ours"
    );
}

/// Where Prometheus is installed its own tool reads all of it.
#[tokio::test]
async fn prometheus_itself_takes_the_numbers_and_the_rules() {
    let Some(promtool) = find("promtool") else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let rules: PathBuf = root.join("docs/prometheus-rules.yaml");
    let checked = tokio::process::Command::new(&promtool).args(["check", "rules"]).arg(&rules).output().await;
    let checked = checked.expect("promtool runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
