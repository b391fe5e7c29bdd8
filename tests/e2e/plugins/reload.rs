//! Plugins that change while visitors come.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use rustix::process::Signal;

use crate::harness::{Origin, Process, Proxy, Wire, compiled, guest, origin::ok, path_text, tunnel::Home};

/// A client whose plugin leaves a mark on answers, and where its settings stand.
struct Marked {
    client: Process,
    proxy: Proxy,
    host: String,
    home: Home,
}

impl Marked {
    async fn start(origin: &str) -> Self {
        let (proxy, home) = (Proxy::start(&[]).await, Home::new());
        let marked = |home: &Home, proxy: &Proxy, mark: &str| {
            let file = format!(
                "key = 'k.pem'\nproxy = '{}'\nlog_format = 'json'\nplugin_cache = '{}'\n{}[targets.web]\ntarget = '{}'\n",
                proxy.url(),
                compiled(),
                plugin(mark),
                origin
            );
            std::fs::write(home.file("tunnel.toml"), file).expect("a file");
        };
        marked(&home, &proxy, "one");
        let path = home.file("tunnel.toml");
        let mut client = Process::start("client", home.path(), ["web", "--config", path_text(&path)]);
        let registered = client.event("registered").await;
        let host =
            registered["public_url"].as_str().and_then(|url| url.strip_prefix("http://")).expect("a URL");
        let host = host.to_owned();
        Self { client, proxy, host, home }
    }

    /// Writes the settings anew, as editors do: beside, and then in the old file's place.
    fn rewrite(&self, change: impl Fn(&str) -> String) {
        let (path, aside) = (self.home.file("tunnel.toml"), self.home.file("tunnel.toml~"));
        let text = std::fs::read_to_string(&path).expect("it is there");
        std::fs::write(&aside, change(&text)).expect("a file");
        std::fs::rename(&aside, &path).expect("it takes the place");
    }

    async fn mark(&self) -> Vec<String> {
        mark(&mut Wire::connect(self.proxy.address).await, &self.host).await
    }
}

fn plugin(mark: &str) -> String {
    let wasm = guest("hostile");
    format!("[[plugin]]\nname = 'marks'\nfile = {wasm:?}\nconfig = {{ on-response = 'mark:{mark}' }}\n")
}

async fn mark(visitor: &mut Wire, host: &str) -> Vec<String> {
    visitor.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let reply = visitor.reply("GET").await;
    assert_eq!(reply.status(), 200, "no request fails, whatever is reloaded");
    reply.head.texts("x-mark").iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_change_is_taken_over_and_a_bad_one_is_not() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let mut marked = Marked::start(&origin.url()).await;
    assert_eq!(marked.mark().await, ["one"]);

    marked.rewrite(|text| text.replace("mark:one", "mark:two"));
    let reloaded = marked.client.event("reloaded").await;
    assert_eq!((&reloaded["plugins"], &reloaded["fresh"]), (&1.into(), &1.into()));
    assert_eq!(marked.mark().await, ["two"]);

    marked.rewrite(|text| text.replace("on-response", "init = 'fault', on-response").replace("two", "three"));
    let failed = marked.client.event("reload_failed").await;
    let reason = failed["reason"].as_str().expect("a sentence");
    assert!(reason.contains("tunnel.toml") && reason.contains("line") && reason.contains("init"), "{reason}");
    assert_eq!(marked.mark().await, ["two"], "what was in force stays");

    marked.rewrite(|text| text.replace("init = 'fault', ", ""));
    marked.client.event("reloaded").await;
    assert_eq!(marked.mark().await, ["three"]);
}

#[tokio::test]
async fn a_hangup_reads_everything_again_and_keeps_what_is_the_same() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let mut marked = Marked::start(&origin.url()).await;
    marked.client.signal(Signal::HUP);
    let reloaded = marked.client.event("reloaded").await;
    assert_eq!((&reloaded["plugins"], &reloaded["fresh"]), (&1.into(), &0.into()));
    assert_eq!(marked.mark().await, ["one"]);
}

#[tokio::test]
async fn no_request_fails_while_plugins_are_replaced() {
    let origin = Origin::start().await.answering(|_| ok(""));
    let mut marked = Marked::start(&origin.url()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..4)
        .map(|_| {
            let (stop, host, address) = (Arc::clone(&stop), marked.host.clone(), marked.proxy.address);
            tokio::spawn(async move {
                let mut visitor = Wire::connect(address).await;
                while !stop.load(Relaxed) {
                    assert_eq!(mark(&mut visitor, &host).await.len(), 1, "one plugin, the old or the new");
                }
            })
        })
        .collect();
    let mut last = "one".to_owned();
    for n in 0..10 {
        let next = format!("n{n}");
        marked.rewrite(|text| text.replace(&format!("mark:{last}'"), &format!("mark:{next}'")));
        marked.client.event("reloaded").await;
        last = next;
    }
    stop.store(true, Relaxed);
    for visitor in visitors {
        visitor.await.expect("every request was answered, on the connection that it had");
    }
    assert_eq!(marked.mark().await, [last]);
}
