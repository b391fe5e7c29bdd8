//! What docs/ says to operators, done: its balancers' settings, its compose file. (All other tests of clusters run docs/nginx.conf.)

use std::{net::SocketAddr, time::Duration};

use crate::harness::{
    Client, Cluster, Door, Process, Redis,
    certificate::self_signed,
    load,
    origin::vacant,
    path_text,
    process::{TUNNEL, find},
    tunnel::Home,
    within,
};

fn document(name: &str) -> String {
    let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The path of haproxy; a line that says what is left out where there is none.
fn haproxy() -> Option<String> {
    let found = find("haproxy");
    if found.is_none() {
        println!(
            "skipped: there is no haproxy here to try docs/haproxy.cfg with (on Debian: apt install haproxy)"
        );
    }
    found
}

/// The words of a line.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// docs/haproxy.cfg, without TLS, which this test leaves out, for these nodes: where each listens, and where it tells its health.
fn haproxy_for(listen: SocketAddr, nodes: &[(SocketAddr, SocketAddr)]) -> String {
    let mut nodes = nodes.iter();
    let (mut binds, mut lines) = (0, String::new());
    for line in document("haproxy.cfg").lines() {
        let line = match words(line)[..] {
            ["bind", ..] => {
                binds += 1;
                format!("    bind {listen}")
            }
            // Each takes two files, and a test has few.
            ["maxconn", _] => "    maxconn 1000".to_owned(),
            ["server", name, _] => match nodes.next() {
                Some((node, admin)) => format!("    server {name} {node} port {}", admin.port()),
                None => String::new(),
            },
            _ => line.to_owned(),
        };
        lines.push_str(&line);
        lines.push('\n');
    }
    assert_eq!((binds, nodes.next()), (1, None), "docs/haproxy.cfg isn't what this test knows");
    lines
}

#[tokio::test]
async fn the_documented_haproxy_is_one_that_haproxy_takes() {
    let Some(haproxy) = haproxy() else { return };
    let home = Home::new();
    let (certificate, key) = self_signed(&["tunnels.example.com"]);
    let both = home.file("both.pem");
    std::fs::write(&both, certificate + &key).expect("a temporary folder can be written to");
    let text = document("haproxy.cfg");
    let named = "/etc/haproxy/tunnels.example.com.pem";
    assert!(text.contains(named), "docs/haproxy.cfg names no certificate");
    let file = home.file("haproxy.cfg");
    let text = text.replace(named, path_text(&both));
    std::fs::write(&file, text).expect("a temporary folder can be written to");
    let exit =
        Process::run("haproxy", home.path(), &haproxy, ["-c", "-f", path_text(&file)], &[]).exit().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(!exit.stderr.contains("WARNING"), "{}", exit.stderr);
}

#[tokio::test]
async fn nodes_behind_the_documented_haproxy_restart_and_no_request_fails() {
    let Some(haproxy) = haproxy() else { return };
    let front = vacant().await;
    let url = format!("http://{front}");
    let origin = load::echoing().await;
    let mut cluster = Cluster::start(&["--rate", "off", "--also-known-as", &url]).await;
    let nodes: Vec<_> = cluster.nodes.iter().map(|node| (node.address(), node.admin())).collect();
    let home = Home::new();
    let file = home.file("haproxy.cfg");
    std::fs::write(&file, haproxy_for(front, &nodes)).expect("a temporary folder can be written to");
    let arguments = ["-db", "-f", path_text(&file)];
    let _balancer = Process::run("haproxy", home.path(), &haproxy, arguments, &[]);
    let mut often = tokio::time::interval(Duration::from_millis(20));
    within("haproxy to listen", async {
        while tokio::net::TcpStream::connect(front).await.is_err() {
            often.tick().await;
        }
    })
    .await;
    let client = Client::start(&url, &origin.url(), &home.file("key.pem"), &[]).await;
    let door = Door { address: front, host: client.host().to_owned() };
    let load = load::Load::start(&door, 8);
    for node in 0..nodes.len() {
        load.goes_on_for(500).await;
        let exit = cluster.nodes[node].stop().await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        cluster.nodes[node].start_again().await;
        cluster.nodes[node].is_visited().await;
    }
    load.goes_on_for(500).await;
    load.finish().await.all_well();
}

/// The items of the list `command:` that follows this line of docs/compose.yaml.
fn command_after(line: &str) -> Vec<String> {
    let text = document("compose.yaml");
    let mut lines = text.lines().skip_while(|found| *found != line);
    assert!(lines.next().is_some(), "docs/compose.yaml has no line {line:?}");
    let lines = lines.skip_while(|line| line.trim() != "command:").skip(1);
    let items = lines.map_while(|line| line.trim().strip_prefix("- "));
    items.map(|item| item.trim_matches('"').to_owned()).collect()
}

#[tokio::test]
async fn the_documented_compose_file_starts_programs_as_they_are() {
    // The database, with all but its port.
    let address = vacant().await;
    let command = command_after("  redis:");
    let port = address.port().to_string();
    let arguments: Vec<&str> = command[1..].iter().map(String::as_str).chain(["--port", &port]).collect();
    assert_eq!(command[0], "redis-server");
    let redis = Redis::start_with(address, &arguments).await;
    assert_eq!(redis.say("PING").await, "+PONG");
    // A node, with all but its Redis; --check does everything that a start does before it listens.
    let home = Home::new();
    let command = command_after("x-node: &node");
    let mut arguments: Vec<String> = command.into_iter().filter(|word| !word.starts_with("--bus=")).collect();
    assert_eq!(arguments[0], "proxy");
    arguments.extend([format!("--bus={}", redis.url()), "--check".to_owned()]);
    let exit = Process::run("node", home.path(), TUNNEL, &arguments, &[]).exit().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[test]
fn nodes_have_the_same_addresses_in_all_documents() {
    let documents = ["nginx.conf", "haproxy.cfg", "compose.yaml", "operations.md"].map(document);
    for text in &documents {
        for node in ["10.0.0.11", "10.0.0.12", "10.0.0.13"] {
            assert!(text.contains(node), "{node} is missing in:\n{text}");
        }
    }
}

/// The lines of docs/operations.md that begin so; a line that ends with a backslash goes on.
fn lines_of_operations(beginning: &str) -> Vec<String> {
    let text = document("operations.md").replace("\\\n", " ");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with(beginning)).map(str::to_owned).collect();
    assert!(!lines.is_empty(), "docs/operations.md has no line that begins with {beginning:?}");
    lines
}

#[tokio::test]
async fn the_documented_commands_are_taken() {
    let redis = Redis::start().await;
    for line in lines_of_operations("tunnel proxy ") {
        let line = line.trim_end_matches('&').trim();
        let mut arguments: Vec<&str> = line.split_whitespace().skip(1).collect();
        let bus = arguments.iter().position(|word| *word == "--bus").expect("each has a bus");
        let url = redis.url();
        arguments[bus + 1] = &url;
        arguments.push("--check");
        let exit = Home::new().run(&arguments).await;
        assert_eq!(exit.code, Some(0), "{line}: {exit:?}");
    }
}

#[tokio::test]
async fn the_documented_user_of_redis_may_do_what_nodes_do() {
    let file = Home::new();
    let users = lines_of_operations("user ").join("\n");
    let path = file.file("users.acl");
    std::fs::write(&path, users).expect("a temporary folder can be written to");
    let address = vacant().await;
    let redis =
        Redis::start_with(address, &["--port", &address.port().to_string(), "--aclfile", path_text(&path)])
            .await;
    assert!(redis.say("PING").await.starts_with("-NOAUTH"), "nobody else gets in");
    let url = format!("redis://tunnel:A-LONG-PASSWORD@{address}/0");
    let origin = load::echoing().await;
    let cluster = Cluster::over(redis, &[&url, &url], &[]).await;
    let client = cluster.client_at(0, &origin.url()).await;
    let load = load::Load::start(&cluster.door_at(1, &client), 4);
    load.reaches(200).await;
    load.finish().await.all_well();
    assert_eq!(cluster.nodes[1].metric("tunnel_bus_connected").await, 1);
}
