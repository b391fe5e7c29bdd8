//! CBOR items one at a time (RFC 8949), over `ciborium-ll`: a writer that fills a buffer and a reader that gives
//! byte strings as slices of the frame, without a copy.
//!
//! Only what the protocol uses is read: definite lengths, unsigned integers, text, bytes, booleans, arrays, maps.

use bytes::Bytes;
use ciborium_ll::{Decoder, Encoder, Header, simple};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    error::DecodeError,
    notes::{self, Notes},
    tls::{ClientCertificate, MAX_SUBJECT, Tls},
};

/// How deep an unknown value may nest; skipping it is a recursion, and the stack is not endless.
const MAX_DEPTH: u8 = 16;

/// Items of what is established of TLS: more than this version knows, so that later ones may add to it.
const MOST_OF_TLS: usize = 16;

/// Writes one message: a map with unsigned keys. Keys go in ascending order, as deterministic encoding wants
/// (RFC 8949 section 4.2.1).
pub(super) struct Writer {
    bytes: Vec<u8>,
    entries: u8,
}

impl Writer {
    /// Starts a map; `capacity` is a guess of its size in bytes.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity + 1);
        bytes.push(0);
        Self { bytes, entries: 0 }
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
    pub(super) fn finish(mut self) -> Bytes {
        assert!(self.entries < 24, "a map of more entries needs a longer header");
        self.bytes[0] = 0xa0 | self.entries;
        self.bytes.into()
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
        Encoder::from(&mut self.bytes).push(header).expect("a Vec takes every write");
    }
}

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
        match self.pull()? {
            Header::Map(Some(entries)) => Ok(entries),
            _ => Err(DecodeError::NotAMap),
        }
    }

    pub(super) fn number(&mut self) -> Result<u64, DecodeError> {
        let at = self.at;
        match self.pull()? {
            Header::Positive(value) => Ok(value),
            _ => Err(DecodeError::WrongType { at, wanted: "an unsigned integer" }),
        }
    }

    pub(super) fn flag(&mut self) -> Result<bool, DecodeError> {
        let at = self.at;
        match self.pull()? {
            Header::Simple(simple::TRUE) => Ok(true),
            Header::Simple(simple::FALSE) => Ok(false),
            _ => Err(DecodeError::WrongType { at, wanted: "a boolean" }),
        }
    }

    /// Text, as a slice of the frame that is valid UTF-8.
    pub(super) fn text(&mut self) -> Result<Bytes, DecodeError> {
        let at = self.at;
        let Header::Text(Some(length)) = self.pull()? else {
            return Err(DecodeError::WrongType { at, wanted: "text" });
        };
        let text = self.take(length)?;
        std::str::from_utf8(&text).map_err(|_| DecodeError::WrongType { at, wanted: "text in UTF-8" })?;
        Ok(text)
    }

    /// Text as an owned string of at most `most` bytes.
    pub(super) fn string(&mut self, most: usize) -> Result<String, DecodeError> {
        let at = self.at;
        let text = self.text()?;
        if text.len() > most {
            return Err(DecodeError::TooLong { at, most });
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let at = self.at;
        match self.pull()? {
            Header::Bytes(Some(length)) => self.take(length),
            _ => Err(DecodeError::WrongType { at, wanted: "bytes" }),
        }
    }

    /// A flat array of names and values, at most `most` pairs.
    pub(super) fn headers(&mut self, most: usize) -> Result<HeaderMap, DecodeError> {
        let at = self.at;
        let Header::Array(Some(items)) = self.pull()? else {
            return Err(DecodeError::WrongType { at, wanted: "an array of names and values" });
        };
        if items % 2 != 0 {
            return Err(DecodeError::WrongType { at, wanted: "an array of names and values" });
        }
        if items / 2 > most {
            return Err(DecodeError::TooManyHeaders { most });
        }
        let mut headers = HeaderMap::with_capacity(items / 2);
        for _ in 0..items / 2 {
            let at = self.at;
            let name = HeaderName::from_bytes(&self.text()?).map_err(|_| DecodeError::BadHeader { at })?;
            let value =
                HeaderValue::from_maybe_shared(self.bytes()?).map_err(|_| DecodeError::BadHeader { at })?;
            headers.append(name, value);
        }
        Ok(headers)
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

    fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.frame.len());
        let end = end.ok_or(DecodeError::Truncated)?;
        let taken = self.frame.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }
}
