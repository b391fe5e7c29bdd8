//! HTTP/1.1 by hand (RFC 9112), for both ends: every byte that is sent is the test's, every byte that comes is kept.

use std::{io, net::SocketAddr};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::within;

/// Anything a connection can run over.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

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
    fn parse(raw: Vec<u8>) -> io::Result<Self> {
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

    fn chunked(&self) -> bool {
        self.texts("transfer-encoding").iter().any(|coding| coding.to_ascii_lowercase().contains("chunked"))
    }

    fn length(&self) -> Option<u64> {
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
}

/// A body that ended before it was whole.
#[derive(Debug)]
pub(crate) struct Broken {
    /// What came before.
    pub(crate) got: Vec<u8>,
}

/// How far a body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilEnd,
}

/// One connection, either end of it.
pub(crate) struct Wire {
    pub(crate) io: Box<dyn Io>,
    buffer: BytesMut,
}

impl Wire {
    /// A connection to `address`.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await;
        let stream = stream.unwrap_or_else(|error| panic!("no connection to {address}: {error}"));
        stream.set_nodelay(true).expect("a socket takes TCP_NODELAY");
        Self::over(stream)
    }

    /// A connection that is open already.
    pub(crate) fn over(io: impl Io + 'static) -> Self {
        Self { io: Box::new(io), buffer: BytesMut::new() }
    }

    /// The stream, and what was read from it but not used.
    pub(crate) fn into_parts(self) -> (Box<dyn Io>, BytesMut) {
        (self.io, self.buffer)
    }

    /// Sends these bytes.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> impl Future<Output = ()> {
        let sent = within("bytes to be taken", async move { self.try_send(bytes.as_ref()).await });
        async move { sent.await.expect("the other side takes bytes") }
    }

    /// Sends these bytes; an error if the other side is gone. Waits as long as it takes.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// Sends one chunk of a chunked body.
    pub(crate) async fn send_chunk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.send(chunk).await;
    }

    /// Ends this direction; the other one goes on.
    pub(crate) async fn finish(&mut self) {
        within("the end to be taken", self.io.shutdown()).await.expect("a connection can be half-closed");
    }

    /// The next request, with its body.
    pub(crate) async fn request(&mut self) -> Request {
        let head = self.head().await;
        let (body, trailers) = self.rest_of_request(&head).await;
        Request { head, body, trailers }
    }

    /// The body that follows this request's head.
    pub(crate) async fn rest_of_request(&mut self, head: &Head) -> (Vec<u8>, Fields) {
        let framing = match head.length() {
            _ if head.chunked() => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::None,
        };
        within("a request's body", self.body(framing)).await.expect("the request's body is whole")
    }

    /// The next head, of a request or of a response, interim ones (1xx) too.
    #[track_caller]
    pub(crate) fn head(&mut self) -> impl Future<Output = Head> {
        let caller = std::panic::Location::caller();
        let head = within("a head", self.try_head());
        async move { head.await.unwrap_or_else(|error| panic!("no head ({caller}): {error}")) }
    }

    /// The final answer to a request with this method.
    #[track_caller]
    pub(crate) fn reply(&mut self, method: &str) -> impl Future<Output = Reply> {
        let caller = std::panic::Location::caller();
        async move {
            let mut interim = Vec::new();
            let head = loop {
                let head = match within("a response", self.try_head()).await {
                    Ok(head) => head,
                    Err(error) => panic!("no response ({caller}): {error}"),
                };
                if !(100..200).contains(&head.status()) || head.status() == 101 {
                    break head;
                }
                interim.push(head);
            };
            let body = self.rest_of_reply(method, &head).await;
            let (body, trailers) = body.unwrap_or_else(|broken| {
                panic!("the body broke off after {} bytes of {:?} ({caller})", broken.got.len(), head.start)
            });
            Reply { interim, head, body, trailers }
        }
    }

    /// The body that follows this response's head, or what came of it.
    pub(crate) async fn rest_of_reply(
        &mut self,
        method: &str,
        head: &Head,
    ) -> Result<(Vec<u8>, Fields), Broken> {
        let framing = match (head.status(), head.length()) {
            _ if method == "HEAD" => Framing::None,
            (101 | 204 | 304, _) => Framing::None,
            _ if head.chunked() => Framing::Chunked,
            (_, Some(length)) => Framing::Length(length),
            (_, None) => Framing::UntilEnd,
        };
        within("a response's body", self.body(framing)).await
    }

    async fn body(&mut self, framing: Framing) -> Result<(Vec<u8>, Fields), Broken> {
        let mut got = Vec::new();
        let mut trailers = Fields::new();
        let end = async {
            match framing {
                Framing::None => Ok(()),
                Framing::Length(mut left) => {
                    while left > 0 {
                        let part = self.some(usize::try_from(left).unwrap_or(usize::MAX)).await?;
                        left -= part.len() as u64;
                        got.extend_from_slice(&part);
                    }
                    Ok(())
                }
                Framing::Chunked => {
                    while let Some(chunk) = self.try_chunk().await? {
                        got.extend_from_slice(&chunk);
                    }
                    trailers = self.try_trailers().await?;
                    Ok(())
                }
                Framing::UntilEnd => loop {
                    if self.buffer.is_empty() && self.fill().await? == 0 {
                        return Ok(());
                    }
                    got.extend_from_slice(&self.buffer.split());
                },
            }
        };
        let end: io::Result<()> = end.await;
        match end {
            Ok(()) => Ok((got, trailers)),
            Err(_) => Err(Broken { got }),
        }
    }

    /// The next chunk of a chunked body; `None` for the last, after which [`Self::trailers`] has to be read.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        within("a chunk", self.try_chunk()).await.expect("the body goes on")
    }

    /// What follows the last chunk.
    pub(crate) async fn trailers(&mut self) -> Fields {
        within("trailers", self.try_trailers()).await.expect("the body ends well")
    }

    /// Exactly so many chunked bytes, however they are cut.
    pub(crate) async fn chunked(&mut self, length: usize) -> Vec<u8> {
        let mut got = Vec::new();
        while got.len() < length {
            let chunk = self.chunk().await;
            got.extend(
                chunk.unwrap_or_else(|| panic!("the body ended after {:?}", String::from_utf8_lossy(&got))),
            );
        }
        assert_eq!(got.len(), length, "more came than was sent: {:?}", String::from_utf8_lossy(&got));
        got
    }

    /// Exactly so many bytes.
    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut got = Vec::with_capacity(length);
        while got.len() < length {
            let part = within("bytes", self.some(length - got.len())).await;
            got.extend_from_slice(&part.expect("the connection goes on"));
        }
        got
    }

    /// Waits until the other side has closed, well or with a reset, and gives what it sent before.
    #[track_caller]
    pub(crate) fn closed(&mut self) -> impl Future<Output = Vec<u8>> {
        within("the other side to close", async {
            while let Ok(1..) = self.fill().await {}
            self.buffer.split().to_vec()
        })
    }

    /// What has arrived up to now and nobody has read.
    pub(crate) async fn arrived(&mut self) -> &[u8] {
        // A zero timeout still polls the socket once.
        let _ = tokio::time::timeout(std::time::Duration::ZERO, self.fill()).await;
        &self.buffer
    }

    /// At least one byte and at most `limit`; an error at the end.
    pub(crate) async fn some(&mut self, limit: usize) -> io::Result<Bytes> {
        if self.buffer.is_empty() && self.fill().await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = self.buffer.len().min(limit);
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(64 * 1024);
        self.io.read_buf(&mut self.buffer).await
    }

    /// The next head, or an error if the connection ends first.
    pub(crate) async fn try_head(&mut self) -> io::Result<Head> {
        Head::parse(self.through(b"\r\n\r\n").await?)
    }

    async fn try_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.through(b"\r\n").await?;
        let line = String::from_utf8_lossy(&line);
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let mut left = usize::from_str_radix(size, 16).map_err(|_| broken("no chunk size"))?;
        if left == 0 {
            return Ok(None);
        }
        let mut chunk = Vec::with_capacity(left);
        while left > 0 {
            let part = self.some(left).await?;
            left -= part.len();
            chunk.extend_from_slice(&part);
        }
        match &self.through(b"\r\n").await?[..] {
            b"\r\n" => Ok(Some(chunk)),
            _ => Err(broken("a chunk is longer than its size")),
        }
    }

    async fn try_trailers(&mut self) -> io::Result<Fields> {
        let mut section = Vec::new();
        while !section.ends_with(b"\r\n\r\n") && section != b"\r\n" {
            section.extend(self.through(b"\r\n").await?);
        }
        parse_fields(&section)
    }

    async fn through(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        let mut from = 0;
        loop {
            if let Some(at) = self.buffer[from..].windows(mark.len()).position(|window| window == mark) {
                return Ok(self.buffer.split_to(from + at + mark.len()).to_vec());
            }
            from = self.buffer.len().saturating_sub(mark.len());
            if self.fill().await? == 0 {
                let left = String::from_utf8_lossy(&self.buffer);
                return Err(broken(&format!("the connection ended, unread: {left:?}")));
            }
        }
    }
}

fn parse_fields(section: &[u8]) -> io::Result<Fields> {
    let mut fields = [httparse::EMPTY_HEADER; 256];
    match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete((_, fields))) => {
            Ok(fields.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect())
        }
        other => Err(broken(&format!("not a header section: {other:?}"))),
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
