//! Bytes into messages, bounded before anything is allocated.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, uri::PathAndQuery};

use super::{
    MAX_PART, MAX_TEXT, NodeId, Notes, Tls, TunnelName,
    cbor::Reader,
    error::DecodeError,
    message::{
        BodyPart, CancelCode, Message, Refusal, Registered, RequestStart, ResponseStart, WsKind, WsPart, key,
        kind,
    },
};

/// Data below this is copied out of its frame, as is any that is less than half of it: a slice keeps the whole read
/// buffer alive, and credit counts only what the slice shows.
const SMALL: usize = 4096;

/// What a decoder takes at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Headers, or trailers, of one message.
    pub headers: usize,
}

/// What a frame held.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// A message of this version.
    Message(Message),
    /// A message of a kind that this version doesn't know: to be skipped.
    Unknown {
        /// Its number.
        kind: u64,
    },
}

impl Message {
    /// Reads one frame. Keys that this version doesn't know are skipped; bodies are slices of the frame.
    ///
    /// # Errors
    /// The frame is no message, or over a limit.
    pub fn decode(frame: Bytes, limits: &Limits) -> Result<Decoded, DecodeError> {
        let length = frame.len();
        let mut reader = Reader::new(frame);
        let entries = reader.map()?;
        if entries == 0 || reader.number().map_err(|_| DecodeError::NoKind)? != key::KIND {
            return Err(DecodeError::NoKind);
        }
        let kind = reader.number()?;
        if !(kind::REGISTRATION_REQUEST..=kind::GO_AWAY).contains(&kind) {
            (1..entries).try_for_each(|_| reader.skip().and_then(|()| reader.skip()))?;
            return reader.finish().map(|()| Decoded::Unknown { kind });
        }
        let mut fields = Fields { kind, ..Fields::default() };
        for _ in 1..entries {
            fields.read(&mut reader, limits)?;
        }
        reader.finish()?;
        let data = fields.data.len();
        if data > 0 && (data < SMALL || data * 2 < length) {
            fields.data = Bytes::copy_from_slice(&fields.data);
        }
        fields.into_message().map(Decoded::Message)
    }
}

/// All keys that a message may have, as read so far. Which of them count depends on the kind.
#[derive(Default)]
struct Fields {
    kind: u64,
    seen: u32,
    id: u64,
    /// The value of key 2 where it is a number.
    number: u64,
    method: Option<Method>,
    text: String,
    authority: String,
    target: Option<PathAndQuery>,
    headers: HeaderMap,
    data: Bytes,
    end: bool,
    visitor: Option<String>,
    exchange: u64,
    trailers: Option<HeaderMap>,
    secure: bool,
    statement: Bytes,
    name: Option<TunnelName>,
    public_url: String,
    max_body: Option<u64>,
    max_websocket_message: u64,
    max_exchanges: u64,
    refusal: Option<String>,
    retry: bool,
    retry_after: Option<Duration>,
    notes: Notes,
    node: Option<NodeId>,
    tls: Option<Arc<Tls>>,
}

impl Fields {
    fn read(&mut self, reader: &mut Reader, limits: &Limits) -> Result<(), DecodeError> {
        let key = reader.number()?;
        if key > key::RETRY_AFTER {
            return reader.skip();
        }
        if key == key::KIND || self.seen & (1 << key) != 0 {
            return Err(DecodeError::Repeated { key });
        }
        self.seen |= 1 << key;
        let at = reader.position();
        match key {
            key::ID => self.id = reader.number()?,
            key::VALUE if matches!(self.kind, kind::HTTP_REQUEST | kind::WS_REQUEST) => {
                let method = Method::from_bytes(reader.str()?.as_bytes());
                self.method = Some(method.map_err(|_| DecodeError::WrongType { at, wanted: "a method" })?);
            }
            key::VALUE => self.number = reader.number()?,
            key::TEXT => self.text = reader.string(MAX_TEXT)?,
            key::AUTHORITY => self.authority = reader.string(MAX_TEXT)?,
            key::TARGET => self.target = Some(target(reader.text()?, at)?),
            key::HEADERS => self.headers = reader.headers(limits.headers)?,
            key::DATA => self.data = reader.bytes().and_then(|data| part(data, at))?,
            key::END => self.end = reader.flag()?,
            key::VISITOR => self.visitor = Some(reader.string(MAX_TEXT)?),
            key::EXCHANGE => self.exchange = reader.number()?,
            key::TRAILERS => self.trailers = Some(reader.headers(limits.headers)?),
            key::SECURE => self.secure = reader.flag()?,
            key::STATEMENT => self.statement = reader.bytes()?,
            key::NAME => {
                let name = reader.string(MAX_TEXT)?.parse();
                self.name = Some(name.map_err(|_| DecodeError::WrongType { at, wanted: "a tunnel's name" })?);
            }
            key::PUBLIC_URL => self.public_url = reader.string(MAX_TEXT)?,
            key::MAX_BODY => self.max_body = Some(reader.number()?),
            key::MAX_WEBSOCKET_MESSAGE => self.max_websocket_message = reader.number()?,
            key::MAX_EXCHANGES => self.max_exchanges = reader.number()?,
            key::REFUSAL => self.refusal = Some(reader.string(MAX_TEXT)?),
            key::NOTES => self.notes = reader.notes()?,
            key::RETRY => self.retry = reader.flag()?,
            key::NODE => {
                let node = reader.string(MAX_TEXT)?.parse();
                self.node = Some(node.map_err(|_| DecodeError::WrongType { at, wanted: "a node's name" })?);
            }
            key::TLS => self.tls = Some(Arc::new(reader.tls()?)),
            key::RETRY_AFTER => self.retry_after = Some(Duration::from_secs(reader.number()?)),
            _ => unreachable!("the keys up to RETRY_AFTER are all named above"),
        }
        Ok(())
    }

    fn into_message(self) -> Result<Message, DecodeError> {
        if !matches!(self.kind, kind::PING | kind::PONG | kind::DISCONNECT | kind::GO_AWAY) {
            self.need(key::ID)?;
        }
        Ok(match self.kind {
            kind::REGISTRATION_REQUEST => {
                self.need(key::STATEMENT)?;
                Message::RegistrationRequest { id: self.id, statement: self.statement }
            }
            kind::REGISTRATION_RESPONSE => self.into_registration_response()?,
            kind::HTTP_REQUEST => Message::HttpRequest(self.into_request()?),
            kind::WS_REQUEST => Message::WsRequest(self.into_request()?),
            kind::HTTP_RESPONSE => Message::HttpResponse(self.into_response()?),
            kind::WS_RESPONSE => Message::WsResponse(self.into_response()?),
            kind::BODY if self.trailers.is_some() && !self.end => {
                return Err(DecodeError::WrongType { at: 0, wanted: "trailers with the last part only" });
            }
            kind::BODY => Message::Body(BodyPart {
                id: self.id,
                data: self.data,
                end: self.end,
                trailers: self.trailers,
            }),
            kind::CREDIT => Message::Credit { id: self.id, bytes: self.narrow("a count of bytes")? },
            kind::CANCEL => {
                self.need(key::VALUE)?;
                Message::Cancel { id: self.id, code: CancelCode::from_number(self.number), detail: self.text }
            }
            kind::WS_MESSAGE => {
                let kind = self.ws_kind()?;
                Message::WsMessage(WsPart { id: self.id, kind, data: self.data, end: self.end })
            }
            kind::WS_TEARDOWN => {
                Message::WsTeardown { id: self.id, code: self.narrow("a close code")?, reason: self.text }
            }
            kind::PING => Message::Ping,
            kind::PONG => Message::Pong,
            kind::DISCONNECT => Message::Disconnect,
            kind::GO_AWAY => Message::GoAway { grace: Duration::from_millis(self.number) },
            _ => unreachable!("unknown kinds were skipped"),
        })
    }

    fn into_request(self) -> Result<Box<RequestStart>, DecodeError> {
        self.need(key::VALUE)?;
        self.need(key::TARGET)?;
        let (Some(method), Some(target)) = (self.method, self.target) else {
            unreachable!("both were read, or they would be missing");
        };
        Ok(Box::new(RequestStart {
            id: self.id,
            tunnel: self.name,
            exchange: self.exchange,
            method,
            secure: self.secure,
            authority: self.authority,
            target,
            headers: self.headers,
            visitor: self.visitor,
            tls: self.tls,
            notes: self.notes,
            body: self.data,
            end: self.end,
        }))
    }

    fn into_response(self) -> Result<Box<ResponseStart>, DecodeError> {
        let status: u16 = self.narrow("a status")?;
        let status = StatusCode::from_u16(status)
            .map_err(|_| DecodeError::WrongType { at: 0, wanted: "a status from 100 to 999" })?;
        let Self { id, headers, data: body, end, .. } = self;
        Ok(Box::new(ResponseStart { id, status, headers, body, end }))
    }

    fn into_registration_response(self) -> Result<Message, DecodeError> {
        if let Some(code) = self.refusal {
            let Self { text, retry, retry_after, .. } = self;
            let outcome = Err(Refusal { code, text, retry, retry_after });
            return Ok(Message::RegistrationResponse { id: self.id, outcome });
        }
        let Some(name) = self.name else {
            return Err(DecodeError::Missing { kind: self.kind, key: key::NAME });
        };
        let registered = Registered {
            name,
            hostname: self.authority,
            public_url: self.public_url,
            max_body: self.max_body,
            max_websocket_message: self.max_websocket_message,
            max_exchanges: self.max_exchanges,
            node: self.node,
        };
        Ok(Message::RegistrationResponse { id: self.id, outcome: Ok(registered) })
    }

    fn ws_kind(&self) -> Result<WsKind, DecodeError> {
        let kind = match self.number {
            1 => WsKind::Text,
            2 => WsKind::Binary,
            9 => WsKind::Ping,
            10 => WsKind::Pong,
            _ => return Err(DecodeError::WrongType { at: 0, wanted: "an opcode: 1, 2, 9 or 10" }),
        };
        if matches!(kind, WsKind::Ping | WsKind::Pong) && (self.data.len() > 125 || !self.end) {
            return Err(DecodeError::WrongType { at: 0, wanted: "a control message of at most 125 bytes" });
        }
        Ok(kind)
    }

    /// The number of key 2 in a narrower type.
    fn narrow<T: TryFrom<u64>>(&self, wanted: &'static str) -> Result<T, DecodeError> {
        self.need(key::VALUE)?;
        T::try_from(self.number).map_err(|_| DecodeError::WrongType { at: 0, wanted })
    }

    fn need(&self, key: u64) -> Result<(), DecodeError> {
        if self.seen & (1 << key) == 0 { Err(DecodeError::Missing { kind: self.kind, key }) } else { Ok(()) }
    }
}

fn part(data: Bytes, at: usize) -> Result<Bytes, DecodeError> {
    if data.len() > MAX_PART { Err(DecodeError::TooLong { at, most: MAX_PART }) } else { Ok(data) }
}

/// A request target exactly as written: one that `http` would shorten (a fragment) is refused.
fn target(text: Bytes, at: usize) -> Result<PathAndQuery, DecodeError> {
    let length = text.len();
    match PathAndQuery::from_maybe_shared(text) {
        Ok(target) if target.as_str().len() == length => Ok(target),
        _ => Err(DecodeError::WrongType { at, wanted: "a path with an optional query" }),
    }
}
