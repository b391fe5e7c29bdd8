//! CBOR items one at a time (RFC 8949), over `ciborium-ll`: a writer that fills a buffer and a reader that gives
//! byte strings as slices of the frame, without a copy.
//!
//! Only what the protocol uses is read: definite lengths, unsigned integers, text, bytes, booleans, arrays, maps.

use std::{cell::RefCell, ops::Range};

use bytes::{BufMut, Bytes, BytesMut};
use ciborium_ll::{Decoder, Encoder, Header, simple};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    encode::Encoded,
    error::DecodeError,
    notes::{self, Notes},
    tls::{ClientCertificate, MAX_SUBJECT, Tls},
};

/// How deep an unknown value may nest; skipping it is a recursion, and the stack is not endless.
const MAX_DEPTH: u8 = 16;

/// Items of what is established of TLS: more than this version knows, so that later ones may add to it.
const MOST_OF_TLS: usize = 16;

/// Bytes of a page on which messages are written.
const PAGE_SIZE: usize = 4096;

/// Data up to this many bytes is copied into its message, so that it leaves in the same write; more costs more to copy than to
/// pass on by itself.
pub(super) const LONGEST_COPIED: usize = 4096;

thread_local! {
    /// Where messages are written: one after the other, each over the last one as soon as that is sent.
    static PAGE: RefCell<BytesMut> = RefCell::default();
}

/// Writes one message: a map with unsigned keys. Keys go in ascending order, as deterministic encoding wants
/// (RFC 8949 section 4.2.1).
pub(super) struct Writer {
    bytes: BytesMut,
    entries: u8,
    /// Data that was left out, and where it belongs.
    apart: Option<(usize, Bytes)>,
}

impl Writer {
    /// Starts a map; `capacity` is a guess of its size in bytes.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let mut bytes = PAGE.take();
        if bytes.capacity() <= capacity {
            bytes.reserve((capacity + 1).max(PAGE_SIZE));
        }
        bytes.put_u8(0);
        Self { bytes, entries: 0, apart: None }
    }

    pub(super) fn number(&mut self, key: u64, value: u64) {
        self.key(key);
        self.push(Header::Positive(value));
    }

    /// Writes `true`; `false` is the absence of the key.
    pub(super) fn flag(&mut self, key: u64, value: bool) {
        if value {
            self.key(key);
            self.push(Header::Simple(simple::TRUE));
        }
    }

    pub(super) fn text(&mut self, key: u64, value: &str) {
        self.key(key);
        self.push_text(value.as_bytes());
    }

    pub(super) fn bytes(&mut self, key: u64, value: &[u8]) {
        self.key(key);
        self.push_bytes(value);
    }

    /// Writes bytes, of which many are kept apart; one entry of a message at most.
    pub(super) fn data(&mut self, key: u64, data: &Bytes) {
        if data.len() <= LONGEST_COPIED {
            return self.bytes(key, data);
        }
        self.key(key);
        self.push(Header::Bytes(Some(data.len())));
        self.apart = Some((self.bytes.len(), data.clone()));
    }

    /// Writes a flat array: name, value, name, value.
    pub(super) fn headers(&mut self, key: u64, headers: &HeaderMap) {
        self.key(key);
        self.push(Header::Array(Some(headers.len() * 2)));
        for (name, value) in headers {
            self.push_text(name.as_str().as_bytes());
            self.push_bytes(value.as_bytes());
        }
    }

    /// Notes, as a flat array of names and values.
    pub(super) fn notes(&mut self, key: u64, notes: &Notes) {
        self.key(key);
        self.push(Header::Array(Some(notes.len() * 2)));
        for (name, value) in notes.iter() {
            self.push_text(name.as_bytes());
            self.push_text(value.as_bytes());
        }
    }

    /// What is established of a visitor's TLS: four texts, of which the last two are empty if there is nothing, and of a visitor with a
    /// certificate its subject and its digest.
    pub(super) fn tls(&mut self, key: u64, tls: &Tls) {
        self.key(key);
        self.push(Header::Array(Some(if tls.client.is_some() { 6 } else { 4 })));
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        for text in [&tls.version, &tls.cipher, &text(&tls.server_name), &text(&tls.alpn)] {
            self.push_text(text.as_bytes());
        }
        if let Some(client) = &tls.client {
            self.push_text(client.subject.as_bytes());
            self.push_bytes(&client.sha256);
        }
    }

    /// The finished map.
    pub(super) fn finish(mut self) -> Encoded {
        assert!(self.entries < 24, "a map of more entries needs a longer header");
        self.bytes[0] = 0xa0 | self.entries;
        let mut before = self.bytes.split().freeze();
        PAGE.set(self.bytes);
        match self.apart {
            None => Encoded { before, data: Bytes::new(), after: Bytes::new() },
            Some((at, data)) => {
                let after = before.split_off(at);
                Encoded { before, data, after }
            }
        }
    }

    fn key(&mut self, key: u64) {
        self.entries += 1;
        self.push(Header::Positive(key));
    }

    fn push_text(&mut self, text: &[u8]) {
        self.push(Header::Text(Some(text.len())));
        self.bytes.extend_from_slice(text);
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        self.push(Header::Bytes(Some(bytes.len())));
        self.bytes.extend_from_slice(bytes);
    }

    fn push(&mut self, header: Header) {
        let (kind, argument) = match header {
            Header::Positive(number) => (0, number),
            Header::Bytes(Some(length)) => (0x40, length as u64),
            Header::Text(Some(length)) => (0x60, length as u64),
            // See `short`.
            _ => (0, u64::MAX),
        };
        match argument {
            small @ ..24 => return self.bytes.put_u8(kind | small as u8),
            byte @ ..0x100 => return self.bytes.extend_from_slice(&[kind | 24, byte as u8]),
            _ => {}
        }
        Encoder::from((&mut self.bytes).writer()).push(header).expect("a buffer takes every write");
    }
}

/// Major types (RFC 8949 section 3.1).
const POSITIVE: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// Heads of truths.
const FALSE: u8 = 7 << 5 | simple::FALSE;
const TRUE: u8 = 7 << 5 | simple::TRUE;

/// Reads items from one frame.
pub(super) struct Reader {
    frame: Bytes,
    at: usize,
}

impl Reader {
    pub(super) fn new(frame: Bytes) -> Self {
        Self { frame, at: 0 }
    }

    /// The header of a map: how many entries follow.
    pub(super) fn map(&mut self) -> Result<usize, DecodeError> {
        self.argument(MAP, DecodeError::NotAMap)
    }

    pub(super) fn number(&mut self) -> Result<u64, DecodeError> {
        let at = self.at;
        if let Some(value) = self.short(POSITIVE) {
            return Ok(value.into());
        }
        match self.pull()? {
            Header::Positive(value) => Ok(value),
            _ => Err(DecodeError::WrongType { at, wanted: "an unsigned integer" }),
        }
    }

    pub(super) fn flag(&mut self) -> Result<bool, DecodeError> {
        let at = self.at;
        // As nearly all are written, see `short`.
        if let Some(&head @ (TRUE | FALSE)) = self.frame.get(at) {
            self.at += 1;
            return Ok(head == TRUE);
        }
        match self.pull()? {
            Header::Simple(simple::TRUE) => Ok(true),
            Header::Simple(simple::FALSE) => Ok(false),
            _ => Err(DecodeError::WrongType { at, wanted: "a boolean" }),
        }
    }

    /// Text, as a slice of the frame that is valid UTF-8.
    pub(super) fn text(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.str()?.len();
        Ok(self.frame.slice(self.at - length..self.at))
    }

    /// Text as an owned string of at most `most` bytes.
    pub(super) fn string(&mut self, most: usize) -> Result<String, DecodeError> {
        let at = self.at;
        let text = self.str()?;
        if text.len() > most { Err(DecodeError::TooLong { at, most }) } else { Ok(text.to_owned()) }
    }

    /// Text, where it stands.
    pub(super) fn str(&mut self) -> Result<&str, DecodeError> {
        let at = self.at;
        let text = self.unchecked_text()?;
        std::str::from_utf8(text).map_err(|_| DecodeError::WrongType { at, wanted: "text in UTF-8" })
    }

    /// The bytes of a text, which may be no UTF-8.
    fn unchecked_text(&mut self) -> Result<&[u8], DecodeError> {
        let length = self.argument(TEXT, DecodeError::WrongType { at: self.at, wanted: "text" })?;
        let range = self.take(length)?;
        Ok(&self.frame[range])
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.argument(BYTES, DecodeError::WrongType { at: self.at, wanted: "bytes" })?;
        let range = self.take(length)?;
        Ok(self.frame.slice(range))
    }

    /// A flat array of names and values, at most `most` pairs.
    pub(super) fn headers(&mut self, most: usize) -> Result<HeaderMap, DecodeError> {
        let wrong = DecodeError::WrongType { at: self.at, wanted: "an array of names and values" };
        let items = self.argument(ARRAY, wrong.clone())?;
        if items % 2 != 0 {
            return Err(wrong);
        }
        if items / 2 > most {
            return Err(DecodeError::TooManyHeaders { most });
        }
        let mut headers = HeaderMap::with_capacity(items / 2);
        for _ in 0..items / 2 {
            let at = self.at;
            let name = self.name()?;
            let value =
                HeaderValue::from_maybe_shared(self.bytes()?).map_err(|_| DecodeError::BadHeader { at })?;
            headers.append(name, value);
        }
        Ok(headers)
    }

    /// The name of a header.
    fn name(&mut self) -> Result<HeaderName, DecodeError> {
        let at = self.at;
        let name = self.unchecked_text()?;
        match frequent(name) {
            Some(frequent) => Ok(frequent),
            None => HeaderName::from_bytes(name).map_err(|_| DecodeError::BadHeader { at }),
        }
    }

    /// A flat array of names and values of notes, within their bounds.
    pub(super) fn notes(&mut self) -> Result<Notes, DecodeError> {
        let at = self.at;
        let wrong = DecodeError::WrongType { at, wanted: "an array of names and values of notes" };
        let items = match self.pull()? {
            Header::Array(Some(items)) if items % 2 == 0 && items / 2 <= notes::MAX_NOTES => items,
            _ => return Err(wrong),
        };
        let mut read = Notes::default();
        for _ in 0..items / 2 {
            let name = self.string(notes::MAX_NAME)?;
            let value = self.string(notes::MAX_VALUE)?;
            read.set(name, value).map_err(|_| wrong.clone())?;
        }
        Ok(read)
    }

    /// What is established of a visitor's TLS, as it was written. More than is known here may follow.
    pub(super) fn tls(&mut self) -> Result<Tls, DecodeError> {
        let at = self.at;
        let wrong = DecodeError::WrongType { at, wanted: "four texts, or six items with a certificate's" };
        let items = match self.pull()? {
            Header::Array(Some(items @ (4 | 6..=MOST_OF_TLS))) => items,
            _ => return Err(wrong),
        };
        let mut text = || self.string(MAX_SUBJECT);
        let (version, cipher, server_name, alpn) = (text()?, text()?, text()?, text()?);
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let mut tls = Tls { version, cipher, server_name: some(server_name), alpn: some(alpn), client: None };
        if items >= 6 {
            let subject = self.string(MAX_SUBJECT)?;
            let sha256 = self.bytes()?[..].try_into().map_err(|_| wrong)?;
            tls.client = Some(ClientCertificate { subject, sha256 });
        }
        (6..items).try_for_each(|_| self.skip())?;
        Ok(tls)
    }

    /// Passes over one item of any kind.
    pub(super) fn skip(&mut self) -> Result<(), DecodeError> {
        self.skip_nested(MAX_DEPTH)
    }

    /// Where the next item starts.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Nothing may follow the message.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.at == self.frame.len() { Ok(()) } else { Err(DecodeError::Malformed { at: self.at }) }
    }

    fn skip_nested(&mut self, depth: u8) -> Result<(), DecodeError> {
        let at = self.at;
        let depth = depth.checked_sub(1).ok_or(DecodeError::Malformed { at })?;
        match self.pull()? {
            Header::Positive(_) | Header::Negative(_) | Header::Float(_) | Header::Simple(_) => Ok(()),
            Header::Bytes(Some(length)) | Header::Text(Some(length)) => self.take(length).map(|_| ()),
            Header::Tag(_) => self.skip_nested(depth),
            // Each item takes a byte at least, so that a huge count ends with the frame.
            Header::Array(Some(items)) => (0..items).try_for_each(|_| self.skip_nested(depth)),
            Header::Map(Some(entries)) => (0..entries).try_for_each(|_| {
                self.skip_nested(depth)?;
                self.skip_nested(depth)
            }),
            Header::Break
            | Header::Bytes(None)
            | Header::Text(None)
            | Header::Array(None)
            | Header::Map(None) => Err(DecodeError::Malformed { at }),
        }
    }

    /// The length or count that the next head of this major type has; `wrong` if it is of another one, or of none.
    #[inline]
    fn argument(&mut self, major: u8, wrong: DecodeError) -> Result<usize, DecodeError> {
        match self.short(major) {
            Some(argument) => Ok(usize::from(argument)),
            None => match (major, self.pull()?) {
                (BYTES, Header::Bytes(Some(length))) | (TEXT, Header::Text(Some(length))) => Ok(length),
                (ARRAY, Header::Array(Some(count))) | (MAP, Header::Map(Some(count))) => Ok(count),
                _ => Err(wrong),
            },
        }
    }

    /// The argument of the next head, if it is of this major type and has the form of nearly all: within three bytes (RFC 8949
    /// section 3). The library reads all others, and would read these just so, but takes them apart in more steps than the
    /// rest of a message costs.
    #[inline]
    fn short(&mut self, major: u8) -> Option<u16> {
        let (argument, length) = match self.frame[self.at..] {
            [first, ..] if first ^ (major << 5) < 24 => (u16::from(first ^ (major << 5)), 1),
            [first, byte, ..] if first == major << 5 | 24 => (u16::from(byte), 2),
            [first, high, low, ..] if first == major << 5 | 25 => (u16::from_be_bytes([high, low]), 3),
            _ => return None,
        };
        self.at += length;
        Some(argument)
    }

    fn pull(&mut self) -> Result<Header, DecodeError> {
        let at = self.at;
        let mut decoder = Decoder::from(&self.frame[at..]);
        let header = decoder.pull().map_err(|error| match error {
            ciborium_ll::Error::Io(_) => DecodeError::Truncated,
            ciborium_ll::Error::Syntax(offset) => DecodeError::Malformed { at: at + offset },
        })?;
        self.at += decoder.offset();
        Ok(header)
    }

    /// Where the next so many bytes stand, which it passes over.
    fn take(&mut self, length: usize) -> Result<Range<usize>, DecodeError> {
        let start = self.at;
        let end = start.checked_add(length).filter(|end| *end <= self.frame.len());
        self.at = end.ok_or(DecodeError::Truncated)?;
        Ok(start..self.at)
    }
}

/// Names that many heads have, found by comparing them. The library looks for each that it knows in a table of all, and copies each
/// that it doesn't know, such as what browsers tell of themselves.
fn frequent(name: &[u8]) -> Option<HeaderName> {
    macro_rules! among {
        ($($frequent:literal)*) => {
            match name {
                $(_ if name == $frequent.as_bytes() => Some(const { HeaderName::from_static($frequent) }),)*
                _ => None,
            }
        };
    }
    among!(
        "accept" "accept-encoding" "accept-language" "cache-control" "content-length" "content-type" "cookie" "date"
        "etag" "forwarded" "last-modified" "priority" "referer" "sec-ch-ua" "sec-ch-ua-mobile" "sec-ch-ua-platform"
        "sec-fetch-dest" "sec-fetch-mode" "sec-fetch-site" "server" "user-agent" "vary" "x-forwarded-for"
        "x-forwarded-host" "x-forwarded-proto"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the short way reads or writes, the library reads and writes just so.
    #[test]
    fn short_heads_are_the_librarys() {
        type Head = fn(usize) -> Header;
        let heads: [(u8, Head); 5] = [
            (POSITIVE, |number| Header::Positive(number as u64)),
            (BYTES, |length| Header::Bytes(Some(length))),
            (TEXT, |length| Header::Text(Some(length))),
            (ARRAY, |count| Header::Array(Some(count))),
            (MAP, |count| Header::Map(Some(count))),
        ];
        let rests = [[0, 0, 0], [1, 2, 3], [23, 24, 0], [24, 255, 7], [255, 255, 255]];
        for (first, rest) in (0..=u8::MAX).flat_map(|first| rests.map(|rest| (first, rest))) {
            let bytes = [&[first][..], &rest].concat();
            for (end, (major, head)) in (0..=bytes.len()).flat_map(|end| heads.map(|head| (end, head))) {
                let mut reader = Reader::new(Bytes::copy_from_slice(&bytes[..end]));
                let Some(argument) = reader.short(major) else { continue };
                let mut decoder = Decoder::from(&bytes[..end]);
                let header = (decoder.pull().unwrap(), decoder.offset());
                assert_eq!(header, (head(argument.into()), reader.at), "{bytes:?}");
            }
        }
        for (byte, flag) in [(TRUE, true), (FALSE, false)] {
            assert_eq!(Reader::new(Bytes::from(vec![byte])).flag(), Ok(flag));
            let header = Header::Simple(if flag { simple::TRUE } else { simple::FALSE });
            assert_eq!(Decoder::from(&[byte][..]).pull().unwrap(), header);
        }
        for number in (0..70_000).chain([u64::from(u32::MAX), u64::MAX - 1, u64::MAX]) {
            let length = usize::try_from(number).unwrap();
            for header in [Header::Positive(number), Header::Bytes(Some(length)), Header::Text(Some(length))]
            {
                let mut writer = Writer { bytes: BytesMut::new(), entries: 0, apart: None };
                writer.push(header);
                let mut bytes = Vec::new();
                Encoder::from(&mut bytes).push(header).unwrap();
                assert_eq!(writer.bytes, bytes);
            }
        }
    }
}
