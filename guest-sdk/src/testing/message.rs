//! Requests and answers for tests, built as one writes them down.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use super::exchange;
use crate::bindings::plugin::types::{Answer, Role, TlsInfo};

/// Pairs in order; names are matched without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers(pub(crate) Vec<(String, Vec<u8>)>);

impl Headers {
    pub(super) fn all(&self, name: &str) -> Vec<Vec<u8>> {
        let values = self.0.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        values.map(|(_, value)| value.clone()).collect()
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(given, _)| given.eq_ignore_ascii_case(name))?;
        Some(str::from_utf8(value).unwrap_or_else(|_| panic!("the header {name} is no text: {value:?}")))
    }

    pub(super) fn add(&mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) {
        self.0.push((name.as_ref().to_ascii_lowercase(), value.as_ref().to_owned()));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(given, _)| !given.eq_ignore_ascii_case(name));
    }
}

/// Facts of a visitor's TLS. The bindings can't compare them.
#[derive(Clone)]
pub(super) struct Known(pub(super) TlsInfo);

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        format!("{:?}", self.0) == format!("{:?}", other.0)
    }
}

/// A request as it goes on, or as it came.
#[derive(Clone, PartialEq)]
pub struct Sent {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Host, and port if any.
    pub authority: String,
    pub(super) scheme: String,
    pub(super) tunnel: String,
    pub(super) role: Role,
    pub(super) visitor_address: Option<IpAddr>,
    pub(super) visitor_tls: Option<Known>,
    pub(super) websocket: bool,
    pub(super) headers: Headers,
    /// The pieces of the body.
    pub pieces: Vec<Vec<u8>>,
}

impl Sent {
    /// The first value of a header.
    ///
    /// # Panics
    /// It is no text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.text(name)
    }

    /// All of the body, as text.
    ///
    /// # Panics
    /// It is no text.
    #[must_use]
    pub fn text(&self) -> String {
        text(&self.pieces)
    }
}

pub(super) fn text(pieces: &[Vec<u8>]) -> String {
    String::from_utf8(pieces.concat()).expect("the body is no text")
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} to {}", self.method, self.path, self.authority)
    }
}

/// A `GET`.
#[must_use]
pub fn get(path: &str) -> RequestBuilder {
    request("GET", path)
}

/// A `POST`.
#[must_use]
pub fn post(path: &str) -> RequestBuilder {
    request("POST", path)
}

/// A `PUT`.
#[must_use]
pub fn put(path: &str) -> RequestBuilder {
    request("PUT", path)
}

/// A `DELETE`.
#[must_use]
pub fn delete(path: &str) -> RequestBuilder {
    request("DELETE", path)
}

/// Any method. Unless said otherwise it came by `https` from 203.0.113.7 to `demo.tunnels.example.com`.
#[must_use]
pub fn request(method: &str, path: &str) -> RequestBuilder {
    let sent = Sent {
        method: method.to_owned(),
        path: path.to_owned(),
        authority: "demo.tunnels.example.com".to_owned(),
        scheme: "https".to_owned(),
        tunnel: "demo".to_owned(),
        role: Role::Proxy,
        visitor_address: Some(Ipv4Addr::new(203, 0, 113, 7).into()),
        visitor_tls: None,
        websocket: false,
        headers: Headers::default(),
        pieces: Vec::new(),
    };
    RequestBuilder { sent, notes: BTreeMap::new() }
}

/// A request of a visitor.
#[derive(Clone, Debug)]
pub struct RequestBuilder {
    pub(super) sent: Sent,
    notes: BTreeMap<String, String>,
}

impl RequestBuilder {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        self.sent.headers.add(name, value);
        self
    }

    /// The body, in one piece.
    #[must_use]
    pub fn body(self, body: impl AsRef<[u8]>) -> Self {
        self.pieces([body])
    }

    /// The body, as it arrives.
    #[must_use]
    pub fn pieces<T: AsRef<[u8]>>(mut self, pieces: impl IntoIterator<Item = T>) -> Self {
        self.sent.pieces = pieces.into_iter().map(|piece| piece.as_ref().to_owned()).collect();
        self
    }

    /// Where the visitor is.
    ///
    /// # Panics
    /// That is no address.
    #[must_use]
    pub fn from(mut self, address: &str) -> Self {
        self.sent.visitor_address = Some(address.parse().expect("an IP address"));
        self
    }

    /// A visitor whose address isn't known.
    #[must_use]
    pub fn from_nowhere(mut self) -> Self {
        self.sent.visitor_address = None;
        self
    }

    /// What the proxy established of the visitor's TLS; nothing unless it is said.
    #[must_use]
    pub fn tls(mut self, info: TlsInfo) -> Self {
        self.sent.visitor_tls = Some(Known(info));
        self
    }

    /// The host, and port if any, that the visitor named.
    #[must_use]
    pub fn authority(mut self, authority: &str) -> Self {
        authority.clone_into(&mut self.sent.authority);
        self
    }

    /// How the visitor came: `http` or `https`.
    #[must_use]
    pub fn scheme(mut self, scheme: &str) -> Self {
        scheme.clone_into(&mut self.sent.scheme);
        self
    }

    /// The name of the tunnel.
    #[must_use]
    pub fn tunnel(mut self, name: &str) -> Self {
        name.clone_into(&mut self.sent.tunnel);
        self
    }

    /// A note of an earlier plugin.
    #[must_use]
    pub fn note(mut self, name: &str, value: &str) -> Self {
        self.notes.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The plugin runs at the client instead of the proxy.
    #[must_use]
    pub fn at_the_client(mut self) -> Self {
        self.sent.role = Role::Client;
        self
    }

    /// An upgrade to WebSocket, for plugins that may refuse it; [`Loaded::websocket`](super::Loaded::websocket) opens one.
    #[must_use]
    pub fn websocket(mut self) -> Self {
        self.sent.websocket = true;
        self
    }

    pub(super) fn into_request(self) -> exchange::Request {
        exchange::Request { sent: self.sent, notes: RefCell::new(self.notes) }
    }
}

/// A response of the origin, or an answer to a request of the plugin's.
#[must_use]
pub fn answer(status: u16) -> AnswerBuilder {
    AnswerBuilder { status, headers: Headers::default(), pieces: Vec::new() }
}

/// A response, to be or as it came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerBuilder {
    /// The status.
    pub status: u16,
    pub(super) headers: Headers,
    /// The pieces of the body.
    pub pieces: Vec<Vec<u8>>,
}

impl AnswerBuilder {
    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        self.headers.add(name, value);
        self
    }

    /// The body, in one piece.
    #[must_use]
    pub fn body(self, body: impl AsRef<[u8]>) -> Self {
        self.pieces([body])
    }

    /// The body, as it arrives.
    #[must_use]
    pub fn pieces<T: AsRef<[u8]>>(mut self, pieces: impl IntoIterator<Item = T>) -> Self {
        self.pieces = pieces.into_iter().map(|piece| piece.as_ref().to_owned()).collect();
        self
    }

    /// The first value of a header.
    ///
    /// # Panics
    /// It is no text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.text(name)
    }

    /// All of the body, as text.
    ///
    /// # Panics
    /// It is no text.
    #[must_use]
    pub fn text(&self) -> String {
        text(&self.pieces)
    }

    pub(super) fn into_answer(self) -> Answer {
        Answer { status: self.status, headers: self.headers.0, body: self.pieces.concat() }
    }

    pub(super) fn made(answer: Answer) -> Self {
        Self { status: answer.status, headers: Headers(answer.headers), pieces: vec![answer.body] }
    }
}
