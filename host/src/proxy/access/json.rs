//! One JSON object a line.

use std::{collections::BTreeMap, fmt::Write};

use serde::Serialize;

use super::{Line, deceives};

#[derive(Serialize)]
struct Object<'a> {
    time: String,
    visitor: String,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    path: &'a str,
    protocol: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'a str>,
    /// `null` if the visitor left before there was one.
    status: Option<u16>,
    outcome: &'a str,
    bytes_in: u64,
    bytes_out: u64,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<String>,
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<u64>,
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, &'a str>,
}

/// Milliseconds with three places: a microsecond is as fine as anybody looks.
fn millis(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

pub(super) fn line(line: &Line<'_>) -> String {
    let head = line.head;
    let object = Object {
        time: line.time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
        visitor: line.visitor.ip().to_string(),
        method: head.method.as_str(),
        host: head.host.as_deref(),
        path: &head.path,
        protocol: head.protocol,
        tls: head.tls.as_deref(),
        status: line.status.map(|status| status.as_u16()),
        outcome: line.outcome,
        bytes_in: line.bytes_in,
        bytes_out: line.bytes_out,
        duration_ms: millis(line.duration),
        first_byte_ms: line.first_byte.map(millis),
        tunnel: line.tunnel.map(ToString::to_string),
        request_id: line.exchange.to_string(),
        session: line.session,
        node: line.node.to_string(),
        plugin: line.plugin,
        referer: head.referer.as_deref(),
        user_agent: head.agent.as_deref(),
        headers: head.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
    };
    let written = serde_json::to_string(&object).expect("numbers and text can be written");
    if !written.chars().any(deceives) {
        return written;
    }
    // They can stand in strings alone; JSON's own escapes have taken care of those below U+0020.
    let mut plain = String::with_capacity(written.len() + 16);
    for c in written.chars() {
        if deceives(c) {
            // All of them are in the basic plane.
            let _ = write!(plain, "\\u{:04x}", u32::from(c));
        } else {
            plain.push(c);
        }
    }
    plain
}
