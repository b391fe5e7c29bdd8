//! WebSocket (RFC 6455), both ends: frames by hand where each one matters, tokio-tungstenite where messages do.

use bytes::{BufMut, BytesMut};
use tokio::io::AsyncReadExt;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{Door, Head, Origin, Wire, http1::Io, within};

/// An open WebSocket that speaks in whole messages.
pub(crate) type Socket = WebSocketStream<Box<dyn Io>>;

/// The key of RFC 6455 section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A visitor that has asked for a WebSocket and waits for the answer. `fields` are whole lines without their ends.
pub(crate) async fn ask(door: impl Into<Door>, target: &str, fields: &[&str]) -> Wire {
    let door = door.into();
    let mut visitor = door.visit().await;
    visitor.send(request(&door, target, fields)).await;
    visitor
}

/// The bytes of an upgrade request as browsers send it.
pub(crate) fn request(door: impl Into<Door>, target: &str, fields: &[&str]) -> Vec<u8> {
    let key = format!("Sec-WebSocket-Key: {KEY}");
    let mut all =
        vec!["Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", &key];
    all.extend(fields);
    door.into().head(&format!("GET {target}"), &all)
}

/// Says yes for the origin, with more header lines.
pub(crate) async fn accept(origin: &mut Wire, request: &Head, fields: &[&str]) {
    let key = request.text("sec-websocket-key").expect("an upgrade has a key");
    let accept = derive_accept_key(key.as_bytes());
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n"
    );
    for field in fields {
        head.push_str(field);
        head.push_str("\r\n");
    }
    origin.send(head + "\r\n").await;
}

/// Reads the 101 that a visitor gets, and checks it.
pub(crate) async fn accepted(visitor: &mut Wire) -> Head {
    let head = visitor.head().await;
    assert_eq!(head.status(), 101, "{head:?}");
    assert_eq!(head.text("upgrade").map(|text| text.to_ascii_lowercase()).as_deref(), Some("websocket"));
    assert!(
        head.texts("connection").iter().any(|text| text.to_ascii_lowercase().contains("upgrade")),
        "{head:?}"
    );
    assert_eq!(head.text("sec-websocket-accept"), Some(derive_accept_key(KEY.as_bytes())));
    head
}

/// Both ends of a new WebSocket, frame by frame: the visitor's and the origin's.
pub(crate) async fn open(door: impl Into<Door>, origin: &Origin, target: &str) -> (Frames, Frames) {
    let (visitor, origin) = connect(door.into(), origin, target).await;
    (Frames::of_visitor(visitor), Frames::of_origin(origin))
}

/// Both ends of a new WebSocket, message by message: the visitor's and the origin's.
pub(crate) async fn open_sockets(door: impl Into<Door>, origin: &Origin, target: &str) -> (Socket, Socket) {
    let (visitor, origin) = connect(door.into(), origin, target).await;
    (visitor_socket(visitor).await, origin_socket(origin).await)
}

async fn connect(door: Door, origin: &Origin, target: &str) -> (Wire, Wire) {
    let mut visitor = ask(door, target, &[]).await;
    let (mut answers, request) = origin.request().await;
    accept(&mut answers, &request.head, &[]).await;
    accepted(&mut visitor).await;
    (visitor, answers)
}

/// The visitor's end, which masks what it sends, as whole messages.
pub(crate) async fn visitor_socket(wire: Wire) -> Socket {
    socket(wire, Role::Client).await
}

/// The origin's end as whole messages.
pub(crate) async fn origin_socket(wire: Wire) -> Socket {
    socket(wire, Role::Server).await
}

async fn socket(wire: Wire, role: Role) -> Socket {
    let (io, read) = wire.into_parts();
    let config = WebSocketConfig::default()
        .max_message_size(Some(64 << 20))
        .max_frame_size(Some(64 << 20))
        .read_buffer_size(16 << 10)
        .write_buffer_size(0);
    WebSocketStream::from_partially_read(io, read.to_vec(), role, Some(config)).await
}

/// What a frame is (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: Opcode,
    /// Whether the message ends with it.
    pub(crate) last: bool,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// A frame that is a whole message, or a control frame.
    pub(crate) fn whole(opcode: Opcode, payload: impl Into<Vec<u8>>) -> Self {
        Self { opcode, last: true, payload: payload.into() }
    }

    /// A close frame with a code and a reason.
    pub(crate) fn close(code: u16, reason: &str) -> Self {
        Self::whole(Opcode::Close, [&code.to_be_bytes(), reason.as_bytes()].concat())
    }

    /// The code of a close frame.
    pub(crate) fn code(&self) -> Option<u16> {
        assert_eq!(self.opcode, Opcode::Close, "{self:?}");
        self.payload.first_chunk().map(|code| u16::from_be_bytes(*code))
    }
}

/// An open WebSocket, frame by frame; answers nothing by itself.
pub(crate) struct Frames {
    wire: Wire,
    /// Visitors mask what they send, origins don't (RFC 6455 section 5.1).
    masks: bool,
}

impl Frames {
    pub(crate) fn of_visitor(wire: Wire) -> Self {
        Self { wire, masks: true }
    }

    pub(crate) fn of_origin(wire: Wire) -> Self {
        Self { wire, masks: false }
    }

    pub(crate) async fn send(&mut self, frame: Frame) {
        let bytes = self.encode(&frame);
        self.wire.send(bytes).await;
    }

    /// Sends a message cut into frames at these lengths.
    pub(crate) async fn send_fragments(&mut self, opcode: Opcode, parts: &[&[u8]]) {
        for (at, part) in parts.iter().enumerate() {
            let opcode = if at == 0 { opcode } else { Opcode::Continuation };
            self.send(Frame { opcode, last: at + 1 == parts.len(), payload: part.to_vec() }).await;
        }
    }

    /// The next frame; fails if the connection ends first.
    #[track_caller]
    pub(crate) fn next(&mut self) -> impl Future<Output = Frame> {
        let next = within("a frame", self.read());
        async move { next.await.expect("a frame, not the end") }
    }

    /// The next message, put together from its frames; control frames count as messages.
    pub(crate) async fn message(&mut self) -> Frame {
        let mut message = self.next().await;
        while !message.last {
            let more = self.next().await;
            assert_eq!(more.opcode, Opcode::Continuation);
            message.payload.extend(more.payload);
            message.last = more.last;
        }
        message
    }

    /// Waits until the other side has closed the connection; fails if a frame comes before.
    pub(crate) async fn ended(&mut self) {
        let left = self.wire.closed().await;
        assert!(left.is_empty(), "more came: {left:?}");
    }

    /// The connection below.
    pub(crate) fn into_wire(self) -> Wire {
        self.wire
    }

    fn encode(&self, frame: &Frame) -> BytesMut {
        let mut bytes = BytesMut::new();
        bytes.put_u8(if frame.last { 0x80 } else { 0 } | frame.opcode as u8);
        let mask_bit = if self.masks { 0x80 } else { 0 };
        match frame.payload.len() {
            length @ 0..=125 => bytes.put_u8(mask_bit | u8::try_from(length).expect("at most 125")),
            length @ 126..=0xffff => {
                bytes.put_u8(mask_bit | 126);
                bytes.put_u16(u16::try_from(length).expect("at most 65535"));
            }
            length => {
                bytes.put_u8(mask_bit | 127);
                bytes.put_u64(length as u64);
            }
        }
        if self.masks {
            let mask = [0x37, 0xfa, 0x21, 0x3d];
            bytes.put_slice(&mask);
            bytes.extend(frame.payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        } else {
            bytes.put_slice(&frame.payload);
        }
        bytes
    }

    async fn read(&mut self) -> std::io::Result<Frame> {
        let first = self.exactly(2).await?;
        let opcode = match first[0] & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            other => panic!("no such opcode: {other}"),
        };
        assert_eq!(first[0] & 0x70, 0, "a reserved bit is set");
        // The other side masks exactly if we don't.
        assert_eq!(first[1] & 0x80 != 0, !self.masks, "the visitor's side masks, and only that");
        let length = match first[1] & 0x7f {
            126 => (&self.exactly(2).await?[..]).read_u16().await?.into(),
            127 => (&self.exactly(8).await?[..]).read_u64().await?,
            length => length.into(),
        };
        let mask = if self.masks { vec![0; 4] } else { self.exactly(4).await? };
        let mut payload = self.exactly(usize::try_from(length).expect("fits")).await?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        Ok(Frame { opcode, last: first[0] & 0x80 != 0, payload })
    }

    async fn exactly(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        let mut got = Vec::with_capacity(length);
        while got.len() < length {
            got.extend_from_slice(&self.wire.some(length - got.len()).await?);
        }
        Ok(got)
    }
}
