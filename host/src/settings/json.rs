//! Lines for programs: one JSON object each, told apart by `event`.

use std::{net::SocketAddr, path::Path, sync::LazyLock, time::Duration};

use serde::Serialize;

use crate::{
    client::{self, ExchangeSummary, Outcome},
    proxy::{self, access::Redacted},
};

/// One line. Fields are only ever added.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Listening {
        address: SocketAddr,
        public_url: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        http: Option<SocketAddr>,
        #[serde(skip_serializing_if = "Option::is_none")]
        admin: Option<SocketAddr>,
    },
    Registered {
        #[serde(flatten)]
        name: Name<'a>,
        public_url: &'a str,
        #[serde(flatten)]
        role: Role<'a>,
    },
    Unregistered {
        tunnel: &'a str,
        reason: &'a str,
    },
    Draining {
        exchanges: usize,
    },
    Disconnected {
        #[serde(flatten)]
        name: Name<'a>,
        reason: &'a str,
        retry_in_ms: u64,
    },
    Reconnected {
        #[serde(flatten)]
        name: Name<'a>,
        public_url: &'a str,
    },
    Moving {
        #[serde(flatten)]
        name: Name<'a>,
    },
    Exchange {
        #[serde(flatten)]
        name: Name<'a>,
        id: String,
        method: &'a str,
        path: String,
        #[serde(flatten)]
        outcome: How,
        bytes_in: u64,
        bytes_out: u64,
        ms: f64,
    },
    Reloaded {
        plugins: usize,
        fresh: usize,
    },
    ReloadFailed {
        reason: &'a str,
    },
    Metrics {
        address: SocketAddr,
    },
    KeyCreated {
        path: String,
    },
    LeftOut {
        lines: u64,
    },
    Stopped {
        #[serde(flatten)]
        name: Name<'a>,
    },
    Error {
        message: &'a str,
    },
}

/// The target's name in the settings file, where it has one.
#[derive(Clone, Copy, Serialize)]
struct Name<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Role<'a> {
    Client { target: &'a str },
    Proxy { tunnel: &'a str, client: SocketAddr },
}

#[derive(Serialize)]
#[serde(untagged)]
enum How {
    Status { status: u16 },
    Broken { status: u16, broken: bool },
    Failed { error: &'static str },
}

impl Line<'_> {
    fn write(&self) -> String {
        serde_json::to_string(self).expect("text and numbers alone")
    }
}

/// What the client tells; `name` is the target's in the settings file.
pub(super) fn client(name: Option<&str>, event: &client::Event) -> String {
    let name = Name { name };
    match event {
        client::Event::Registered { public_url, target } => {
            Line::Registered { name, public_url, role: Role::Client { target } }
        }
        client::Event::Disconnected { reason, retry_in, .. } => {
            let retry_in_ms = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX);
            Line::Disconnected { name, reason, retry_in_ms }
        }
        client::Event::Reconnected { public_url } => Line::Reconnected { name, public_url },
        client::Event::Moving => Line::Moving { name },
        client::Event::Exchange(summary) => exchange(name, summary),
        client::Event::Stopped => Line::Stopped { name },
    }
    .write()
}

fn exchange<'a>(name: Name<'a>, summary: &'a ExchangeSummary) -> Line<'a> {
    Line::Exchange {
        name,
        id: summary.exchange.to_string(),
        method: summary.method.as_str(),
        path: seen(summary.path.as_str()),
        outcome: match summary.outcome {
            Outcome::Status(status) => How::Status { status: status.as_u16() },
            Outcome::Broken(status) => How::Broken { status: status.as_u16(), broken: true },
            Outcome::Failed(kind) => How::Failed { error: kind.code() },
        },
        bytes_in: summary.bytes_in,
        bytes_out: summary.bytes_out,
        ms: tenths_of_milliseconds(summary.time),
    }
}

fn tenths_of_milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// What the proxy tells.
pub(super) fn proxy(event: &proxy::Event) -> String {
    match event {
        proxy::Event::Listening { address, public_url, http, admin } => {
            Line::Listening { address: *address, public_url, http: *http, admin: *admin }
        }
        proxy::Event::Registered { tunnel, public_url, client } => Line::Registered {
            name: Name { name: None },
            public_url,
            role: Role::Proxy { tunnel: tunnel.as_str(), client: *client },
        },
        proxy::Event::Unregistered { tunnel, reason } => {
            Line::Unregistered { tunnel: tunnel.as_str(), reason }
        }
        proxy::Event::Draining { exchanges } => Line::Draining { exchanges: *exchanges },
        proxy::Event::Stopped => Line::Stopped { name: Name { name: None } },
    }
    .write()
}

/// Changed plugins and policies are in force.
pub(super) fn reloaded(plugins: usize, fresh: usize) -> String {
    Line::Reloaded { plugins, fresh }.write()
}

/// What changed can't be used; what was in force stays.
pub(super) fn reload_failed(reason: &str) -> String {
    Line::ReloadFailed { reason }.write()
}

/// A target without the secrets in its query: lines end in files, and files at others'.
fn seen(target: &str) -> String {
    static USUAL: LazyLock<Redacted> = LazyLock::new(Redacted::default);
    USUAL.target(target)
}

/// Where a client's metrics are.
pub(super) fn metrics(address: SocketAddr) -> String {
    Line::Metrics { address }.write()
}

/// A key was made.
pub(super) fn key_created(path: &Path) -> String {
    Line::KeyCreated { path: path.display().to_string() }.write()
}

/// The reader was too slow for so many lines.
pub(super) fn left_out(lines: u64) -> String {
    Line::LeftOut { lines }.write()
}

/// The end, and why.
pub(super) fn error(message: &str) -> String {
    Line::Error { message }.write()
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};
    use serde_json::{Value, json};

    use super::*;
    use crate::exchange::{ErrorKind, ExchangeId};

    fn read(line: &str) -> Value {
        assert!(!line.contains('\n'), "one line each");
        serde_json::from_str(line).unwrap()
    }

    fn summary(outcome: Outcome) -> ExchangeSummary {
        ExchangeSummary {
            exchange: ExchangeId(0xab),
            method: Method::GET,
            path: http::uri::PathAndQuery::from_static("/x\"?"),
            outcome,
            bytes_in: 0,
            bytes_out: 12,
            time: Duration::from_micros(3_240),
        }
    }

    #[test]
    fn lines_of_the_proxy() {
        let tunnel: crate::wire::TunnelName =
            "sd5mv7vjwfkwngcub5ymael2elvdppk46pwtyryjhqlqokbljoeq".parse().unwrap();
        let address: SocketAddr = "127.0.0.1:6519".parse().unwrap();
        let public_url = "http://localhost:6519".to_owned();
        for (event, expected) in [
            (
                proxy::Event::Listening { address, public_url: public_url.clone(), http: None, admin: None },
                json!({"event": "listening", "address": "127.0.0.1:6519", "public_url": public_url}),
            ),
            (
                proxy::Event::Listening {
                    address,
                    public_url: public_url.clone(),
                    http: Some(address),
                    admin: Some(address),
                },
                json!({"event": "listening", "address": "127.0.0.1:6519", "public_url": public_url,
                       "http": "127.0.0.1:6519", "admin": "127.0.0.1:6519"}),
            ),
            (
                proxy::Event::Registered {
                    tunnel: tunnel.clone(),
                    public_url: public_url.clone(),
                    client: address,
                },
                json!({"event": "registered", "tunnel": tunnel.as_str(), "public_url": public_url,
                       "client": "127.0.0.1:6519"}),
            ),
            (
                proxy::Event::Unregistered { tunnel: tunnel.clone(), reason: "gone".to_owned() },
                json!({"event": "unregistered", "tunnel": tunnel.as_str(), "reason": "gone"}),
            ),
            (proxy::Event::Draining { exchanges: 3 }, json!({"event": "draining", "exchanges": 3})),
            (proxy::Event::Stopped, json!({"event": "stopped"})),
        ] {
            assert_eq!(read(&proxy(&event)), expected);
        }
    }

    #[test]
    fn lines_of_the_client() {
        let public_url = "http://abc.localhost:6519".to_owned();
        let retry_in = Duration::from_millis(123);
        for (event, expected) in [
            (
                client::Event::Registered {
                    public_url: public_url.clone(),
                    target: "http://localhost:3000".into(),
                },
                json!({"event": "registered", "public_url": public_url, "target": "http://localhost:3000"}),
            ),
            (
                client::Event::Disconnected { reason: "silence".to_owned(), retry_in, nobody_listens: false },
                json!({"event": "disconnected", "reason": "silence", "retry_in_ms": 123}),
            ),
            (
                client::Event::Reconnected { public_url: public_url.clone() },
                json!({"event": "reconnected", "public_url": public_url}),
            ),
            (client::Event::Moving, json!({"event": "moving"})),
            (client::Event::Stopped, json!({"event": "stopped"})),
        ] {
            assert_eq!(read(&client(None, &event)), expected);
        }
        assert_eq!(
            read(&client(Some("web"), &client::Event::Moving)),
            json!({"event": "moving", "name": "web"})
        );
    }

    #[test]
    fn lines_of_exchanges_say_how_they_ended() {
        let line = |outcome| read(&client(None, &client::Event::Exchange(summary(outcome))));
        assert_eq!(
            line(Outcome::Status(StatusCode::OK)),
            json!({"event": "exchange", "id": "00000000000000ab", "method": "GET", "path": "/x\"?", "status": 200,
                   "bytes_in": 0, "bytes_out": 12, "ms": 3.2})
        );
        let broken = line(Outcome::Broken(StatusCode::OK));
        assert_eq!((&broken["status"], &broken["broken"]), (&json!(200), &json!(true)));
        let failed = line(Outcome::Failed(ErrorKind::TimedOut));
        assert_eq!((&failed["error"], failed.get("status")), (&json!("timed-out"), None));
    }

    #[test]
    fn lines_of_the_program() {
        assert_eq!(read(&error("no \"luck\"")), json!({"event": "error", "message": "no \"luck\""}));
        assert_eq!(read(&left_out(4)), json!({"event": "left_out", "lines": 4}));
        assert_eq!(read(&reloaded(2, 1)), json!({"event": "reloaded", "plugins": 2, "fresh": 1}));
        assert_eq!(read(&reload_failed("no")), json!({"event": "reload_failed", "reason": "no"}));
        assert_eq!(read(&key_created(Path::new("k.pem"))), json!({"event": "key_created", "path": "k.pem"}));
    }
}
