//! What the API shows of a node, as JSON.

use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::{Shared, health::Readiness, roster::Entry};
use crate::bus::Standing;

pub(super) fn node(node: &Shared) -> Value {
    let bus = match (&node.config.redis, node.bus.standing()) {
        (None, _) => "memory",
        (Some(_), Standing::Connected) => "redis",
        (Some(_), Standing::Away) => "redis, away",
    };
    json!({
        "node": node.node.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "since": time(node.since),
        "state": Readiness::of(node).words().trim_end(),
        "public_url": node.names.public_url(),
        "domain": node.config.domain,
        "bus": bus,
        "sessions": node.roster.len(),
        "exchanges": node.metrics.exchanges(),
        "connections": node.metrics.connections(),
    })
}

pub(super) fn session(node: &Shared, entry: &Entry) -> Value {
    let (received, sent) = entry.handle.carried();
    let tunnels: Vec<Value> = entry
        .names()
        .iter()
        .map(|name| json!({ "tunnel": name.to_string(), "public_url": node.public_url_of(name) }))
        .collect();
    json!({
        "id": entry.number,
        "tunnels": tunnels,
        "client": entry.peer.address.to_string(),
        "dialect": entry.peer.dialect,
        "program": entry.peer.agent,
        "since": time(entry.since),
        "exchanges_open": entry.handle.busy(),
        "exchanges": entry.handle.opened(),
        "bytes_to_client": sent,
        "bytes_from_client": received,
    })
}

pub(super) fn policies(node: &Shared) -> Value {
    let limits = &node.config.limits;
    let rate = limits.rate.map(|rate| format!("{} {}, burst {}", rate.tokens, rate.period(), rate.burst));
    json!({
        "policies": node.pipeline.describe(),
        "otherwise": {
            "max_body": limits.max_body,
            "rate": rate,
            "answer_timeout_ms": node.config.answer_timeout.as_millis() as u64,
        },
    })
}

pub(super) fn plugins(node: &Shared) -> Value {
    let loaded = node.config.observe.plugins.get().map(|host| host.plugins()).unwrap_or_default();
    let plugins: Vec<Value> = loaded
        .iter()
        .map(|plugin| {
            let (standing, hooks) = (plugin.standing(), plugin.hooks());
            let named = [
                ("request", hooks.request),
                ("response", hooks.response),
                ("websocket", hooks.websocket),
                ("tick", hooks.tick),
            ];
            let hooks: Vec<&str> = named.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect();
            json!({
                "name": plugin.name(),
                "sha256": hex(&plugin.digest()),
                "hooks": hooks,
                "state": if standing.paused { "paused" } else { "in use" },
                "instances_busy": standing.busy,
                "instances_idle": standing.idle,
                "calls_waiting": standing.waiting,
            })
        })
        .collect();
    json!({ "plugins": plugins })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn time(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
