//! Events into bytes: the sending half of RFC 6455's framing, and the bytes that wait for the socket.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;
pub use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data},
};

use super::{Close, decode::may_be_sent, mask::Mask};

/// Payloads up to this size are copied behind their header, so that many small frames leave in one write; larger
/// ones are cheaper to pass on as they are.
const COPIED: usize = 4 * 1024;

/// Memory that is kept for the next frames in any case.
const KEPT: usize = 4 * 1024;

/// Pieces given to one vectored write.
const PIECES: usize = 16;

/// The text that a close frame has room for: 125 bytes less the code (RFC 6455 section 5.5).
const MAX_REASON: usize = 123;

/// Frames on their way into the socket.
#[derive(Default)]
pub(super) struct Outbox {
    /// Ready pieces, in order.
    queue: VecDeque<Bytes>,
    /// The last piece, still growing.
    tail: BytesMut,
    /// Bytes in `queue` and `tail`.
    waiting: usize,
    /// Bytes that went through `tail` since nothing waited, and the most that ever did in its memory.
    copied: usize,
    most_copied: usize,
}

impl Outbox {
    /// Bytes that the socket hasn't taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Adds one unfragmented frame, masked if a key is given.
    pub(super) fn push<const N: usize>(&mut self, code: OpCode, payload: [Bytes; N], key: Option<[u8; 4]>) {
        let header = FrameHeader { opcode: code, mask: key, ..FrameHeader::default() };
        let length: usize = payload.iter().map(Bytes::len).sum();
        let before = self.tail.len();
        header.format(length as u64, &mut (&mut self.tail).writer()).expect("memory takes every write");
        self.waiting += self.tail.len() - before + length;
        let mut mask = key.map(Mask::new);
        for piece in payload {
            if piece.len() > COPIED {
                self.push_long(piece, mask.as_mut());
                continue;
            }
            self.copied += piece.len();
            match &mut mask {
                Some(mask) => mask.copy(&piece, &mut self.tail),
                None => self.tail.extend_from_slice(&piece),
            }
        }
    }

    fn push_long(&mut self, piece: Bytes, mask: Option<&mut Mask>) {
        self.end_piece();
        self.queue.push_back(match mask {
            None => piece,
            // What nobody else holds is masked where it lies.
            Some(mask) => match piece.try_into_mut() {
                Ok(mut own) => {
                    mask.apply(&mut own);
                    own.freeze()
                }
                Err(shared) => {
                    let mut copy = BytesMut::with_capacity(shared.len());
                    mask.copy(&shared, &mut copy);
                    copy.freeze()
                }
            },
        });
    }

    fn end_piece(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
    }

    /// Writes until nothing waits.
    pub(super) fn poll_write<I: AsyncWrite + Unpin>(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.waiting > 0 {
            self.end_piece();
            let mut slices = [IoSlice::new(&[]); PIECES];
            let mut used = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(piece);
                used += 1;
            }
            let written = ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices[..used]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written(written);
        }
        self.give_back();
        Poll::Ready(Ok(()))
    }

    /// Gives back the memory that a burst took, as soon as little follows it.
    fn give_back(&mut self) {
        let copied = std::mem::take(&mut self.copied);
        if copied < self.most_copied / 4 && self.most_copied > KEPT {
            self.tail = BytesMut::new();
            self.most_copied = 0;
        }
        self.most_copied = self.most_copied.max(copied);
    }

    fn written(&mut self, mut bytes: usize) {
        self.waiting -= bytes;
        while let Some(front) = self.queue.front_mut() {
            if bytes < front.len() {
                front.advance(bytes);
                return;
            }
            bytes -= front.len();
            self.queue.pop_front();
        }
    }
}

/// A text message.
pub const TEXT: OpCode = OpCode::Data(Data::Text);
/// A binary message.
pub const BINARY: OpCode = OpCode::Data(Data::Binary);
/// A ping.
pub const PING: OpCode = OpCode::Control(Control::Ping);
/// A pong.
pub const PONG: OpCode = OpCode::Control(Control::Pong);
pub(super) const CLOSE: OpCode = OpCode::Control(Control::Close);

/// The payload of a close frame; `None` when the connection is to end without one.
///
/// A code that no frame may carry comes from a stage that made it up: the peer gets 1011, "internal error". A reason
/// too long is cut.
pub(super) fn close_payload(close: &Close) -> Option<Bytes> {
    let code = match close.code {
        Close::NONE => return Some(Bytes::new()),
        Close::ABNORMAL => return None,
        code if may_be_sent(code) => code,
        _ => 1011,
    };
    let reason = &close.reason[..close.reason.floor_char_boundary(MAX_REASON)];
    let mut payload = BytesMut::with_capacity(2 + reason.len());
    payload.put_u16(code);
    payload.put_slice(reason.as_bytes());
    Some(payload.freeze())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{Event, Role, decode::Decoder},
        *,
    };

    /// All bytes of the outbox, as they would be written.
    fn drain(outbox: &mut Outbox) -> BytesMut {
        let mut bytes = BytesMut::new();
        for piece in &outbox.queue {
            bytes.extend_from_slice(piece);
        }
        bytes.extend_from_slice(&outbox.tail);
        assert_eq!(bytes.len(), outbox.waiting());
        bytes
    }

    #[test]
    fn frames_as_in_the_examples_of_rfc_6455() {
        let mut outbox = Outbox::default();
        outbox.push(TEXT, [Bytes::from_static(b"Hello")], None);
        outbox.push(TEXT, [Bytes::from_static(b"Hello")], Some([0x37, 0xfa, 0x21, 0x3d]));
        outbox.push(PING, [Bytes::from_static(b"Hello")], None);
        let bytes = drain(&mut outbox);
        let expected = b"\x81\x05Hello\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x89\x05Hello";
        assert_eq!(&bytes[..], expected);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let payload = close_payload(&Close::new(1000, "é".repeat(100))).expect("a frame");
        assert_eq!(payload.len(), 2 + 122);
        assert!(std::str::from_utf8(&payload[2..]).is_ok());
    }

    #[test]
    fn codes_that_no_frame_may_carry() {
        assert_eq!(close_payload(&Close::new(Close::NONE, "")).as_deref(), Some(&b""[..]));
        assert_eq!(close_payload(&Close::abnormal()), None);
        let made_up = close_payload(&Close::new(1015, ""));
        assert_eq!(made_up.as_deref(), Some(&1011_u16.to_be_bytes()[..]));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9000), any::<bool>()), 0..8),
            key in any::<Option<[u8; 4]>>(),
        ) {
            let mut outbox = Outbox::default();
            for (payload, ping) in &messages {
                match ping {
                    true => outbox.push(PING, [payload.iter().copied().take(125).collect()], key),
                    false => outbox.push(BINARY, [Bytes::copy_from_slice(payload)], key),
                }
            }
            let mut bytes = drain(&mut outbox);
            let role = if key.is_some() { Role::Server } else { Role::Client };
            let mut decoder = Decoder::new(role, 9000);
            for (payload, ping) in messages {
                let expected = match ping {
                    true => Event::Ping(payload.into_iter().take(125).collect()),
                    false => Event::Binary(payload.into()),
                };
                prop_assert_eq!(decoder.next(&mut bytes), Ok(Some(expected)));
            }
            prop_assert!(bytes.is_empty());
        }
    }
}
