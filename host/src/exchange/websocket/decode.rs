//! Bytes into events: the receiving half of RFC 6455's framing, with every rule that a receiver has to check.
//!
//! Pure: it is given a buffer and takes whole frames off its front. Knows no socket.

use std::io::Cursor;

use bytes::{Buf, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use super::{Close, Event, Role, mask::Mask};

/// Longest payload of a control frame (RFC 6455 section 5.5).
pub(super) const MAX_CONTROL: usize = 125;

/// The peer broke a rule; the connection fails with this close code (RFC 6455 section 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Violation {
    /// What the peer is told.
    pub code: u16,
    /// In words.
    pub reason: &'static str,
}

impl Violation {
    fn protocol(reason: &'static str) -> Self {
        Self { code: 1002, reason }
    }

    fn text(reason: &'static str) -> Self {
        Self { code: 1007, reason }
    }

    fn too_large() -> Self {
        Self { code: 1009, reason: "the message is larger than allowed" }
    }
}

/// What was read of the connection so far and isn't an event yet.
pub(super) struct Decoder {
    role: Role,
    max_message: usize,
    /// The frame whose payload is awaited.
    frame: Option<Frame>,
    /// The fragments of the message that is being put together.
    message: Option<(Data, BytesMut)>,
}

struct Frame {
    last: bool,
    code: OpCode,
    mask: Option<[u8; 4]>,
    length: usize,
}

impl Decoder {
    /// Decodes what the peer of `role` sends; `max_message` is in bytes.
    pub(super) fn new(role: Role, max_message: usize) -> Self {
        Self { role, max_message, frame: None, message: None }
    }

    /// Takes the next event off the front of `buffer`; `None` when more bytes are needed.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, Violation> {
        loop {
            let frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.header(buffer)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            if buffer.len() < frame.length {
                self.frame = Some(frame);
                return Ok(None);
            }
            let mut payload = buffer.split_to(frame.length);
            if let Some(key) = frame.mask {
                Mask::new(key).apply(&mut payload);
            }
            let event = match frame.code {
                OpCode::Control(code) => Some(control(code, payload)?),
                OpCode::Data(code) => self.data(code, frame.last, payload)?,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Bytes of the current frame that `buffer` still lacks, if that is known.
    pub(super) fn lacking(&self, buffer: &BytesMut) -> usize {
        self.frame.as_ref().map_or(0, |frame| frame.length.saturating_sub(buffer.len()))
    }

    /// Reads a header and refuses the frame before its payload is waited for.
    fn header(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Violation> {
        let mut cursor = Cursor::new(&buffer[..]);
        let (header, length) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok(None),
            Err(_) => return Err(Violation::protocol("the opcode is unknown")),
        };
        let size = cursor.position() as usize;
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::protocol("reserved bits are set"));
        }
        match (self.role, header.mask) {
            (Role::Server, None) => return Err(Violation::protocol("a client's frame is not masked")),
            (Role::Client, Some(_)) => return Err(Violation::protocol("a server's frame is masked")),
            _ => {}
        }
        // Section 5.2: the length takes as few bytes as it can.
        if header.len(length) != size {
            return Err(Violation::protocol("the length is not in its shortest form"));
        }
        let length = usize::try_from(length).map_err(|_| Violation::too_large())?;
        self.admit(&header, length)?;
        buffer.advance(size);
        Ok(Some(Frame { last: header.is_final, code: header.opcode, mask: header.mask, length }))
    }

    fn admit(&self, header: &FrameHeader, length: usize) -> Result<(), Violation> {
        match (header.opcode, &self.message) {
            (OpCode::Control(_), _) if !header.is_final => {
                return Err(Violation::protocol("a control frame is fragmented"));
            }
            (OpCode::Control(_), _) if length > MAX_CONTROL => {
                return Err(Violation::protocol("a control frame is longer than 125 bytes"));
            }
            (OpCode::Control(_), _) => return Ok(()),
            (OpCode::Data(Data::Continue), None) => {
                return Err(Violation::protocol("a continuation follows no fragment"));
            }
            (OpCode::Data(Data::Text | Data::Binary), Some(_)) => {
                return Err(Violation::protocol("a message begins inside another"));
            }
            _ => {}
        }
        let before = self.message.as_ref().map_or(0, |(_, bytes)| bytes.len());
        if length > self.max_message.saturating_sub(before) {
            return Err(Violation::too_large());
        }
        Ok(())
    }

    fn data(&mut self, code: Data, last: bool, payload: BytesMut) -> Result<Option<Event>, Violation> {
        let (kind, bytes) = match self.message.take() {
            Some((kind, mut bytes)) => {
                bytes.extend_from_slice(&payload);
                (kind, bytes)
            }
            None => (code, payload),
        };
        if !last {
            self.message = Some((kind, bytes));
            return Ok(None);
        }
        let bytes = bytes.freeze();
        if kind == Data::Binary {
            return Ok(Some(Event::Binary(bytes)));
        }
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(Some(Event::Text(bytes))),
            Err(_) => Err(Violation::text("a text message is not UTF-8")),
        }
    }
}

fn control(code: Control, payload: BytesMut) -> Result<Event, Violation> {
    match code {
        Control::Ping => Ok(Event::Ping(payload.freeze())),
        Control::Pong => Ok(Event::Pong(payload.freeze())),
        Control::Close => close(payload.freeze()).map(Event::Close),
        Control::Reserved(_) => Err(Violation::protocol("the opcode is unknown")),
    }
}

/// Reads the body of a close frame (RFC 6455 section 5.5.1).
fn close(mut payload: Bytes) -> Result<Close, Violation> {
    if payload.is_empty() {
        return Ok(Close::new(Close::NONE, ""));
    }
    let code = payload.try_get_u16().map_err(|_| Violation::protocol("a close code has two bytes"))?;
    if !may_be_sent(code) {
        return Err(Violation::protocol("the close code is not valid"));
    }
    match std::str::from_utf8(&payload) {
        Ok(reason) => Ok(Close::new(code, reason)),
        Err(_) => Err(Violation::text("the reason of a close is not UTF-8")),
    }
}

/// Whether a close frame may carry this code: section 7.4 and the registry that it set up; 1004 to 1006 and 1015
/// are never sent.
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes all of `bytes`, handed over in pieces of `step` bytes.
    fn decode(role: Role, max: usize, bytes: &[u8], step: usize) -> Result<Vec<Event>, Violation> {
        let mut decoder = Decoder::new(role, max);
        let mut buffer = BytesMut::new();
        let mut events = Vec::new();
        for piece in bytes.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(event) = decoder.next(&mut buffer)? {
                events.push(event);
            }
        }
        Ok(events)
    }

    fn refused(bytes: &[u8]) -> u16 {
        decode(Role::Client, 1000, bytes, 1).expect_err("a violation").code
    }

    #[test]
    fn fragments_with_a_ping_between_them_at_every_split() {
        let bytes = b"\x01\x03Hel\x89\x02hi\x00\x00\x80\x02lo\x82\x01\xff";
        for step in 1..=bytes.len() {
            let events = decode(Role::Client, 5, bytes, step);
            let expected = [
                Event::Ping(Bytes::from_static(b"hi")),
                Event::Text(Bytes::from_static(b"Hello")),
                Event::Binary(Bytes::from_static(b"\xff")),
            ];
            assert_eq!(events.as_deref(), Ok(&expected[..]), "pieces of {step}");
        }
    }

    #[test]
    fn a_masked_message_is_unmasked() {
        // Section 5.7.
        let bytes = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        let events = decode(Role::Server, 5, bytes, 3);
        assert_eq!(events, Ok(vec![Event::Text(Bytes::from_static(b"Hello"))]));
    }

    #[test]
    fn each_violation_has_its_code() {
        for (bytes, code, what) in [
            (&b"\xc1\x00"[..], 1002, "first reserved bit"),
            (b"\xa1\x00", 1002, "second reserved bit"),
            (b"\x91\x00", 1002, "third reserved bit"),
            (b"\x83\x00", 1002, "reserved data opcode"),
            (b"\x8b\x00", 1002, "reserved control opcode"),
            (b"\x09\x00", 1002, "fragmented ping"),
            (b"\x89\x7e\x00\x7e", 1002, "ping of 126 bytes"),
            (b"\x81\x80\x00\x00\x00\x00", 1002, "masked by a server"),
            (b"\x82\x7e\x00\x05", 1002, "length of 5 in two bytes"),
            (b"\x80\x00", 1002, "continuation of nothing"),
            (b"\x01\x00\x81\x00", 1002, "message inside a message"),
            (b"\x88\x01\x03", 1002, "close with one byte"),
            (b"\x88\x02\x03\xed", 1002, "close with 1005"),
            (b"\x88\x02\x03\xe7", 1002, "close with 999"),
            (b"\x88\x02\x13\x88", 1002, "close with 5000"),
            (b"\x88\x03\x03\xe8\xff", 1007, "reason not UTF-8"),
            (b"\x81\x01\xff", 1007, "text not UTF-8"),
            (b"\x01\x01\xc3\x80\x01\x28", 1007, "text not UTF-8 over two fragments"),
            (b"\x82\x7e\x03\xe9", 1009, "1001 bytes"),
            (b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", 1009, "2^64 - 1 bytes"),
        ] {
            assert_eq!(refused(bytes), code, "{what}");
        }
        let unmasked = decode(Role::Server, 1000, b"\x81\x00", 1).expect_err("a violation");
        assert_eq!(unmasked.code, 1002, "not masked by a client");
    }

    #[test]
    fn fragments_together_are_held_to_the_limit() {
        let within = b"\x02\x03abc\x80\x02de";
        let events = decode(Role::Client, 5, within, 2);
        assert_eq!(events, Ok(vec![Event::Binary(Bytes::from_static(b"abcde"))]));
        let over = b"\x02\x03abc\x80\x03def";
        assert_eq!(decode(Role::Client, 5, over, 2), Err(Violation::too_large()));
    }

    #[test]
    fn text_split_inside_a_character_is_whole_again() {
        let events = decode(Role::Client, 5, b"\x01\x01\xc3\x80\x01\xa9", 1);
        assert_eq!(events, Ok(vec![Event::Text(Bytes::from_static("é".as_bytes()))]));
    }

    #[test]
    fn close_codes_and_reasons() {
        let events = decode(Role::Client, 5, b"\x88\x05\x0f\xa0bye", 1);
        assert_eq!(events, Ok(vec![Event::Close(Close::new(4000, "bye"))]));
        let events = decode(Role::Client, 5, b"\x88\x00", 1);
        assert_eq!(events, Ok(vec![Event::Close(Close::new(1005, ""))]));
    }
}
