//! Redis that goes away and comes back empty: local tunnels don't notice, the others come back by themselves.

use std::time::{Duration, Instant};

use crate::harness::{
    Cluster, Door, Origin, Pattern, Process, Redis, certificate::self_signed, cluster::Place, load,
    origin::vacant, path_text, process::TUNNEL, tunnel::Home, within,
};

/// What is said to visitors of a tunnel that can't be reached without Redis.
const UNREACHED: (u16, &str) = (503, "bus-away");

/// Remote tunnels are back in this time after Redis is.
const BACK: Duration = Duration::from_secs(5);

/// Whether the long versions of tests are wanted.
fn full() -> bool {
    std::env::var_os("TUNNEL_TEST_FULL").is_some()
}

/// Asks until this comes; whatever comes before is an answer that says something.
async fn until(door: &Door, wanted: (u16, Option<&str>)) {
    within(&format!("answers with {wanted:?}"), async {
        loop {
            let reply = door.get("/").await;
            let (status, error) = (reply.status(), reply.error());
            if (status, error.as_deref()) == wanted {
                return;
            }
            assert!(status == 200 || error.is_some(), "{status}: {}", reply.text());
        }
    })
    .await;
}

#[tokio::test]
async fn local_tunnels_never_fail_without_redis_and_remote_ones_come_back() {
    let origin = load::echoing().await;
    let mut cluster = Cluster::start(&["--rate", "off"]).await;
    let client = cluster.client_at(0, &origin.url()).await;
    let (local, remote) = (cluster.door_at(0, &client), cluster.door_at(1, &client));
    let load = load::Load::start(&local, 2);
    let sockets = load::Sockets::open(&local, 5).await;
    for round in 0..2 {
        assert_eq!(remote.get("/").await.status(), 200);
        if round == 0 {
            cluster.redis.kill().await
        } else {
            cluster.redis.stop().await
        }
        let begin = Instant::now();
        until(&remote, (UNREACHED.0, Some(UNREACHED.1))).await;
        let noticed = begin.elapsed();
        assert!(noticed < BACK, "said after {noticed:?}");
        let mut often = tokio::time::interval(Duration::from_millis(100));
        while full() && round == 0 && begin.elapsed() < Duration::from_secs(10) {
            often.tick().await;
            remote.get("/").await.explained(UNREACHED.0, UNREACHED.1);
        }
        let reply = remote.get("/").await;
        reply.explained(UNREACHED.0, UNREACHED.1);
        let seconds = reply.head.text("retry-after").expect("when to come back");
        assert!(seconds.parse::<u32>().is_ok_and(|seconds| seconds <= 5), "{seconds}");
        // Balancers must not take a node away that serves its own.
        assert_eq!(cluster.nodes[0].health("/healthz").await, 200);
        load.goes_on_for(100).await;

        cluster.redis.start_again().await;
        let begin = Instant::now();
        for node in 0..3 {
            until(&cluster.door_at(node, &client), (200, None)).await;
        }
        let back = begin.elapsed();
        assert!(back < BACK, "back after {back:?}");
    }
    assert_eq!(sockets.finish().await, vec![load::End::Alive; 5]);
    load.finish().await.all_well();
}

#[tokio::test]
async fn a_client_that_comes_while_redis_is_away_is_served_here_and_found_elsewhere_later() {
    let origin = load::echoing().await;
    let mut cluster = Cluster::start(&[]).await;
    cluster.redis.kill().await;
    let client = cluster.client_at(2, &origin.url()).await;
    assert_eq!(cluster.door_at(2, &client).get("/").await.status(), 200);
    let remote = cluster.door_at(0, &client);
    let reply = remote.get("/").await;
    assert_eq!(reply.status(), UNREACHED.0, "{}", reply.text());
    cluster.redis.start_again().await;
    let begin = Instant::now();
    until(&remote, (200, None)).await;
    assert!(begin.elapsed() < BACK, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn nodes_start_without_redis_and_find_it_later() {
    let origin = load::echoing().await;
    let mut redis = Redis::start().await;
    let url = redis.url();
    redis.kill().await;
    let mut cluster = Cluster::over(redis, &[&url, &url], &[]).await;
    let client = cluster.client_at(0, &origin.url()).await;
    assert_eq!(cluster.door_at(0, &client).get("/").await.status(), 200);
    cluster.redis.start_again().await;
    until(&cluster.door_at(1, &client), (200, None)).await;
}

#[tokio::test]
async fn a_subscription_that_breaks_in_mid_body_never_makes_a_wrong_one() {
    const SIZE: usize = 8 << 20;
    let origin = Origin::start().await;
    let cluster = Cluster::start(&["--max-body", "unlimited"]).await;
    let client = cluster.client_at(0, &origin.url()).await;
    let door = cluster.door_at(1, &client);
    for _ in 0..3 {
        let mut visitor = door.ask("GET /download", &[]).await;
        let (mut answers, _) = origin.request().await;
        answers.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        let head = visitor.head().await;
        let sending = async {
            let (mut sent, mut pattern) = (0, Pattern::default());
            while sent < SIZE {
                let part = pattern.next((SIZE - sent) as u64);
                if answers.try_send(part).await.is_err() {
                    return;
                }
                sent += part.len();
            }
        };
        let reading = async {
            let mut pattern = Pattern::default();
            let begin = visitor.exactly(SIZE / 8).await;
            pattern.check(&begin);
            // All inboxes at once: some of what is under way is heard by nobody.
            cluster.redis.say("CLIENT KILL TYPE pubsub").await;
            match visitor.rest_of_reply("GET", &head).await {
                Ok((rest, _)) => panic!("whole, with {} bytes, over a link that broke", rest.len()),
                Err(broken) => pattern.check(&broken.got),
            }
        };
        tokio::join!(sending, reading);
        let again = async {
            loop {
                let mut visitor = door.ask("GET /again", &[]).await;
                tokio::select! {
                    reply = visitor.reply("GET") => {
                        assert_eq!(reply.status(), UNREACHED.0, "{}", reply.text());
                        assert!(reply.head.has("retry-after"), "{}", reply.text());
                    }
                    (mut answers, _) = origin.request() => {
                        answers.send(crate::harness::origin::ok("again")).await;
                        return assert_eq!(visitor.reply("GET").await.text(), "again");
                    }
                }
            }
        };
        within("the subscription to be there again", again).await;
    }
}

/// A server that saves, or is asked something slow, says nothing for a while.
#[tokio::test]
async fn a_redis_that_stalls_for_a_moment_fails_nobody() {
    let origin = load::echoing().await;
    let cluster = Cluster::start(&["--rate", "off"]).await;
    let client = cluster.client_at(0, &origin.url()).await;
    let remote = cluster.door_at(1, &client);
    let load = load::Load::start(&remote, 4);
    let sockets = load::Sockets::open(&remote, 5).await;
    for _ in 0..3 {
        load.goes_on_for(100).await;
        assert_eq!(cluster.redis.say("CLIENT PAUSE 900 ALL").await, "+OK");
    }
    load.goes_on_for(100).await;
    load.finish().await.all_well();
    assert_eq!(sockets.finish().await, vec![load::End::Alive; 5]);
}

/// A Redis that speaks TLS alone and wants a password, and what a node needs to trust it.
async fn guarded() -> (Redis, Home) {
    let home = Home::new();
    let (text, secret) = self_signed(&["localhost", "127.0.0.1"]);
    let (certificate, key) = (home.file("redis.pem"), home.file("redis.key"));
    std::fs::write(&certificate, text).expect("a temporary folder can be written to");
    std::fs::write(&key, secret).expect("a temporary folder can be written to");
    let address = vacant().await;
    let port = address.port().to_string();
    let arguments = [
        &["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no", "--requirepass", PASSWORD][..],
        &["--tls-cert-file", path_text(&certificate), "--tls-key-file", path_text(&key)],
        &["--tls-ca-cert-file", path_text(&certificate)],
    ];
    (Redis::start_with(address, &arguments.concat()).await, home)
}

/// With signs that a URL has to encode.
const PASSWORD: &str = "p@ss/w:rd";

/// The URL with this password.
fn guarded_url(redis: &Redis, password: &str) -> String {
    let password = percent_encoding::utf8_percent_encode(password, percent_encoding::NON_ALPHANUMERIC);
    format!("rediss://:{password}@localhost:{}/3", redis.address().port())
}

#[tokio::test]
async fn a_redis_with_tls_a_password_and_a_database_is_reached() {
    let origin = load::echoing().await;
    let (redis, home) = guarded().await;
    let url = guarded_url(&redis, PASSWORD);
    let certificate = home.file("redis.pem");
    let mut places = Vec::new();
    for _ in 0..2 {
        places.push(Place::anywhere(&url).await.with("SSL_CERT_FILE", path_text(&certificate)));
    }
    let mut cluster = Cluster::at(redis, places, &[]).await;
    let client = cluster.client_at(0, &origin.url()).await;
    let remote = cluster.door_at(1, &client);
    assert_eq!(remote.get("/").await.status(), 200);
    cluster.redis.kill().await;
    until(&remote, (UNREACHED.0, Some(UNREACHED.1))).await;
    cluster.redis.start_again().await;
    until(&remote, (200, None)).await;
    for node in &mut cluster.nodes {
        let exit = node.stop().await;
        for said in [exit.stdout, exit.stderr] {
            assert!(!said.contains(PASSWORD) && !said.contains("p%40ss"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_redis_that_is_not_trusted_or_refuses_is_said_at_the_start() {
    let (redis, home) = guarded().await;
    let certificate = home.file("redis.pem");
    for (password, trusted, says) in [("wrong", true, "password"), (PASSWORD, false, "certificate")] {
        let url = guarded_url(&redis, password);
        let arguments = ["proxy", "--listen", "127.0.0.1:0", "--bus", &url, "--check"];
        let trust = [("SSL_CERT_FILE", path_text(&certificate))];
        let variables = if trusted { &trust[..] } else { &[] };
        let exit = Process::run("proxy", home.path(), TUNNEL, arguments, variables).exit().await;
        assert_ne!(exit.code, Some(0), "{exit:?}");
        assert!(exit.stderr.to_lowercase().contains(says), "{says} is not in {}", exit.stderr);
        assert!(!exit.stderr.contains("p%40ss") && !exit.stderr.contains(PASSWORD), "{}", exit.stderr);
    }
}
