//! Where frames begin (RFC 9113 section 4.1), found in bytes that pass by. Pure; looks at heads alone.

/// The first bytes of every connection of a client (RFC 9113 section 3.4).
pub(in super::super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEAD: usize = 9;

/// Finds frames in one direction of a connection.
pub(super) struct Frames {
    /// Bytes of the preface, or of a payload, that are still to pass.
    left: usize,
    head: [u8; HEAD],
    have: usize,
}

/// What the head of a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) ends_stream: bool,
    /// Bytes of its payload.
    pub(super) length: usize,
    pub(super) stream: u32,
}

/// The types of frames that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Reset,
    /// All that say something of the connection, and nothing of a message.
    Other,
}

impl Frames {
    /// Of a visitor, whose preface comes first.
    pub(super) fn of_visitor() -> Self {
        Self { left: PREFACE.len(), ..Self::of_proxy() }
    }

    /// Of ours.
    pub(super) fn of_proxy() -> Self {
        Self { left: 0, head: [0; HEAD], have: 0 }
    }

    /// Whether the next byte begins a frame.
    pub(super) fn is_between(&self) -> bool {
        self.left == 0 && self.have == 0
    }

    /// Takes the next bytes, and tells of each frame whose head ends among them.
    pub(super) fn pass(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD {
                let frame = Frame::of(self.head);
                self.have = 0;
                self.left = frame.length;
                found(frame);
            }
        }
    }
}

impl Frame {
    fn of(head: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = head;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Headers,
            3 => Kind::Reset,
            _ => Kind::Other,
        };
        Self {
            kind,
            ends_stream: matches!(kind, Kind::Data | Kind::Headers) && flags & 1 == 1,
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn tells_each_frame_by_its_head() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(encode(4, 0, 0, &[0; 12]));
        bytes.extend(encode(1, 5, 1, b"head"));
        bytes.extend(encode(0, 1, 1 | 1 << 31, b""));
        bytes.extend(encode(3, 1, 3, &[0; 4]));
        let mut seen = Vec::new();
        let mut frames = Frames::of_visitor();
        frames.pass(&bytes, |frame| seen.push((frame.kind, frame.ends_stream, frame.length, frame.stream)));
        let expected = [
            (Kind::Other, false, 12, 0),
            (Kind::Headers, true, 4, 1),
            (Kind::Data, true, 0, 1),
            (Kind::Reset, false, 4, 3),
        ];
        assert_eq!(seen, expected);
        assert!(frames.is_between());
    }

    proptest! {
        #[test]
        fn where_reads_end_does_not_matter(
            sent in prop::collection::vec((any::<u8>(), any::<u8>(), 0..1_u32 << 31, 0..300_usize), 0..20),
            cuts in prop::collection::vec(1..40_usize, 1..20),
        ) {
            let bytes: Vec<u8> = sent.iter()
                .flat_map(|&(kind, flags, stream, length)| encode(kind, flags, stream, &vec![7; length]))
                .collect();
            let mut frames = Frames::of_proxy();
            let (mut seen, mut rest, mut cuts) = (Vec::new(), &bytes[..], cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (piece, next) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                frames.pass(piece, |frame| seen.push((frame.length, frame.stream)));
                rest = next;
            }
            let expected: Vec<_> = sent.iter().map(|&(.., stream, length)| (length, stream)).collect();
            prop_assert_eq!(seen, expected);
            prop_assert!(frames.is_between());
        }
    }
}
