//! HTTP/1.1 by hand (RFC 9112), for both ends: every byte that is sent is the test's, every byte that comes is kept.

use std::{io, net::SocketAddr};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::{
    message::{Broken, Fields, Head, Reply, Request, broken, parse_fields},
    within,
};

/// Anything a connection can run over.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A socket that is connected from another of this machine's addresses.
pub(crate) async fn connect_from(local: &str, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(local.parse().expect("an address"), 0))?;
    socket.connect(address).await
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

    /// A connection to `address` from another of this machine's addresses.
    pub(crate) async fn connect_from(local: &str, address: SocketAddr) -> Self {
        let stream = within("a connection", connect_from(local, address)).await;
        Self::over(stream.unwrap_or_else(|error| panic!("no connection to {address} from {local}: {error}")))
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
        self.try_rest_of_request(head).await.expect("the request's body is whole")
    }

    /// The body that follows this request's head, or what came of it.
    pub(crate) async fn try_rest_of_request(&mut self, head: &Head) -> Result<(Vec<u8>, Fields), Broken> {
        let framing = match head.length() {
            _ if head.chunked() => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::None,
        };
        within("a request's body", self.body(framing)).await
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

    /// The next chunk of a chunked body; `None` for the last.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        within("a chunk", self.try_chunk()).await.expect("the body goes on")
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

    /// Waits until something, or the end, has arrived.
    pub(crate) async fn readable(&mut self) {
        if self.buffer.is_empty() {
            // Whoever reads next finds out whether it was the end.
            let _ = self.fill().await;
        }
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
