//! A visitor that speaks HTTP/2: by a library, or frame by frame.

use bytes::{Bytes, BytesMut};
use h2::{
    Reason, RecvStream, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request, StatusCode};
use tokio::{net::TcpStream, task::JoinHandle};

use super::{Door, Wire, within};

/// A connection, by a library.
pub(crate) struct Visitor {
    sender: SendRequest<Bytes>,
    host: String,
    driver: JoinHandle<Result<(), h2::Error>>,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Visitor {
    pub(crate) async fn connect(door: &Door) -> Self {
        Self::with(door, &Builder::new()).await
    }

    /// A visitor with these settings of its own.
    pub(crate) async fn with(door: &Door, builder: &Builder) -> Self {
        let stream = within("a connection", TcpStream::connect(door.address)).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket takes TCP_NODELAY");
        let (sender, connection) =
            within("settings", builder.handshake(stream)).await.expect("the proxy speaks HTTP/2");
        Self { sender, host: door.host.clone(), driver: tokio::spawn(connection) }
    }

    /// A request's head, to be added to.
    pub(crate) fn request(&self, method: &str, target: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("http://{}{target}", self.host))
    }

    /// Sends a head; `last` if no body follows.
    pub(crate) async fn send(
        &mut self,
        request: Request<()>,
        last: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let ready = within("room for a stream", self.sender.clone().ready()).await;
        self.sender = ready.expect("the connection goes on");
        self.sender.send_request(request, last).expect("a request that can be sent")
    }

    /// The answer to a request without a body.
    pub(crate) async fn answer(&mut self, request: Request<()>) -> Result<Reply, h2::Error> {
        let (response, _) = self.send(request, true).await;
        whole(response).await
    }

    /// The whole answer to one request.
    pub(crate) async fn get(&mut self, target: &str) -> Reply {
        let request = self.request("GET", target).body(()).expect("a request");
        self.answer(request).await.expect("an answer")
    }

    /// Waits until the connection ends, and says how.
    pub(crate) async fn ended(self) -> Result<(), h2::Error> {
        let Self { sender, driver, .. } = self;
        let ended = within("the connection to end", driver).await.expect("nobody ends it here");
        drop(sender);
        ended
    }
}

/// The whole of one answer.
pub(crate) async fn whole(response: ResponseFuture) -> Result<Reply, h2::Error> {
    let (head, mut body) = within("an answer", response).await?.into_parts();
    let mut bytes = Vec::new();
    while let Some(part) = data(&mut body).await {
        bytes.extend_from_slice(&part?);
    }
    Ok(Reply { status: head.status, headers: head.headers, body: bytes })
}

/// The next part of a body; its window opens again.
pub(crate) async fn data(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let part = within("a part of a body", body.data()).await?;
    if let Ok(part) = &part {
        body.flow_control().release_capacity(part.len()).expect("what was received can be released");
    }
    Some(part)
}

/// A connection, frame by frame, as no library would use it.
pub(crate) struct Frames {
    pub(crate) wire: Wire,
    host: String,
}

/// One frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a payload of a frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header field, as a literal that nobody remembers (RFC 7541 section 6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        let mut rest = text.len();
        if rest < 127 {
            bytes.push(u8::try_from(rest).expect("less than 127"));
        } else {
            bytes.push(127);
            rest -= 127;
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128 + 128).expect("a byte"));
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).expect("less than 128"));
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

impl Frames {
    /// A connection with its preface, and with these settings.
    pub(crate) async fn connect(door: &Door, settings: &[(u16, u32)]) -> Self {
        let mut wire = door.visit().await;
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        wire.send([&preface[..], &frame(SETTINGS, 0, 0, &payload)].concat()).await;
        Self { wire, host: door.host.clone() }
    }

    /// The fields of a request's head.
    pub(crate) fn head(&self, method: &str, path: &str) -> Vec<u8> {
        let fields = [(":method", method), (":scheme", "http"), (":authority", &self.host), (":path", path)];
        fields.iter().flat_map(|(name, value)| field(name, value)).collect()
    }

    /// A whole request without a body.
    pub(crate) fn get(&self, stream: u32, path: &str) -> Vec<u8> {
        frame(HEADERS, END_STREAM | END_HEADERS, stream, &self.head("GET", path))
    }

    /// Sends bytes; false if the other side takes no more.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        within("bytes to be taken", self.wire.try_send(bytes)).await.is_ok()
    }

    /// Sends the same over and over, until the other side takes no more; at most so many times.
    pub(crate) async fn flood(&mut self, most: u32, mut bytes: impl FnMut(&Self, u32) -> Vec<u8>) -> u32 {
        for sent in 0..most {
            let next = bytes(self, sent);
            if !self.send(&next).await || self.is_told_to_go().await {
                return sent;
            }
        }
        most
    }

    /// Whether what has arrived up to now ends the connection.
    async fn is_told_to_go(&mut self) -> bool {
        let mut rest = self.wire.arrived().await;
        while let Some((head, _)) = rest.split_first_chunk::<9>() {
            if head[3] == GOAWAY {
                return true;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize + 9;
            rest = rest.get(length..).unwrap_or_default();
        }
        false
    }

    /// The next frame, or none at the end.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut bytes = BytesMut::new();
        let head = self.some(&mut bytes, 9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let kind = head[3];
        Some(Frame { kind, stream, payload: self.some(&mut bytes, length).await? })
    }

    async fn some(&mut self, bytes: &mut BytesMut, length: usize) -> Option<Vec<u8>> {
        bytes.clear();
        while bytes.len() < length {
            let part = within("a frame", self.wire.some(length - bytes.len())).await.ok()?;
            bytes.extend_from_slice(&part);
        }
        Some(bytes.to_vec())
    }

    /// The next frame of this type.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection goes on");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads on to the reason for which the connection is ended.
    pub(crate) async fn told_to_go(&mut self) -> Reason {
        let payload = self.next_of(GOAWAY).await.payload;
        u32::from_be_bytes(payload[4..8].try_into().expect("four bytes")).into()
    }
}
