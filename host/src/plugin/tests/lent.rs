//! What guests are lent, as they see it.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::redis::tests as redis;

#[tokio::test]
async fn entries_outlive_the_plugin_and_are_its_own() {
    let first = load_probe(probe("kv-a")).await;
    let done = run(&first, json!([["kv.set", "default", "k", "v", 0], ["kv.get", "default", "k"]])).await;
    assert_eq!(done, json!([null, "v"]));
    drop(first);
    let again = load_probe(probe("kv-a")).await;
    assert_eq!(run(&again, json!([["kv.get", "default", "k"]])).await, json!(["v"]));
    let other = load_probe(probe("kv-b")).await;
    assert_eq!(run(&other, json!([["kv.get", "default", "k"]])).await, json!([null]));
}

#[tokio::test]
async fn a_shared_bucket_is_for_those_who_are_granted_it() {
    let mut config = probe("kv-c");
    config.grant.shared_kv = vec!["sessions".to_owned()];
    let one = load_probe(config.clone()).await;
    config.name = "kv-d".to_owned();
    // With shared ones alone, there is none of its own.
    config.grant.kv = false;
    let two = load_probe(config).await;
    run(&one, json!([["kv.set", "sessions", "k", "v", 0]])).await;
    let done =
        run(&two, json!([["kv.get", "sessions", "k"], ["kv.get", "default", "k"], ["kv.get", "x", "k"]]))
            .await;
    let denied = json!({ "error": "Error::Denied" });
    assert_eq!(done, json!(["v", denied, denied]));
    let outsider = load_probe(probe("kv-e")).await;
    assert_eq!(run(&outsider, json!([["kv.get", "sessions", "k"]])).await, json!([denied]));
}

#[tokio::test]
async fn nodes_on_one_redis_see_the_same_entries() {
    let mut config = probe(&redis::prefix().replace(':', "-"));
    config.limits.kv_bytes = 100;
    let node = async || {
        let kv: Arc<dyn kv::Store> = Arc::new(kv::RedisStore::new(redis::redis()));
        let host = Host::new(&Options { kv: Some(kv), ..Options::default() }).unwrap();
        let plugin = host.load(&guest("probe"), config.clone()).await.unwrap();
        Chain::new(vec![plugin], Arc::new(Origin::default()))
    };
    let (one, two) = (node().await, node().await);
    let done = run(
        &one,
        json!([
            ["kv.set", "default", "k", "v", 60_000],
            ["kv.increment", "default", "n", 1, 60_000],
            ["kv.set", "default", "large", 100, 60_000],
        ]),
    );
    assert_eq!(done.await, json!([null, 1, { "error": "Error::Full" }]));
    let done = run(
        &two,
        json!([
            ["kv.get", "default", "k"],
            ["kv.increment", "default", "n", 1, 60_000],
            ["kv.swap", "default", "k", "v", "w", 60_000],
        ]),
    );
    assert_eq!(done.await, json!(["v", 2, true]));
    assert_eq!(run(&one, json!([["kv.get", "default", "k"]])).await, json!(["w"]));
}

#[tokio::test]
async fn keys_values_and_quotas_are_bounded() {
    let mut config = probe("kv-f");
    config.limits.kv_entries = 2;
    let chain = load_probe(config).await;
    let (longest, longer) = ("k".repeat(256), "k".repeat(257));
    let done = run(
        &chain,
        json!([
            ["kv.set", "default", longest, 65536, 0],
            ["kv.set", "default", longer, "", 0],
            ["kv.get", "default", longer],
            ["kv.set", "default", "k", 65537, 0],
            ["kv.swap", "default", "k", null, 65537, 0],
            ["kv.swap", "default", longest, 65537, "", 0],
            ["kv.increment", "default", "n", 5, 0],
            ["kv.increment", "default", "n", -7, 0],
            ["kv.swap", "default", "n", "-2", "x", 0],
            ["kv.increment", "default", "n", 1, 0],
            ["kv.set", "default", "third", "", 0],
        ]),
    )
    .await;
    let large = json!({ "error": "Error::TooLarge" });
    let no_number =
        json!({ "error": "Error::Other(\"the entry is no number that can be incremented by this\")" });
    let full = json!({ "error": "Error::Full" });
    assert_eq!(done, json!([null, large, large, large, large, false, 5, -2, true, no_number, full]));
}

#[tokio::test]
async fn handles_that_are_never_given_back_come_to_an_end() {
    let mut config = probe("kv-g");
    config.limits.time = std::time::Duration::from_secs(600);
    let chain = load_probe(config).await;
    let done = run(&chain, json!([["repeat", 20_000, ["keep", "default"]]])).await;
    assert!(done[0]["error"].as_str().unwrap().contains("too many handles are open"), "{done}");
}

#[tokio::test]
async fn series_outlive_the_plugin() {
    for _ in 0..2 {
        let chain = load_probe(probe("metrics")).await;
        let script = json!([["add", "hits", { "path": "/" }, 2], ["gauge", "depth", {}, 1.5], ["add", "no name", {}, 1]]);
        run(&chain, script).await;
    }
    let found: Vec<_> = host()
        .metrics()
        .into_iter()
        .filter(|series| &*series.plugin == "metrics")
        .map(|series| (series.name, series.labels, series.value))
        .collect();
    let labels = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    assert_eq!(
        found,
        [
            ("depth".to_owned(), vec![], metrics::Value::Gauge(1.5)),
            ("hits".to_owned(), labels("path", "/"), metrics::Value::Counter(4)),
            (metrics::REFUSED.to_owned(), labels("reason", "name"), metrics::Value::Counter(2)),
        ]
    );
}

#[tokio::test]
async fn a_request_goes_where_it_is_granted_and_nowhere_else() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 1024];
        let length = stream.read(&mut asked).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
        String::from_utf8(asked[..length].to_vec()).unwrap()
    });
    let mut config = probe("http");
    config.grant.http = vec![origin.parse().unwrap()];
    let chain = load_probe(config).await;
    let header = json!({ "x": "1\r\nhost: other" });
    let script = json!([
        ["http", { "url": "http://169.254.169.254/latest" }],
        ["http", { "url": format!("{origin}/a"), "headers": header }],
        ["http", { "url": format!("{origin}/b"), "headers": { "x": "1" } }],
    ]);
    let done = run(&chain, script).await;
    assert!(done[0]["error"].as_str().unwrap().starts_with("Error::Denied"), "{done}");
    assert!(done[1]["error"].as_str().unwrap().starts_with("Error::Protocol"), "{done}");
    assert_eq!(done[2], json!({ "status": 200, "body": "hi" }));
    assert!(served.await.unwrap().starts_with("GET /b HTTP/1.1\r\nx: 1\r\n"));
}

#[tokio::test]
async fn secrets_clock_and_random_are_there() {
    let chain = load_probe(probe("basic")).await;
    let script = json!([["secret", "key"], ["secret", "other"], ["random", 70_000], ["wasi-random", 16]]);
    assert_eq!(run(&chain, script).await, json!(["open sesame", null, 65536, 16]));
    let times = run(&chain, json!([["now"], ["clock"]])).await;
    let (millis, seconds) = (times[0].as_u64().unwrap(), times[1][1].as_u64().unwrap());
    assert!((millis / 1000).abs_diff(seconds) < 60, "{times}");
}

#[tokio::test]
async fn a_line_of_log_is_one_line_beside_whose_it_is() {
    let logged = Logged::begin();
    let chain = load_probe(probe("log")).await;
    run(&chain, json!([["log", "warn", "a\nb", 1, "c\nd"]])).await;
    assert_eq!(
        logged.lines("log"),
        ["WARN plugin: a\\nb field=c\\nd plugin=\"log\" hook=\"on-request\" exchange=0000000000000007"]
    );
}

#[tokio::test(start_paused = true)]
async fn lines_over_the_limits_are_cut_and_counted() {
    let logged = Logged::begin();
    let mut config = probe("flood");
    config.limits.log_lines = 3;
    config.limits.time = std::time::Duration::from_secs(600);
    let chain = load_probe(config).await;
    run(&chain, json!([["log", "info", "0123456789", 1 << 20], ["repeat", 1000, ["stdout", "x\n"]]])).await;
    let lines = logged.lines("flood");
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[0].len() < 2300 && lines[0].contains('…'), "{}", lines[0]);
    assert!(lines[3].contains("1 lines dropped"), "{}", lines[3]);
    let dropped = host().metrics().into_iter().find(|s| &*s.plugin == "flood" && s.name == metrics::DROPPED);
    assert_eq!(dropped.unwrap().value, metrics::Value::Counter(998));
}

#[tokio::test]
async fn what_is_printed_is_logged_line_by_line() {
    let logged = Logged::begin();
    let chain = load_probe(probe("print")).await;
    let script: Value = json!([
        ["stdout", "one\r\n\ntw"],
        ["stderr", "er\u{1b}r\n"],
        ["stdout", "o\nlast"],
        ["stdout", "é", 3000],
    ]);
    assert_eq!(run(&chain, script).await, json!([true, true, true, true]));
    let of = "plugin=\"print\" hook=\"on-request\" exchange=0000000000000007";
    let until_now = [
        format!("INFO plugin: one {of}"),
        format!("WARN plugin: er\\u{{1b}}r {of}"),
        format!("INFO plugin: two {of}"),
    ];
    assert_eq!(logged.lines("print"), until_now);
    drop(chain);
    let lines = logged.lines("print");
    assert_eq!(lines.len(), 4, "what had no end ends with the guest");
    assert!(lines[3].starts_with("INFO plugin: lasté") && lines[3].len() < 2300, "{}", lines[3]);
}
