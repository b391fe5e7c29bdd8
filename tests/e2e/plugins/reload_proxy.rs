//! Policies and plugins of a proxy that change while visitors come.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::harness::{Origin, Setup, Signal, Tunnel, Wire, compiled, guest, origin::ok, tunnel::Home};

/// Settings whose plugin leaves a mark on answers.
fn settings(mark: &str) -> String {
    let wasm = guest("hostile");
    format!(
        "[[plugin]]\nname = 'marks'\nfile = {wasm:?}\nconfig = {{ on-response = 'mark:{mark}' }}\n\
         [[policy]]\ndomain = '*'\nplugins = ['marks']\n"
    )
}

async fn start(origin: &str, file: &str) -> Tunnel {
    Setup::new().proxy_file(file).proxy(&["--plugin-cache", &compiled()]).start(origin).await
}

/// Writes the settings anew, as editors do: beside, and then in the old file's place.
fn rewrite(home: &Home, text: &str) {
    let (path, aside) = (home.file("proxy.toml"), home.file("proxy.toml~"));
    std::fs::write(&aside, text).expect("a file");
    std::fs::rename(&aside, &path).expect("it takes the place");
}

async fn mark(visitor: &mut Wire, host: &str) -> Vec<String> {
    visitor.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let reply = visitor.reply("GET").await;
    assert_eq!(reply.status(), 200, "no request fails, whatever is reloaded");
    reply.head.texts("x-mark")
}

#[tokio::test]
async fn a_change_is_taken_over_and_a_bad_one_is_not() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let mut tunnel = start(&origin.url(), &settings("one")).await;
    // One connection for all of it: none is dropped.
    let (mut visitor, host) = (tunnel.visit().await, tunnel.host().to_owned());
    assert_eq!(mark(&mut visitor, &host).await, ["one"]);

    rewrite(&tunnel.proxy.home, &settings("two"));
    tunnel.proxy.process.event("reloaded").await;
    assert_eq!(mark(&mut visitor, &host).await, ["two"]);

    let bad = settings("three").replace("plugins = ['marks']", "plugins = ['markers']");
    rewrite(&tunnel.proxy.home, &bad);
    let failed = tunnel.proxy.process.event("reload_failed").await;
    let reason = failed["reason"].as_str().expect("a sentence");
    assert!(
        reason.contains("proxy.toml, line 7, policy.plugins: there is no plugin \"markers\""),
        "{reason}"
    );
    assert_eq!(mark(&mut visitor, &host).await, ["two"], "what was in force stays");

    rewrite(&tunnel.proxy.home, "");
    let reloaded = tunnel.proxy.process.event("reloaded").await;
    assert_eq!(reloaded["plugins"], 0);
    assert!(mark(&mut visitor, &host).await.is_empty());
}

#[tokio::test]
async fn a_plugins_own_file_is_watched_too() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let home = Home::new();
    let (copy, aside) = (home.file("copy.wasm"), home.file("copy.wasm~"));
    std::fs::copy(guest("hostile"), &copy).expect("a copy");
    let file = settings("one").replace(&format!("{:?}", guest("hostile")), &format!("{copy:?}"));
    let mut tunnel = start(&origin.url(), &file).await;
    std::fs::write(&aside, "not any more").expect("a file");
    std::fs::rename(&aside, &copy).expect("it takes the place");
    let failed = tunnel.proxy.process.event("reload_failed").await;
    assert!(failed["reason"].as_str().expect("a sentence").contains("it is no WebAssembly"), "{failed}");
    assert_eq!(mark(&mut tunnel.visit().await, tunnel.host()).await, ["one"]);
    std::fs::copy(guest("hostile"), &aside).expect("a copy");
    std::fs::rename(&aside, &copy).expect("it takes the place");
    let reloaded = tunnel.proxy.process.event("reloaded").await;
    assert_eq!((&reloaded["plugins"], &reloaded["fresh"]), (&1.into(), &0.into()), "the same as in force");
}

#[tokio::test]
async fn other_settings_wait_for_the_next_start_and_say_so() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let mut tunnel = start(&origin.url(), &settings("one")).await;
    rewrite(&tunnel.proxy.home, &format!("answer_timeout = '7s'\n{}", settings("two")));
    tunnel.proxy.process.words("answer_timeout has changed").await;
    tunnel.proxy.process.event("reloaded").await;
    assert_eq!(mark(&mut tunnel.visit().await, tunnel.host()).await, ["two"]);
}

#[tokio::test]
async fn an_exchange_ends_on_the_version_that_it_began_with() {
    let origin = Origin::start().await;
    let mut tunnel = start(&origin.url(), &settings("one")).await;
    let mut visitor = tunnel.ask("GET /slow", &[]).await;
    let (mut wire, _) = origin.request().await;
    rewrite(&tunnel.proxy.home, &settings("two"));
    tunnel.proxy.process.event("reloaded").await;
    wire.send(ok("late")).await;
    let reply = visitor.reply("GET").await;
    assert_eq!((reply.text().as_str(), reply.head.texts("x-mark")), ("late", vec!["one".to_owned()]));
}

#[tokio::test]
async fn no_request_fails_while_policies_are_replaced() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let mut tunnel = start(&origin.url(), &settings("n")).await;
    let stop = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..4)
        .map(|_| {
            let (stop, host, address) = (Arc::clone(&stop), tunnel.host().to_owned(), tunnel.proxy.address);
            tokio::spawn(async move {
                let mut visitor = Wire::connect(address).await;
                while !stop.load(Relaxed) {
                    assert_eq!(mark(&mut visitor, &host).await.len(), 1, "one plugin, the old or the new");
                }
            })
        })
        .collect();
    for n in 0..10 {
        rewrite(&tunnel.proxy.home, &settings(&format!("n{n}")));
        tunnel.proxy.process.event("reloaded").await;
        tunnel.proxy.process.signal(Signal::HUP);
        let again = tunnel.proxy.process.event("reloaded").await;
        assert_eq!(again["fresh"], 0, "nothing has changed");
    }
    stop.store(true, Relaxed);
    for visitor in visitors {
        visitor.await.expect("every request was answered, on the connection that it had");
    }
    assert_eq!(mark(&mut tunnel.visit().await, tunnel.host()).await, ["n9"]);
}
