//! The access log: a line for each request, when it is over.
//!
//! Owns what a line says, and what must never stand in one: credentials, cookies, and the values of such parts of a query as
//! are secrets. Must not know where lines go.

mod combined;
mod json;
mod redact;

#[cfg(test)]
mod tests;

pub use redact::Redacted;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use jiff::Timestamp;

use super::metrics::protocol;
use crate::{
    exchange::ExchangeId,
    wire::{NodeId, Tls, TunnelName},
};

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object.
    #[default]
    Json,
    /// As Apache's `combined`, for programs that read that.
    Combined,
}

/// Where a line for each request goes, and what it may say.
#[derive(Clone)]
pub struct AccessLog {
    /// How.
    pub format: Format,
    /// Parameters of queries whose values are left out.
    pub redacted: Redacted,
    /// Further request headers that are written, in JSON alone. Never those of [`is_secret`].
    pub headers: Arc<[HeaderName]>,
    /// Takes a line without its end, at once; what it can't take it counts and drops.
    pub sink: Arc<dyn Fn(String) + Send + Sync>,
}

/// Headers that are never written, whatever the settings say.
pub fn is_secret(name: &HeaderName) -> bool {
    const SECRET: [HeaderName; 4] =
        [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE, header::SET_COOKIE];
    SECRET.contains(name)
}

/// Characters of one field: a path may have 64 kB, and a line stands beside millions.
const LONGEST: usize = 4096;

/// What the log wants to know of a request's head.
pub(super) struct Head {
    method: Method,
    host: Option<String>,
    /// With its query, as far as that may be seen.
    path: String,
    protocol: &'static str,
    /// The version of TLS, if there is any.
    tls: Option<String>,
    referer: Option<String>,
    agent: Option<String>,
    headers: Vec<(HeaderName, String)>,
}

impl Head {
    /// One that nobody could read.
    pub(super) fn unreadable(tls: Option<&Tls>) -> Self {
        Self {
            method: Method::from_bytes(b"-").expect("a token"),
            host: None,
            path: "-".to_owned(),
            protocol: "-",
            tls: tls.map(|tls| tls.version.clone()),
            referer: None,
            agent: None,
            headers: Vec::new(),
        }
    }
}

/// One request that is over.
pub(super) struct Line<'a> {
    pub(super) time: Timestamp,
    pub(super) visitor: SocketAddr,
    pub(super) head: &'a Head,
    pub(super) tunnel: Option<&'a TunnelName>,
    pub(super) status: Option<StatusCode>,
    pub(super) outcome: &'static str,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) duration: Duration,
    pub(super) first_byte: Option<Duration>,
    pub(super) exchange: ExchangeId,
    pub(super) session: Option<u64>,
    pub(super) node: NodeId,
    pub(super) plugin: Option<&'a str>,
}

impl AccessLog {
    /// Takes down what a line will need.
    pub(super) fn head_of<B>(&self, request: &http::Request<B>, tls: Option<&Tls>) -> Head {
        let (headers, uri) = (request.headers(), request.uri());
        let host = uri.authority().map(|authority| authority.as_str().to_owned());
        let listed = self.headers.iter().filter(|name| !is_secret(name));
        Head {
            method: request.method().clone(),
            host: host.or_else(|| text(headers, &header::HOST)).map(cut),
            path: cut(self.redacted.target(uri.path_and_query().map_or("*", |target| target.as_str()))),
            protocol: protocol(request.version()),
            tls: tls.map(|tls| tls.version.clone()),
            referer: text(headers, &header::REFERER).map(|referer| cut(redact::referer(&referer))),
            agent: text(headers, &header::USER_AGENT).map(cut),
            headers: listed.filter_map(|name| Some((name.clone(), cut(text(headers, name)?)))).collect(),
        }
    }

    /// Writes a line.
    pub(super) fn write(&self, line: &Line<'_>) {
        (self.sink)(match self.format {
            Format::Json => json::line(line),
            Format::Combined => combined::line(line),
        });
    }
}

/// All values of a header, as text.
fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let mut all = values.next()?.into_owned();
    for value in values {
        all.push_str(", ");
        all.push_str(&value);
    }
    Some(all)
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

/// Characters that could move a terminal's cursor, end a line, or hide and reorder others (Unicode TR 36 section 3.2).
fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
