//! What visitors do: requests, how long they took, what passed, WebSockets, and limits that they met.

use std::{sync::Arc, time::Duration};

use http::{StatusCode, Version};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::Counted;
use crate::{
    exchange::{Scheme, websocket::Way},
    operator::Known,
};

/// From an answer out of a cache next door to one that a proxy's usual patience (30 s) just allows, and a long download.
const SECONDS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// How a visitor's request came.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Came {
    protocol: &'static str,
    scheme: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Class {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limited {
    limit: &'static str,
}

/// Numbers about visitors.
#[derive(Clone)]
pub(in crate::proxy) struct Visitors {
    requests: Family<Came, Counter>,
    duration: Family<Class, Histogram, fn() -> Histogram>,
    known: Arc<KnownVisitors>,
    first_byte: Histogram,
    bytes: Family<Direction, Counter>,
    websockets: Gauge,
    messages: Family<Direction, Counter>,
    passing: Passing,
    limits: Family<Limited, Counter>,
}

/// Members of the families.
#[derive(Default)]
struct KnownVisitors {
    requests: Known<(&'static str, &'static str), Counter>,
    duration: Known<&'static str, Histogram>,
}

impl Visitors {
    pub(super) fn new() -> Self {
        let (messages, bytes) = (Family::default(), Family::default());
        let of = |family: &Family<Direction, Counter>, direction| {
            family.get_or_create_owned(&Direction { direction })
        };
        let passing = Passing(Arc::new(Counters {
            messages_in: of(&messages, "in"),
            messages_out: of(&messages, "out"),
            bytes_in: of(&bytes, "in"),
            bytes_out: of(&bytes, "out"),
        }));
        Self {
            requests: Family::default(),
            known: Arc::default(),
            duration: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            first_byte: Histogram::new(SECONDS),
            bytes,
            websockets: Gauge::default(),
            messages,
            passing,
            limits: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "requests",
            "Requests of visitors and of clients that attach, by the version of HTTP and the scheme",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "From a request's head to the end of its answer, by the answer's class; without WebSockets",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register_with_unit(
            "request_first_byte",
            "From a request's head to the head of its answer; without WebSockets",
            Unit::Seconds,
            self.first_byte.clone(),
        );
        registry.register_with_unit(
            "visitor",
            "Bytes of bodies and WebSocket messages: in from visitors, out to them",
            Unit::Bytes,
            self.bytes.clone(),
        );
        let help = "WebSockets of this node's visitors that are open";
        registry.register("websockets_open", help, self.websockets.clone());
        let help = "Text and binary messages of WebSockets: in from visitors, out to them";
        registry.register("websocket_messages", help, self.messages.clone());
        registry.register("limits_hit", "Requests that met a limit, by which one", self.limits.clone());
    }

    /// A request came.
    pub(in crate::proxy) fn came(&self, version: Version, scheme: Scheme) {
        let (protocol, scheme) = (protocol(version), scheme.as_str());
        let find = || self.requests.get_or_create_owned(&Came { protocol, scheme });
        self.known.requests.with((protocol, scheme), find, |requests| requests.inc());
    }

    /// An exchange other than a WebSocket ended.
    pub(in crate::proxy) fn ended(
        &self,
        status: Option<StatusCode>,
        first_byte: Option<Duration>,
        time: Duration,
    ) {
        let class = class(status);
        let find = || self.duration.get_or_create_owned(&Class { class });
        self.known.duration.with(class, find, |duration| duration.observe(time.as_secs_f64()));
        if let Some(first_byte) = first_byte {
            self.first_byte.observe(first_byte.as_secs_f64());
        }
    }

    /// A WebSocket, until the guard is dropped.
    pub(in crate::proxy) fn websocket(&self) -> Counted {
        Counted::new(&self.websockets)
    }

    /// Where what passes is counted.
    pub(in crate::proxy) fn passing(&self) -> &Passing {
        &self.passing
    }

    /// A request met a limit, if this error's code means one.
    pub(in crate::proxy) fn failed(&self, code: &'static str) {
        let limit = match code {
            "too-many-requests" => "rate",
            "request-too-large" => "request-body",
            "response-too-large" => "response-body",
            "request-head-too-large" => "head",
            "request-timed-out" => "request-time",
            "timed-out" => "answer-time",
            "too-many-exchanges" => "exchanges",
            "plugin-busy" => "plugin-instances",
            _ => return,
        };
        self.limits.get_or_create(&Limited { limit }).inc();
    }
}

/// What passes between visitors and this node.
#[derive(Clone)]
pub(in crate::proxy) struct Passing(Arc<Counters>);

struct Counters {
    messages_in: Counter,
    messages_out: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
}

impl Passing {
    /// Bytes of a body came from a visitor.
    pub(in crate::proxy) fn received(&self, bytes: usize) {
        self.0.bytes_in.inc_by(bytes as u64);
    }

    /// Bytes of a body went to a visitor.
    pub(in crate::proxy) fn sent(&self, bytes: usize) {
        self.0.bytes_out.inc_by(bytes as u64);
    }

    /// A message passed; the visitor is on the near side.
    pub(in crate::proxy) fn message(&self, way: Way, bytes: usize) {
        match way {
            Way::ToFar => {
                self.0.messages_in.inc();
                self.received(bytes);
            }
            Way::ToNear => {
                self.0.messages_out.inc();
                self.sent(bytes);
            }
        }
    }
}

/// As access logs write it.
pub(in crate::proxy) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/3",
    }
}

fn class(status: Option<StatusCode>) -> &'static str {
    match status.map(|status| status.as_u16()) {
        // The visitor hung up.
        None => "none",
        Some(..200) => "1xx",
        Some(200..300) => "2xx",
        Some(300..400) => "3xx",
        Some(400..500) => "4xx",
        Some(500..) => "5xx",
    }
}
