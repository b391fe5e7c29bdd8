//! The origin: one for all systems, in a process of its own, so that what it uses is nobody's.
//!
//! `GET /N` has N bytes, `POST` reads what comes, an upgrade to WebSocket echoes.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    process::Stdio,
    task::{Context as TaskContext, Poll},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

/// Bytes that are given to the socket at once.
const PIECE: usize = 64 * 1024;

static ZEROS: [u8; PIECE] = [0; PIECE];

/// The origin at work; ended when dropped.
pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    _child: Child,
}

impl Process {
    /// Starts this program as the origin.
    pub(crate) async fn start() -> Result<Self> {
        let own = std::env::current_exe().context("where this program is")?;
        let mut child = Command::new(own)
            .arg("origin")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the origin")?;
        let out = child.stdout.take().context("the origin's words")?;
        let line = BufReader::new(out).lines().next_line().await?.context("the origin said nothing")?;
        Ok(Self { address: line.parse().context("the origin's address")?, _child: child })
    }
}

/// Serves until it is killed.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(socket), service_fn(answer)).with_upgrades();
        tokio::spawn(connection);
    }
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Zeros>, hyper::Error> {
    if let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) {
        let accept = derive_accept_key(key.as_bytes());
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(io) = upgraded.await {
                echo(WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, None).await).await;
            }
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_ACCEPT, accept);
        return Ok(response.body(Zeros(0)).expect("all of it is plain"));
    }
    if *request.method() == Method::POST {
        let body = request.body_mut();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        return Ok(Response::new(Zeros(0)));
    }
    let length = request.uri().path().trim_start_matches('/').parse().unwrap_or(0);
    Ok(Response::new(Zeros(length)))
}

async fn echo<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) {
    while let Some(Ok(message)) = socket.next().await {
        if message.is_close() || socket.send(message).await.is_err() {
            return;
        }
    }
}

/// A body of so many bytes.
struct Zeros(u64);

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = usize::try_from(self.0).unwrap_or(PIECE).min(PIECE);
        self.0 -= piece as u64;
        Poll::Ready((piece > 0).then(|| Ok(Frame::data(Bytes::from_static(&ZEROS[..piece])))))
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}
