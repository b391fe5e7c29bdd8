//! Messages into bytes.

use bytes::Bytes;
use http::HeaderMap;

use super::{
    cbor::{LONGEST_COPIED, Writer},
    message::{BodyPart, Message, RequestStart, ResponseStart, WsPart, key, kind},
};

/// A message as one CBOR map, in three pieces: data of more than a few kilobytes isn't copied.
#[derive(Debug)]
pub struct Encoded {
    pub(super) before: Bytes,
    pub(super) data: Bytes,
    pub(super) after: Bytes,
}

impl Encoded {
    /// The pieces in their order; the last two may be empty.
    pub fn pieces(self) -> [Bytes; 3] {
        [self.before, self.data, self.after]
    }

    /// All in one.
    pub fn whole(self) -> Bytes {
        if self.data.is_empty() { self.before } else { self.pieces().concat().into() }
    }
}

impl Message {
    /// The message as one CBOR map.
    pub fn encode(&self) -> Bytes {
        self.encode_apart().whole()
    }

    /// The same, whose data isn't copied if it is long.
    pub fn encode_apart(&self) -> Encoded {
        match self {
            Self::RegistrationRequest { .. } | Self::RegistrationResponse { .. } => encode_registration(self),
            Self::HttpRequest(start) => encode_request(kind::HTTP_REQUEST, start),
            Self::HttpResponse(start) => encode_response(kind::HTTP_RESPONSE, start),
            Self::Body(part) => encode_body(part),
            Self::WsRequest(start) => encode_request(kind::WS_REQUEST, start),
            Self::WsResponse(start) => encode_response(kind::WS_RESPONSE, start),
            Self::WsMessage(part) => encode_ws_part(part),
            Self::Credit { id, bytes } => {
                let mut map = start(kind::CREDIT, Some(*id), 16);
                map.number(key::VALUE, u64::from(*bytes));
                map.finish()
            }
            Self::Cancel { id, code, detail } => {
                let mut map = start(kind::CANCEL, Some(*id), 16 + detail.len());
                map.number(key::VALUE, *code as u64);
                if !detail.is_empty() {
                    map.text(key::TEXT, detail);
                }
                map.finish()
            }
            Self::WsTeardown { id, code, reason } => {
                let mut map = start(kind::WS_TEARDOWN, Some(*id), 16 + reason.len());
                map.number(key::VALUE, u64::from(*code));
                if !reason.is_empty() {
                    map.text(key::TEXT, reason);
                }
                map.finish()
            }
            Self::Ping => start(kind::PING, None, 4).finish(),
            Self::Pong => start(kind::PONG, None, 4).finish(),
            Self::Disconnect => start(kind::DISCONNECT, None, 4).finish(),
            Self::GoAway { grace } => {
                let mut map = start(kind::GO_AWAY, None, 16);
                map.number(key::VALUE, u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
                map.finish()
            }
        }
    }
}

fn start(kind: u64, id: Option<u64>, capacity: usize) -> Writer {
    let mut map = Writer::with_capacity(capacity + 12);
    map.number(key::KIND, kind);
    if let Some(id) = id {
        map.number(key::ID, id);
    }
    map
}

fn encode_registration(message: &Message) -> Encoded {
    match message {
        Message::RegistrationRequest { id, statement } => {
            let mut map = start(kind::REGISTRATION_REQUEST, Some(*id), statement.len() + 8);
            map.bytes(key::STATEMENT, statement);
            map.finish()
        }
        Message::RegistrationResponse { id, outcome: Ok(registered) } => {
            let mut map = start(kind::REGISTRATION_RESPONSE, Some(*id), 256);
            map.text(key::AUTHORITY, &registered.hostname);
            map.text(key::NAME, registered.name.as_str());
            map.text(key::PUBLIC_URL, &registered.public_url);
            if let Some(bytes) = registered.max_body {
                map.number(key::MAX_BODY, bytes);
            }
            map.number(key::MAX_WEBSOCKET_MESSAGE, registered.max_websocket_message);
            map.number(key::MAX_EXCHANGES, registered.max_exchanges);
            if let Some(node) = registered.node {
                map.text(key::NODE, &node.to_string());
            }
            map.finish()
        }
        Message::RegistrationResponse { id, outcome: Err(refusal) } => {
            let mut map = start(kind::REGISTRATION_RESPONSE, Some(*id), 256);
            map.text(key::TEXT, &refusal.text);
            map.text(key::REFUSAL, &refusal.code);
            map.flag(key::RETRY, refusal.retry);
            if let Some(wait) = refusal.retry_after {
                map.number(key::RETRY_AFTER, wait.as_secs());
            }
            map.finish()
        }
        _ => unreachable!("called for registrations only"),
    }
}

fn encode_request(kind: u64, request: &RequestStart) -> Encoded {
    let capacity = request.authority.len() + request.target.as_str().len() + copied(&request.body) + 96;
    let mut map = start(kind, Some(request.id), capacity + size(&request.headers));
    map.text(key::VALUE, request.method.as_str());
    map.text(key::AUTHORITY, &request.authority);
    map.text(key::TARGET, request.target.as_str());
    map.headers(key::HEADERS, &request.headers);
    if !request.body.is_empty() {
        map.data(key::DATA, &request.body);
    }
    map.flag(key::END, request.end);
    if let Some(visitor) = &request.visitor {
        map.text(key::VISITOR, visitor);
    }
    map.number(key::EXCHANGE, request.exchange);
    map.flag(key::SECURE, request.secure);
    if let Some(tunnel) = &request.tunnel {
        map.text(key::NAME, tunnel.as_str());
    }
    if !request.notes.is_empty() {
        map.notes(key::NOTES, &request.notes);
    }
    if let Some(tls) = &request.tls {
        map.tls(key::TLS, tls);
    }
    map.finish()
}

fn encode_response(kind: u64, response: &ResponseStart) -> Encoded {
    let mut map = start(kind, Some(response.id), copied(&response.body) + 24 + size(&response.headers));
    map.number(key::VALUE, u64::from(response.status.as_u16()));
    map.headers(key::HEADERS, &response.headers);
    if !response.body.is_empty() {
        map.data(key::DATA, &response.body);
    }
    map.flag(key::END, response.end);
    map.finish()
}

fn encode_body(part: &BodyPart) -> Encoded {
    let trailers = part.trailers.as_ref().map_or(0, size);
    let mut map = start(kind::BODY, Some(part.id), copied(&part.data) + 16 + trailers);
    if !part.data.is_empty() {
        map.data(key::DATA, &part.data);
    }
    map.flag(key::END, part.end);
    if let Some(trailers) = &part.trailers {
        map.headers(key::TRAILERS, trailers);
    }
    map.finish()
}

fn encode_ws_part(part: &WsPart) -> Encoded {
    let mut map = start(kind::WS_MESSAGE, Some(part.id), copied(&part.data) + 16);
    map.number(key::VALUE, part.kind as u64);
    if !part.data.is_empty() {
        map.data(key::DATA, &part.data);
    }
    map.flag(key::END, part.end);
    map.finish()
}

/// How many bytes of data the message's own piece has.
fn copied(data: &Bytes) -> usize {
    if data.len() <= LONGEST_COPIED { data.len() } else { 0 }
}

/// About how many bytes headers take when encoded.
fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() + 4
}
