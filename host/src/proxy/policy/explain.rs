//! Where a URL would lead, for whoever asks before anybody visits. Pure.

use http::{Uri, uri::PathAndQuery};
use serde_json::{Value, json};

use super::Compiled;
use crate::{
    proxy::{
        Config,
        route::{Names, Route, Target},
    },
    wire::TunnelName,
};

/// Where a URL leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To a tunnel, with this path.
    Tunnel(TunnelName, PathAndQuery),
    /// To where a tunnel would be, if its first label were a name.
    NoName(PathAndQuery),
    /// To the proxy itself.
    Own,
    /// Not to this proxy.
    Elsewhere,
}

/// Where a URL would lead at a proxy of this configuration.
pub fn destination(config: &Config, url: &Uri) -> Destination {
    let path = url.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let authority = url.authority().map(ToString::to_string).unwrap_or_default();
    match Names::new(config, config.listen).route(&Target { authority, path: path.clone() }) {
        Route::Tunnel { name, target } => Destination::Tunnel(name, target),
        Route::NotAName => Destination::NoName(path),
        Route::Own(_) => Destination::Own,
        Route::UnknownHost => Destination::Elsewhere,
    }
}

/// A policy in force, as an operator's programs read it. A limit that it doesn't have is absent, one that it lifts is null.
pub(super) fn described(policy: &Compiled) -> Value {
    let mut described = json!({
        "domain": policy.domain.to_string(),
        "path": policy.path.as_ref().map(ToString::to_string),
        "plugins": policy.about.plugins,
        "serve": policy.about.serve,
    });
    if let Some(max_body) = policy.limits.max_body {
        described["max_body"] = json!(max_body);
    }
    if let Some(rate) = policy.limits.rate {
        let text = rate.map(|rate| format!("{} {}, burst {}", rate.tokens, rate.period(), rate.burst));
        described["rate"] = json!(text);
    }
    if let Some(timeout) = policy.limits.answer_timeout {
        described["answer_timeout_ms"] = json!(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    }
    described
}
