//! How long guests may run and wait, and what they do by the clock.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;

fn cause(error: &ForwardError) -> String {
    error.cause().unwrap().to_string()
}

#[tokio::test]
async fn waiting_is_not_running() {
    let chain = load_probe(probe("waits")).await;
    // Twice as many ticks of the clock as it may run for; none of them while it runs.
    let script = json!([["repeat", 200, ["sleep", 1]]]);
    try_run(&chain, script).await.expect("waiting isn't running");
}

#[tokio::test]
async fn who_waits_now_and_then_has_no_more_time() {
    let mut config = probe("runs");
    config.limits.time = Duration::from_millis(20);
    let chain = load_probe(config).await;
    let rounds = (0..100).flat_map(|_| [json!(["spin", 1]), json!(["sleep", 1])]);
    let error = try_run(&chain, Value::from_iter(rounds)).await.unwrap_err();
    assert!(cause(&error).contains("ran for longer than 20ms"), "{}", cause(&error));
}

#[tokio::test(start_paused = true)]
async fn waiting_has_an_end_too() {
    let mut config = probe("stuck");
    config.config = json!({ "tick": [["sleep", 86_400_000]] }).to_string();
    let chain = load_probe(config).await;
    let error = try_run(&chain, json!([["sleep", 86_400_000]])).await.unwrap_err();
    assert!(cause(&error).contains("took longer than 30s"), "{}", cause(&error));
}

/// A plugin that counts its ticks in the shared bucket `ticks`, and whoever can read it there.
fn ticking(name: &str, steps: Value) -> Config {
    let mut config = probe(name);
    config.grant.shared_kv = vec![name.to_owned()];
    config.config = json!({ "tick": steps }).to_string();
    config
}

async fn count(reader: &Chain, bucket: &str, key: &str) -> Value {
    // Everybody else has run as far as it goes before the paused clock moves on.
    tokio::time::sleep(Duration::from_millis(1)).await;
    run(reader, json!([["kv.get", bucket, key]])).await[0].take()
}

async fn reader(bucket: &str) -> Chain {
    let mut config = probe("reader");
    config.grant.shared_kv = vec![bucket.to_owned()];
    load_probe(config).await
}

#[tokio::test(start_paused = true)]
async fn ticks_come_at_once_and_then_in_time_until_the_plugin_is_dropped() {
    let reader = reader("ticks").await;
    let chain = load_probe(ticking("ticks", json!([["kv.increment", "ticks", "n", 1, 0]]))).await;
    assert_eq!(count(&reader, "ticks", "n").await, "1");
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(count(&reader, "ticks", "n").await, "1");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(count(&reader, "ticks", "n").await, "2");
    drop(chain);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(count(&reader, "ticks", "n").await, "2");
}

#[tokio::test(start_paused = true)]
async fn ticks_do_not_overlap_and_have_an_instance_of_their_own() {
    let reader = reader("slow").await;
    let steps = json!([
        ["kv.increment", "slow", "begun", 1, 0],
        ["sleep", 150_000],
        ["kv.increment", "slow", "ended", 1, 0]
    ]);
    let mut config = ticking("slow", steps);
    config.limits.wait = Duration::from_secs(600);
    config.limits.instances = 1;
    config.limits.queue = 0;
    let chain = load_probe(config).await;
    tokio::time::sleep(Duration::from_secs(149)).await;
    assert_eq!(count(&reader, "slow", "begun").await, "1");
    assert_eq!(count(&reader, "slow", "ended").await, Value::Null);
    try_run(&chain, json!([])).await.expect("the one instance is free while a tick runs");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(count(&reader, "slow", "ended").await, "1");
    assert_eq!(count(&reader, "slow", "begun").await, "2", "the one that was due follows at once");
    // Dropped while a tick is under way, it ends with that tick.
    drop(chain);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(count(&reader, "slow", "begun").await, "2");
}

#[tokio::test(start_paused = true)]
async fn ticks_that_fail_are_logged_and_rest_after_too_many() {
    let logged = Logged::begin();
    let reader = reader("sick").await;
    let mut config = ticking("sick", json!([["kv.increment", "sick", "n", 1, 0], ["fault", "no keys"]]));
    config.tick = Duration::from_secs(1);
    config.limits.failures = 2;
    config.limits.pause = Duration::from_secs(10);
    let chain = load_probe(config).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(count(&reader, "sick", "n").await, "2");
    let lines = logged.lines("sick");
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert_eq!(
        lines[0],
        "WARN plugin: failed: it returned a fault: no keys plugin=\"sick\" hook=\"on-tick\""
    );
    assert!(lines[2].starts_with("ERROR plugin: 2 failures in a row"), "{}", lines[2]);
    try_run(&chain, json!([])).await.expect("exchanges go on");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(count(&reader, "sick", "n").await, "3", "one tries");
}
