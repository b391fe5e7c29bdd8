//! A listener for an operator's programs: health, metrics, and what else a role tells or does for whoever runs it.
//!
//! Owns the sockets, and who may ask ([`Gate`]). Each connection has one request and little time, and few are served at once,
//! so that nobody can hold on to it. Must not know what is asked for: a role gives a function that answers.

mod gate;
mod known;

pub use gate::{Door, Gate, Open, Token};
pub use known::Known;

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

/// Longest life of a connection: from its first byte to the end of its answer.
const LONGEST: Duration = Duration::from_secs(10);

/// Connections at once; more wait to be taken.
const MOST: usize = 64;

/// Bytes of a request's head; hyper takes no smaller buffer.
const MAX_HEAD: usize = 8192;

/// Pause after a failed accept: out of file descriptors, it fails until some connection ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Content type of lines for people.
pub const PLAIN: &str = "text/plain; charset=utf-8";

/// Content type of metrics.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Content type of everything for programs.
pub const JSON: &str = "application/json";

/// Answers one request by its head; bodies aren't read.
pub type Answer = Arc<dyn Fn(&Parts) -> Response<String> + Send + Sync>;

/// The listener at work; ends when dropped, with its connections.
pub struct Listener {
    /// Where it listens, with the real port.
    pub address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Listener {
    /// Answers on this listener from now on.
    pub fn start(listener: TcpListener, address: SocketAddr, answer: Answer) -> Self {
        let task = tokio::spawn(accept(listener, answer));
        Self { address, _task: AbortOnDropHandle::new(task) }
    }
}

async fn accept(listener: TcpListener, answer: Answer) {
    // They end with the listener.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MOST {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((socket, _)) => {
                let answer = Arc::clone(&answer);
                // Whoever is too slow may ask again.
                connections.spawn(async move { timeout(LONGEST, serve(socket, answer)).await.is_ok() });
            }
            Err(error) if is_theirs(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "can't take a connection of the operator's listener");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether an accept failed because of the other side, which left between the handshake and now.
fn is_theirs(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn serve(socket: TcpStream, answer: Answer) -> impl Future<Output = ()> + Send {
    let service = service_fn(move |request: Request<Incoming>| {
        let (parts, _) = request.into_parts();
        let response = answer(&parts);
        async { Ok::<_, Infallible>(response) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service);
    async {
        if let Err(error) = serving.await {
            tracing::debug!(%error, "a connection of the operator's listener broke off");
        }
    }
}

/// An answer that nobody keeps.
pub fn answer(status: StatusCode, content_type: &'static str, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Whatever a browser makes of it, it is no page.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The answer to a method that there isn't here.
pub fn only(methods: &'static str) -> Response<String> {
    let text = format!("this takes {methods} and nothing else\n");
    let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, text);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}
