//! Numbers about one client, for whoever collects them.
//!
//! Owns what is counted, from what the client tells its user anyway, and the listener that tells it. Labels have few values, none of
//! which a visitor can choose: targets are the settings' own.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError},
};

use http::{Method, Response, StatusCode, request::Parts};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use tokio::net::TcpListener;

use super::{Event, ExchangeSummary, Outcome};
use crate::{
    operator::{self, Door, Gate, Known, Listener, OPEN_METRICS, Open, PLAIN},
    plugin::{Exported, Host},
};

/// From an answer out of a cache to a long download.
const SECONDS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// What a target without a name is called.
const UNNAMED: &str = "service";

type Report = Arc<dyn Fn(Event) + Send + Sync>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Target {
    target: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    target: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Moved {
    target: String,
    direction: &'static str,
}

/// All of a client's numbers; clones are the same ones.
#[derive(Clone)]
pub struct Metrics(Arc<All>);

struct All {
    registry: Mutex<Registry>,
    /// Those whose names get no prefix, because others chose them.
    foreign: Mutex<Registry>,
    plugins_counted: Once,
    connected: Family<Target, Gauge>,
    disconnects: Family<Target, Counter>,
    reconnects: Family<Target, Counter>,
    moves: Family<Target, Counter>,
    exchanges: Family<Ended, Counter>,
    duration: Family<Target, Histogram, fn() -> Histogram>,
    bytes: Family<Moved, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Numbers that begin now.
    pub fn new() -> Self {
        let all = All {
            registry: Mutex::new(Registry::with_prefix("tunnel")),
            foreign: Mutex::default(),
            plugins_counted: Once::new(),
            connected: Family::default(),
            disconnects: Family::default(),
            reconnects: Family::default(),
            moves: Family::default(),
            exchanges: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            bytes: Family::default(),
        };
        all.register(&mut lock(&all.registry));
        Self(Arc::new(all))
    }

    /// Adds others' metrics under the names that they have.
    pub fn register_foreign(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut lock(&self.0.foreign));
    }

    /// The same report, from which the numbers of this target are read on its way.
    pub fn watch(&self, target: Option<&str>, report: Report) -> Report {
        let (all, target) = (Arc::clone(&self.0), target.unwrap_or(UNNAMED).to_owned());
        // There from the beginning, so that one that never was is 0 and not absent.
        all.connected.get_or_create(&Target { target: target.clone() }).set(0);
        let ended = Ends::of(&all, &target);
        Arc::new(move |event| {
            all.saw(&target, &ended, &event);
            report(event);
        })
    }

    /// Tells them at this address, at `/metrics`. `plugins` is where the host of plugins will be, if there is one.
    ///
    /// # Errors
    /// The address can't be listened on.
    pub async fn listen(&self, address: SocketAddr, plugins: Arc<OnceLock<Host>>) -> io::Result<Listener> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let open = Open { health: true, metrics: true, api: false };
        let gate = Gate { token: None, open, loopback: address.ip().is_loopback() };
        let all = Arc::clone(&self.0);
        let answer = Arc::new(move |request: &Parts| answer(&all, &gate, &plugins, request));
        Ok(Listener::start(listener, address, answer))
    }
}

fn answer(all: &All, gate: &Gate, plugins: &OnceLock<Host>, request: &Parts) -> Response<String> {
    let door = match request.uri.path() {
        "/healthz" => Door::Health,
        "/metrics" => Door::Metrics,
        _ => {
            let text = "there is nothing here but /healthz and /metrics\n".to_owned();
            return operator::answer(StatusCode::NOT_FOUND, PLAIN, text);
        }
    };
    if let Err(refused) = gate.admits(door, request) {
        return refused;
    }
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return operator::only("GET, HEAD");
    }
    match door {
        Door::Metrics => operator::answer(StatusCode::OK, OPEN_METRICS, all.text(plugins)),
        _ => operator::answer(StatusCode::OK, PLAIN, "ok\n".to_owned()),
    }
}

impl All {
    fn register(&self, registry: &mut Registry) {
        let build = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The program", Info::new(build));
        let registry = registry.sub_registry_with_prefix("client");
        let help = "1 while at least one session of the target is up";
        registry.register("connected", help, self.connected.clone());
        let help = "Times that the last session of a target was lost, or couldn't be opened";
        registry.register("disconnects", help, self.disconnects.clone());
        registry.register("reconnects", "Times that a lost session was up again", self.reconnects.clone());
        let help = "Times that a proxy that stops sent the client elsewhere";
        registry.register("moves", help, self.moves.clone());
        let help = "Exchanges by what came of them: the answer's class, or an error's code";
        registry.register("exchanges", help, self.exchanges.clone());
        registry.register_with_unit(
            "exchange_duration",
            "From a request's head to the end of its answer, without WebSockets",
            Unit::Seconds,
            self.duration.clone(),
        );
        let help = "Bytes of bodies and messages: in from visitors, out to them";
        registry.register_with_unit("exchange", help, Unit::Bytes, self.bytes.clone());
    }

    fn saw(&self, target: &str, ended: &Ends, event: &Event) {
        let of = || Target { target: target.to_owned() };
        match event {
            Event::Registered { .. } => _ = self.connected.get_or_create(&of()).set(1),
            Event::Reconnected { .. } => {
                self.connected.get_or_create(&of()).set(1);
                self.reconnects.get_or_create(&of()).inc();
            }
            Event::Disconnected { .. } => {
                self.connected.get_or_create(&of()).set(0);
                self.disconnects.get_or_create(&of()).inc();
            }
            Event::Moving => _ = self.moves.get_or_create(&of()).inc(),
            Event::Exchange(summary) => ended.count(self, target, summary),
            Event::Stopped => _ = self.connected.get_or_create(&of()).set(0),
        }
    }

    fn text(&self, plugins: &OnceLock<Host>) -> String {
        if let Some(host) = plugins.get() {
            self.plugins_counted.call_once(|| {
                host.register(&mut lock(&self.registry));
                lock(&self.foreign).register_collector(Box::new(Exported::of(host)));
            });
        }
        let mut out = String::new();
        text::encode_registry(&mut out, &lock(&self.registry))
            .and_then(|()| text::encode_registry(&mut out, &lock(&self.foreign)))
            .and_then(|()| text::encode_eof(&mut out))
            .expect("a String takes all that is written");
        out
    }
}

/// What is counted for each exchange of one target.
struct Ends {
    outcomes: Known<&'static str, Counter>,
    duration: Histogram,
    bytes_in: Counter,
    bytes_out: Counter,
}

impl Ends {
    fn of(all: &All, target: &str) -> Self {
        let target = || target.to_owned();
        let moved = |direction| all.bytes.get_or_create_owned(&Moved { target: target(), direction });
        Self {
            outcomes: Known::default(),
            duration: all.duration.get_or_create_owned(&Target { target: target() }),
            bytes_in: moved("in"),
            bytes_out: moved("out"),
        }
    }

    fn count(&self, all: &All, target: &str, summary: &ExchangeSummary) {
        let outcome = outcome(summary.outcome);
        let find = || all.exchanges.get_or_create_owned(&Ended { target: target.to_owned(), outcome });
        self.outcomes.with(outcome, find, |exchanges| exchanges.inc());
        if outcome != "websocket" {
            self.duration.observe(summary.time.as_secs_f64());
        }
        self.bytes_in.inc_by(summary.bytes_in);
        self.bytes_out.inc_by(summary.bytes_out);
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Failed(kind) => kind.code(),
        Outcome::Broken(_) => "broken-off",
        Outcome::Status(status) => match status.as_u16() {
            101 => "websocket",
            ..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        },
    }
}

// A panic while the lock is held can't leave the registry half-changed: each change is one call.
fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}
