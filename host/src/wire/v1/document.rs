//! Documents: each a JSON object that says its type, when it was made, and which exchange it belongs to.
//!
//! Clients in the field were written against one server, so that what is read is read leniently, and what is written
//! looks as that server's did. Must not know what follows from a document.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use crate::wire::{MAX_HEADERS, TunnelName};

/// Before a document's kind in its `@type`, and after it.
const TYPE: &str = "https://proxy.brickchain.com/v1/";
const SUFFIX: &str = ".json";

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    /// It wants visitors under a name.
    Register(RegistrationRequest),
    /// An answer, whole.
    HttpResponse(HttpResponse),
    /// Whether the origin took a WebSocket.
    WsResponse {
        /// Of the exchange.
        id: String,
        /// It did.
        ok: bool,
        /// Why it didn't, for the log.
        error: String,
    },
    /// A WebSocket message, whole.
    WsMessage {
        /// Of the exchange.
        id: String,
        /// The opcode of RFC 6455: 1 is text.
        opcode: u64,
        /// What it says.
        body: String,
    },
    /// The origin's WebSocket has ended.
    WsTeardown {
        /// Of the exchange.
        id: String,
    },
    /// It takes its leave.
    Disconnect,
    /// Something that needs no answer.
    Other,
}

/// A client's wish for visitors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationRequest {
    /// Comes back in the response.
    pub id: String,
    /// Who it is; see [`MandateToken`](super::MandateToken).
    pub mandate_token: String,
    /// A label that gives the registration a name of its own.
    pub session: Option<String>,
}

/// A client's answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// Of the exchange.
    pub id: String,
    /// Never an interim one.
    pub status: StatusCode,
    /// One value a name.
    pub headers: HeaderMap,
    /// All of it.
    pub body: Bytes,
}

/// A frame that can't be taken for a document, or a document that can't be taken for what it says it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The session ends.
    #[error("a document is a JSON object with an @type: {0}")]
    NotADocument(String),
    /// The session ends.
    #[error("a document is a text frame")]
    Binary,
    /// The exchange ends, if there is one.
    #[error("a document of the type {kind} that can't be used: {problem}")]
    Unusable {
        /// Of the exchange; may be none.
        id: String,
        /// What it says it is.
        kind: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl DocumentError {
    /// Whether a registration is what can't be used.
    pub fn is_registration(&self) -> bool {
        matches!(self, Self::Unusable { kind: REGISTRATION_REQUEST, .. })
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "@type", borrow)]
    kind: Cow<'a, str>,
    #[serde(rename = "@id")]
    id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registration {
    mandate_token: String,
    session: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    status: u16,
    headers: Option<BTreeMap<String, String>>,
    content_type: Option<String>,
    body: Option<String>,
}

#[derive(Deserialize)]
struct Acceptance {
    #[serde(default)]
    ok: bool,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SocketMessage {
    message_type: u64,
    body: Option<String>,
}

impl FromClient {
    /// Reads one text frame.
    ///
    /// # Errors
    /// It is no document, or one that can't be used.
    pub fn decode(text: &str) -> Result<Self, DocumentError> {
        let envelope: Envelope<'_> =
            serde_json::from_str(text).map_err(|error| DocumentError::NotADocument(error.to_string()))?;
        let kind = envelope.kind.strip_prefix(TYPE).and_then(|kind| kind.strip_suffix(SUFFIX));
        let id = envelope.id.unwrap_or_default();
        let Some(kind) = kind.and_then(known) else { return Ok(Self::Other) };
        Self::of_kind(kind, id.clone(), text).map_err(|problem| DocumentError::Unusable { id, kind, problem })
    }

    fn of_kind(kind: &'static str, id: String, text: &str) -> Result<Self, String> {
        Ok(match kind {
            REGISTRATION_REQUEST => {
                let Registration { mandate_token, session } = read(text)?;
                // Programs that always write the member leave it empty.
                let session = session.filter(|label| !label.is_empty());
                Self::Register(RegistrationRequest { id, mandate_token, session })
            }
            HTTP_RESPONSE => Self::HttpResponse(read::<Response>(text)?.into_response(id)?),
            WS_RESPONSE => {
                let Acceptance { ok, error } = read(text)?;
                Self::WsResponse { id, ok, error: error.unwrap_or_default() }
            }
            WS_MESSAGE => {
                let SocketMessage { message_type, body } = read(text)?;
                Self::WsMessage { id, opcode: message_type, body: body.unwrap_or_default() }
            }
            WS_TEARDOWN => Self::WsTeardown { id },
            _ => Self::Disconnect,
        })
    }
}

const REGISTRATION_REQUEST: &str = "registration-request";
const HTTP_RESPONSE: &str = "http-response";
const WS_RESPONSE: &str = "ws-response";
const WS_MESSAGE: &str = "ws-message";
const WS_TEARDOWN: &str = "ws-teardown";
const DISCONNECT: &str = "disconnect";

/// The kinds that mean something from a client.
fn known(kind: &str) -> Option<&'static str> {
    [REGISTRATION_REQUEST, HTTP_RESPONSE, WS_RESPONSE, WS_MESSAGE, WS_TEARDOWN, DISCONNECT]
        .into_iter()
        .find(|known| *known == kind)
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

impl Response {
    fn into_response(self, id: String) -> Result<HttpResponse, String> {
        let status = StatusCode::from_u16(self.status).ok().filter(|status| !status.is_informational());
        let status = status.ok_or_else(|| format!("{} is no status of a final response", self.status))?;
        let written = self.headers.unwrap_or_default();
        if written.len() >= MAX_HEADERS {
            return Err(format!("it has more than {MAX_HEADERS} headers"));
        }
        let mut headers = HeaderMap::with_capacity(written.len() + 1);
        for (name, value) in written {
            let parsed = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value));
            let (Ok(name), Ok(value)) = parsed else {
                return Err(format!("the header {name:?} isn't valid in HTTP"));
            };
            headers.append(name, value);
        }
        if let Some(kind) = self.content_type.filter(|kind| !kind.is_empty())
            && !headers.contains_key(header::CONTENT_TYPE)
        {
            let kind =
                HeaderValue::from_str(&kind).map_err(|_| "its contentType isn't valid in HTTP".to_owned())?;
            headers.insert(header::CONTENT_TYPE, kind);
        }
        let body = STANDARD.decode(self.body.unwrap_or_default());
        let body = body.map_err(|error| format!("its body isn't base64: {error}"))?;
        Ok(HttpResponse { id, status, headers, body: body.into() })
    }
}

#[derive(Serialize)]
struct Document<'a, T> {
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "@timestamp")]
    timestamp: Timestamp,
    #[serde(rename = "@id")]
    id: &'a str,
    #[serde(flatten)]
    content: T,
}

fn write<T: Serialize>(kind: &'static str, id: &str, timestamp: Timestamp, content: T) -> String {
    let document = Document { kind, timestamp, id, content };
    serde_json::to_string(&document).expect("texts, numbers and maps of texts are JSON")
}

/// A path as this dialect has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path<'a> {
    /// Decoded.
    pub url: Cow<'a, str>,
    /// Whoever encodes it again gets what the visitor wrote, or its equal.
    pub exact: bool,
}

/// Decodes a path as the original's router did: once, and nothing else is changed.
pub fn url_of(path: &str) -> Path<'_> {
    let decoded = percent_decode_str(path);
    // An encoded slash is not the slash that parts a path (RFC 3986 section 2.2).
    let slash = path.as_bytes().windows(3).any(|three| three.eq_ignore_ascii_case(b"%2f"));
    match decoded.clone().decode_utf8() {
        Ok(url) => Path { url, exact: !slash },
        Err(_) => Path { url: decoded.decode_utf8_lossy(), exact: false },
    }
}

#[derive(Serialize)]
struct Request<'a> {
    url: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    query: &'a str,
    headers: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// A request, whole. The query is as the visitor wrote it.
pub fn http_request(
    id: &str,
    now: Timestamp,
    method: &Method,
    (url, query): (&str, &str),
    headers: &BTreeMap<String, String>,
    body: &[u8],
) -> String {
    let body = Some(STANDARD.encode(body));
    let request = Request { url, query, headers, method: Some(method.as_str()), body };
    write("https://proxy.brickchain.com/v1/http-request.json", id, now, request)
}

/// A visitor's wish for a WebSocket.
pub fn ws_request(
    id: &str,
    now: Timestamp,
    (url, query): (&str, &str),
    headers: &BTreeMap<String, String>,
) -> String {
    let request = Request { url, query, headers, method: None, body: None };
    write("https://proxy.brickchain.com/v1/ws-request.json", id, now, request)
}

/// A visitor's WebSocket message.
pub fn ws_message(id: &str, now: Timestamp, text: &str) -> String {
    #[derive(Serialize)]
    struct Text<'a> {
        #[serde(rename = "messageType")]
        message_type: u8,
        body: &'a str,
    }
    write("https://proxy.brickchain.com/v1/ws-message.json", id, now, Text { message_type: 1, body: text })
}

/// The visitor's WebSocket has ended.
pub fn ws_teardown(id: &str, now: Timestamp) -> String {
    #[derive(Serialize)]
    struct Nothing {}
    write("https://proxy.brickchain.com/v1/ws-teardown.json", id, now, Nothing {})
}

/// A registration that was accepted; without a hostname where tunnels have none.
pub fn registration_response(id: &str, now: Timestamp, name: &TunnelName, hostname: Option<&str>) -> String {
    #[derive(Serialize)]
    struct Registered<'a> {
        #[serde(rename = "keyID")]
        key_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        hostname: Option<&'a str>,
    }
    let registered = Registered { key_id: name.as_str(), hostname };
    write("https://proxy.brickchain.com/v1/registration-response.json", id, now, registered)
}

/// A sign of life. It has no other member.
pub fn ping() -> String {
    r#"{"@type":"https://proxy.brickchain.com/v1/ping.json"}"#.to_owned()
}
