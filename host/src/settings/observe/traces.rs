//! `[traces]`: where spans go, how many, and whom to believe. The usual variables of OpenTelemetry do the same.

use serde::Deserialize;

use super::{
    super::{
        SettingsError,
        document::Lines,
        file::FileError,
        values::{Written, Wrong},
    },
    Trust,
};
use crate::trace::{Export, Tracing};

/// `[traces]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesTable {
    /// The collector, by OTLP over gRPC: `http://127.0.0.1:4317`.
    pub otlp: Option<Written<Collector>>,
    /// The share of traces that is recorded, of those that begin here: 0 to 1.
    pub ratio: Option<f64>,
    /// What this program is called there.
    pub service: Option<String>,
    /// At the proxy: whose word is taken on whether a trace that he began is recorded.
    pub trust: Option<Written<TrustName>>,
}

/// Where a collector is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector(String);

impl std::str::FromStr for Collector {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let url: Option<http::Uri> = text.parse().ok();
        let whole = url.is_some_and(|url| {
            matches!(url.scheme_str(), Some("http" | "https"))
                && url.host().is_some_and(|host| !host.is_empty())
        });
        if whole {
            return Ok(Self(text.to_owned()));
        }
        Err(Wrong(format!(
            "\"{text}\" is no collector; write for example http://127.0.0.1:4317 (OTLP over gRPC)"
        )))
    }
}

/// Who is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustName(Trust);

impl std::str::FromStr for TrustName {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        match text {
            "nobody" => Ok(Self(Trust::Nobody)),
            "trusted-proxies" => Ok(Self(Trust::TrustedProxies)),
            "everybody" => Ok(Self(Trust::Everybody)),
            _ => Err(Wrong(format!(
                "\"{text}\" is nobody to be trusted; write \"nobody\", \"trusted-proxies\" or \"everybody\""
            ))),
        }
    }
}

/// Traces, checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TracesPlan {
    export: Export,
    pub(super) trust: Trust,
}

/// The proxy's.
pub(super) fn proxy(table: Option<&TracesTable>, lines: &Lines) -> Result<Option<TracesPlan>, FileError> {
    plan(table, "tunnel-proxy", lines)
}

/// The client's.
pub(super) fn client(table: Option<&TracesTable>, lines: &Lines) -> Result<Option<TracesPlan>, FileError> {
    if table.is_some_and(|table| table.trust.is_some()) {
        let problem = "it is the proxy's to decide; a client goes by what its proxy says";
        return Err(lines.wrong("traces.trust", problem));
    }
    plan(table, "tunnel-client", lines)
}

fn plan(table: Option<&TracesTable>, service: &str, lines: &Lines) -> Result<Option<TracesPlan>, FileError> {
    let written = table.and_then(|table| table.otlp.as_ref()).map(|collector| collector.0.0.clone());
    let ratio = table.and_then(|table| table.ratio).unwrap_or(1.0);
    if !(0.0..=1.0).contains(&ratio) {
        return Err(lines.wrong("traces.ratio", "it is a share, from 0 (none) to 1 (all)"));
    }
    let off = variable("OTEL_SDK_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true"));
    let usual =
        || variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let Some(endpoint) = written.or_else(usual).filter(|_| !off) else {
        if table.is_some() && !off {
            let problem = "it says not where to; write otlp = \"http://127.0.0.1:4317\"";
            return Err(lines.wrong("traces", problem));
        }
        return Ok(None);
    };
    let service = table
        .and_then(|table| table.service.clone())
        .or_else(|| variable("OTEL_SERVICE_NAME"))
        .unwrap_or_else(|| service.to_owned());
    let trust = table.and_then(|table| table.trust.as_ref()).map_or(Trust::Nobody, |trust| trust.0.0);
    Ok(Some(TracesPlan { export: Export { endpoint, ratio, service, instance: None }, trust }))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl TracesPlan {
    pub(super) fn describe(&self) -> String {
        format!("traces  {}, {} % of those that begin here", self.export.endpoint, self.export.ratio * 100.0)
    }

    pub(super) fn begin(&self) -> Result<Tracing, SettingsError> {
        Tracing::start(&self.export).map_err(|error| SettingsError::Traces(error.to_string()))
    }
}
