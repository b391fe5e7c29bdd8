//! WebSockets through a real guest: `tests/guests/sockets`, which obeys what messages say.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tracing::subscriber::DefaultGuard;

use super::{guest, host};
use crate::{
    exchange::{
        Accepted, Answer, Body, Context, ErrorKind, ExchangeId, Forward, ForwardError, ForwardFuture,
        Request, RequestHead, RequestKind, Scheme,
        websocket::{Close, Duplex, Event, Joined, join},
    },
    plugin::{
        Chain, Config, Isolation, LoadError, OnFailure, Plugin, Role,
        websocket::tests::{Peer, binary, memory, text},
    },
};

fn config(json: &str) -> Config {
    Config { config: json.to_owned(), ..Config::new("sockets", Role::Proxy) }
}

async fn load(config: Config) -> Arc<Plugin> {
    let loaded: Result<_, LoadError> = host().load(&guest("sockets"), config).await;
    loaded.expect("it loads")
}

/// The stage behind the plugins: accepts once, with a duplex that a test holds the other end of.
struct Far(Mutex<Option<Duplex>>);

impl Forward for Far {
    fn forward(&self, _: Request) -> ForwardFuture<'_> {
        let duplex = self.0.lock().unwrap().take().expect("one upgrade");
        Box::pin(async move { Ok(Answer::WebSocket(Accepted { headers: HeaderMap::new(), duplex })) })
    }
}

fn upgrade() -> Request {
    let tunnel = base32::encode(base32::Alphabet::Rfc4648Lower { padding: false }, &[7; 32]).parse().unwrap();
    Request {
        head: RequestHead {
            kind: RequestKind::WebSocket,
            method: Method::GET,
            scheme: Scheme::Http,
            authority: "a.localhost".to_owned(),
            target: "/chat".parse().unwrap(),
            headers: HeaderMap::new(),
        },
        body: Body::empty(),
        context: Context {
            exchange: ExchangeId(0xabc),
            tunnel,
            visitor: None,
            tls: None,
            notes: Default::default(),
            interim: None,
            witness: None,
        },
    }
}

struct Through {
    visitor: Peer,
    origin: Peer,
    joined: JoinHandle<Joined>,
}

/// Opens a WebSocket through plugins; the origin's end comes back also when that fails.
async fn open(plugins: &[Arc<Plugin>]) -> Result<Through, (ForwardError, Peer)> {
    let (far, origin) = memory(4);
    let chain = Chain::new(plugins.to_vec(), Arc::new(Far(Mutex::new(Some(far)))));
    match chain.forward(upgrade()).await {
        Ok(Answer::WebSocket(accepted)) => {
            let (near, visitor) = memory(4);
            Ok(Through { visitor, origin, joined: tokio::spawn(join(near, accepted.duplex)) })
        }
        Ok(Answer::Http(response)) => panic!("{response:?}"),
        Err(error) => Err((error, origin)),
    }
}

async fn through(plugin: &Arc<Plugin>) -> Through {
    open(&[Arc::clone(plugin)]).await.expect("it opens")
}

/// What was logged on this thread, line by line.
struct Lines {
    lines: mpsc::Receiver<String>,
    _guard: DefaultGuard,
}

#[derive(Clone)]
struct Pen(mpsc::Sender<String>);

impl io::Write for Pen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn listen() -> Lines {
    let (send, lines) = mpsc::channel(1000);
    let pen = Pen(send);
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || pen.clone()).without_time().finish();
    Lines { lines, _guard: tracing::subscriber::set_default(subscriber) }
}

impl Lines {
    /// The next line that holds `what`.
    async fn find(&mut self, what: &str) -> String {
        let found = async {
            while let Some(line) = self.lines.recv().await {
                if line.contains(what) {
                    return line;
                }
            }
            panic!("the log ended")
        };
        timeout(Duration::from_secs(30), found).await.unwrap_or_else(|_| panic!("nothing about {what:?}"))
    }

    fn count(&mut self, what: &str) -> usize {
        std::iter::from_fn(|| self.lines.try_recv().ok()).filter(|line| line.contains(what)).count()
    }
}

#[tokio::test]
async fn a_megabyte_passes_through_the_guest_to_the_byte() {
    let plugin = load(config("{}")).await;
    let mut t = through(&plugin).await;
    let bytes: Bytes = (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    t.visitor.send(Event::Binary(bytes.clone())).await;
    t.origin.expect([Event::Binary(bytes.clone())]).await;
    t.origin.send(Event::Binary(bytes.clone())).await;
    t.visitor.expect([Event::Binary(bytes)]).await;
    // And one that it makes.
    t.visitor.send(text("blow-up 1048576")).await;
    t.origin.expect([binary(1 << 20)]).await;
}

#[tokio::test]
async fn verdicts_and_extras_both_ways() {
    let plugin = load(config("{}")).await;
    let mut t = through(&plugin).await;
    for order in ["hello", "discard", "replace other", "binary \u{e9}", "on further", "back here", "many 64"]
    {
        t.visitor.send(text(order)).await;
    }
    t.origin.expect(["hello", "other"].map(text)).await;
    t.origin.expect([Event::Binary("\u{e9}".into())]).await;
    t.origin.expect(["on further", "further", "back here", "many 64"].map(text)).await;
    t.origin.expect((0..64).map(|at| text(at.to_string()))).await;
    t.visitor.expect([text("here")]).await;
    t.origin.send(text("back there")).await;
    t.visitor.expect([text("back there")]).await;
    t.origin.expect([text("there")]).await;
}

#[tokio::test]
async fn plugins_meet_messages_first_to_last_and_back_last_to_first() {
    let first = load(config(r#"{"mark": "1"}"#)).await;
    let last = load(config(r#"{"mark": "2"}"#)).await;
    let mut t = open(&[first, last]).await.expect("it opens");
    t.visitor.send(text("x")).await;
    t.origin.expect([text("21x")]).await;
    t.origin.send(text("x")).await;
    t.visitor.expect([text("12x")]).await;
}

#[tokio::test]
async fn state_counts_messages_of_both_sides_without_losing_one() {
    let plugin = load(config(r#"{"count": true}"#)).await;
    let mut t = through(&plugin).await;
    let (mut visitor, mut origin) = (Vec::new(), Vec::new());
    // From both sides at once, with little room, so that every kind of interleaving comes about.
    let (to_origin, to_visitor) = (t.visitor.send.take().unwrap(), t.origin.send.take().unwrap());
    let sends = |sender: mpsc::Sender<Event>| async move {
        for _ in 0..200 {
            sender.send(text("x")).await.expect("taken");
        }
        sender
    };
    let (a, b) = (tokio::spawn(sends(to_origin)), tokio::spawn(sends(to_visitor)));
    while visitor.len() + origin.len() < 400 {
        tokio::select! {
            event = t.visitor.next() => visitor.push(event.expect("open")),
            event = t.origin.next() => origin.push(event.expect("open")),
        }
    }
    let number = |event: &Event| match event {
        Event::Text(bytes) => {
            std::str::from_utf8(bytes).unwrap().split(':').next().unwrap().parse::<u32>().unwrap()
        }
        other => panic!("{other:?}"),
    };
    let (visitor, origin): (Vec<_>, Vec<_>) =
        (visitor.iter().map(number).collect(), origin.iter().map(number).collect());
    assert!(visitor.is_sorted() && origin.is_sorted(), "each side's order");
    let mut all = [visitor, origin].concat();
    all.sort_unstable();
    assert_eq!(all, (1..=400).collect::<Vec<_>>(), "each call saw the state of the one before");
    let _open = (a.await.unwrap(), b.await.unwrap());
}

#[tokio::test]
async fn only_what_interests_enters_the_guest() {
    let plugin = load(config(r#"{"interest": ["origin-text"], "mark": "!"}"#)).await;
    let mut t = through(&plugin).await;
    for event in [text("trap"), binary(5), Event::Ping("p".into())] {
        t.visitor.send(event.clone()).await;
        t.origin.expect([event]).await;
    }
    t.origin.send(binary(5)).await;
    t.origin.send(text("x")).await;
    t.visitor.expect([binary(5), text("!x")]).await;
}

#[tokio::test]
async fn a_close_reaches_both_sides_and_on_close_once() {
    let mut lines = listen();
    let plugin = load(config(r#"{"count": true}"#)).await;
    let mut t = through(&plugin).await;
    t.visitor.send(text("x")).await;
    t.visitor.send(text("close 1008 not here")).await;
    let close = Close::new(1008, "not here");
    t.origin.expect([text("1:x"), Event::Close(close.clone())]).await;
    t.visitor.expect([Event::Close(close.clone())]).await;
    t.origin.send(Event::Close(close.clone())).await;
    t.visitor.send(Event::Close(close)).await;
    t.joined.await.expect("no panic");
    plugin.settled().await;
    let opened = lines.find("opened /chat with request").await;
    assert!(opened.contains("0000000000000abc"), "logs name the exchange: {opened}");
    let closed = lines.find("closed by").await;
    assert!(closed.contains("visitor, 1008 \"not here\", state 1"), "{closed}");
    assert!(closed.contains("0000000000000abc"), "{closed}");
    assert_eq!(lines.count("closed by"), 0, "once");
}

#[tokio::test]
async fn without_interest_only_the_end_is_told() {
    let mut lines = listen();
    let plugin = load(config(r#"{"interest": ["none"]}"#)).await;
    let mut t = through(&plugin).await;
    t.visitor.send(text("trap")).await;
    t.origin.expect([text("trap")]).await;
    t.origin.send = None;
    t.visitor.expect([Event::Close(Close::abnormal())]).await;
    t.visitor.send = None;
    t.joined.await.expect("no panic");
    plugin.settled().await;
    assert!(lines.find("closed by").await.contains("origin, 1006"));
}

#[tokio::test]
async fn each_way_to_fail_closes_with_1011_and_tells_nobody_why() {
    let mut small = config("{}");
    small.limits.memory = 4 << 20;
    small.limits.state = 100;
    small.limits.message = 1000;
    let plugin = load(small).await;
    for (order, logged) in [
        ("trap", "it trapped"),
        ("spin", "limits.time"),
        ("eat", "limits.memory"),
        ("fault", "a guest's secret"),
        ("many 65", "65 extra messages"),
        ("state 101", "limits.state"),
        ("blow-up 1001", "limits.message"),
        ("close 1006", "close code 1006"),
    ] {
        let mut lines = listen();
        let mut t = through(&plugin).await;
        t.origin.send(text(order)).await;
        let close = Event::Close(Close::new(1011, "a plugin failed"));
        t.visitor.expect([close.clone()]).await;
        t.origin.expect([close]).await;
        t.joined.abort();
        let line = lines.find("failed:").await;
        assert!(line.contains(logged) && line.contains("on-message"), "{order}: {line}");
        assert!(lines.find("closed by").await.contains("origin, 1011"), "{order}");
    }
}

#[tokio::test]
async fn a_plugin_that_is_skipped_is_not_asked_again_on_this_connection() {
    let mut lines = listen();
    let plugin = load(Config { on_failure: OnFailure::Skip, ..config(r#"{"mark": "!"}"#) }).await;
    let mut t = through(&plugin).await;
    for event in ["x", "trap", "x"] {
        t.visitor.send(text(event)).await;
    }
    t.origin.expect(["!x", "trap", "x"].map(text)).await;
    t.joined.abort();
    let _ = t.joined.await;
    plugin.settled().await;
    assert_eq!(lines.count("closed by"), 0);
    // The next connection has it again.
    let mut t = through(&plugin).await;
    t.visitor.send(text("x")).await;
    t.origin.expect([text("!x")]).await;
}

#[tokio::test]
async fn a_failure_to_open_refuses_the_visitor_and_tells_the_origin() {
    for (open_fails, logged) in [
        ("trap", "it trapped"),
        ("spin", "limits.time"),
        ("fault", "a guest's secret"),
        ("state", "limits.state"),
    ] {
        let mut lines = listen();
        let json = format!(r#"{{"open": "{open_fails}", "mark": "!"}}"#);
        let plugin = load(config(&json)).await;
        let Err((error, mut origin)) = open(&[plugin]).await else { panic!("{open_fails} opened") };
        assert_eq!(error.kind(), ErrorKind::PluginFailed);
        assert_eq!(error.detail(), "the plugin sockets failed");
        origin.expect([Event::Close(Close::new(1011, "a plugin failed"))]).await;
        assert!(lines.find("failed:").await.contains(logged));

        let plugin = load(Config { on_failure: OnFailure::Skip, ..config(&json) }).await;
        let mut t = through(&plugin).await;
        t.visitor.send(text("x")).await;
        t.origin.expect([text("x")]).await;
    }
}

#[tokio::test]
async fn a_trap_in_on_close_harms_nobody() {
    for isolation in [Isolation::Pool, Isolation::Exchange] {
        for way in ["trap", "spin"] {
            let mut lines = listen();
            let json = format!(r#"{{"close": "{way}", "mark": "!"}}"#);
            let plugin = load(Config { isolation, ..config(&json) }).await;
            for _ in 0..2 {
                let mut t = through(&plugin).await;
                t.visitor.send(text("x")).await;
                t.origin.expect([text("!x")]).await;
                t.joined.abort();
                let _ = t.joined.await;
                plugin.settled().await;
                assert!(lines.find("closed by").await.contains("visitor, 1006"));
                assert!(lines.find("failed:").await.contains("on-close"));
            }
        }
    }
}

#[tokio::test]
async fn many_farewells_at_once_are_all_said_and_leave_instances_for_others() {
    let mut few = config(r#"{"close": "spin"}"#);
    few.limits.instances = 8;
    few.limits.queue = 8;
    few.limits.time = Duration::from_millis(10);
    few.limits.failures = 1000;
    let plugin = load(few).await;
    let mut lines = listen();
    let mut open = Vec::new();
    for _ in 0..60 {
        open.push(through(&plugin).await);
    }
    for t in &open {
        t.joined.abort();
    }
    // In the middle of them, another connection is served.
    let mut t = through(&plugin).await;
    t.visitor.send(text("replace served")).await;
    t.origin.expect([text("served")]).await;
    plugin.settled().await;
    assert_eq!(lines.count("closed by visitor, 1006"), 60);
}
