//! HTTP messages as they came: heads, fields, bodies. Values only; the connection is in `http1`.

use std::io;

/// Names and values of one header section, in the order they came.
pub(crate) type Fields = Vec<(String, Vec<u8>)>;

/// The head of a request or of a response.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// The bytes as they came, to the blank line.
    pub(crate) raw: Vec<u8>,
    /// The first line.
    pub(crate) start: String,
    /// The header fields.
    pub(crate) fields: Fields,
}

impl Head {
    pub(super) fn parse(raw: Vec<u8>) -> io::Result<Self> {
        let end = raw.windows(2).position(|pair| pair == b"\r\n").ok_or_else(|| broken("no first line"))?;
        let start = String::from_utf8_lossy(&raw[..end]).into_owned();
        let fields = parse_fields(&raw[end + 2..])?;
        Ok(Self { raw, start, fields })
    }

    /// A response's status.
    pub(crate) fn status(&self) -> u16 {
        let code = self.start.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("not a status line: {:?}", self.start))
    }

    /// A request's method.
    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().expect("split gives at least one part")
    }

    /// A request's target, as sent.
    pub(crate) fn target(&self) -> &str {
        let mut parts = self.start.split(' ');
        parts.nth(1).unwrap_or_else(|| panic!("not a request line: {:?}", self.start))
    }

    /// All values of a header, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&[u8]> {
        let fields = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| &value[..]).collect()
    }

    /// All values of a header as text, in order.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        self.all(name).into_iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// The one value of a header; fails if there are several.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let mut all = self.texts(name);
        assert!(all.len() <= 1, "{name} came {} times: {all:?}", all.len());
        all.pop()
    }

    /// Whether a header is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    pub(super) fn chunked(&self) -> bool {
        self.texts("transfer-encoding").iter().any(|coding| coding.to_ascii_lowercase().contains("chunked"))
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.text("content-length").map(|text| text.parse().expect("Content-Length is a number"))
    }
}

/// A request as an origin got it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
}

/// A whole response as a visitor got it.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// Responses with 1xx that came before.
    pub(crate) interim: Vec<Head>,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
}

impl Reply {
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code in `tunnel-error`.
    pub(crate) fn error(&self) -> Option<String> {
        self.head.text("tunnel-error")
    }

    /// Holds what every error answer of the proxy has, and gives its text: a status, a code, the request's id, a sentence.
    #[track_caller]
    pub(crate) fn explained(&self, status: u16, code: &str) -> String {
        let text = self.text();
        assert_eq!((self.status(), self.error().as_deref()), (status, Some(code)), "{text}");
        let id = self.head.text("tunnel-request-id").expect("an error answer names its request");
        assert!(!id.is_empty());
        assert!(text.trim().len() > 20, "a sentence is missing: {text:?}");
        text
    }
}

/// A body that ended before it was whole.
#[derive(Debug)]
pub(crate) struct Broken {
    /// What came before.
    pub(crate) got: Vec<u8>,
}

pub(super) fn parse_fields(section: &[u8]) -> io::Result<Fields> {
    let mut fields = [httparse::EMPTY_HEADER; 2048];
    match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete((_, fields))) => {
            Ok(fields.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect())
        }
        other => Err(broken(&format!("not a header section: {other:?}"))),
    }
}

pub(super) fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
