//! Where an operator's programs ask after the node, on a listener of its own: `/healthz`, `/readyz`, `/metrics`.
//!
//! Owns that listener, from [`bind`](super::bind) to the end of [`Proxy::run`](super::Proxy::run): it goes on answering while the node
//! drains. Each connection has one request and little time, so that nobody can hold on to it. Must not know visitors.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Shared,
    door::{ACCEPT_PAUSE, is_theirs},
    health::Readiness,
};

/// Longest life of a connection: from its first byte to the end of its answer.
const LONGEST: Duration = Duration::from_secs(10);

/// Connections at once; more wait to be taken.
const MOST: usize = 64;

/// Bytes of a request's head; hyper takes no smaller buffer.
const MAX_HEAD: usize = 8192;

const PLAIN: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The listener at work; ends when dropped.
pub(super) struct Admin {
    pub(super) address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Admin {
    /// Answers on this listener from now on.
    pub(super) fn start(listener: TcpListener, address: SocketAddr, node: Arc<Shared>) -> Self {
        let task = tokio::spawn(accept(listener, node));
        Self { address, _task: AbortOnDropHandle::new(task) }
    }
}

async fn accept(listener: TcpListener, node: Arc<Shared>) {
    // They end with the listener.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MOST {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((socket, _)) => {
                let node = Arc::clone(&node);
                // Whoever is too slow may ask again.
                connections.spawn(async move { timeout(LONGEST, serve(socket, node)).await.is_ok() });
            }
            Err(error) if is_theirs(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "can't take a connection of the admin listener");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(socket: TcpStream, node: Arc<Shared>) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&node, request.method(), request.uri().path());
        async { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the admin listener broke off");
    }
}

fn answer(node: &Shared, method: &Method, path: &str) -> Response<String> {
    let (status, content_type, text) = match path {
        // Whoever can say this lives.
        "/healthz" => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
        "/readyz" => {
            let readiness = Readiness::of(node);
            (readiness.status(), PLAIN, readiness.words().to_owned())
        }
        "/metrics" => (StatusCode::OK, OPEN_METRICS, node.metrics.text()),
        _ => {
            let text = "there is nothing here but /healthz, /readyz and /metrics\n";
            (StatusCode::NOT_FOUND, PLAIN, text.to_owned())
        }
    };
    if status != StatusCode::NOT_FOUND && !matches!(*method, Method::GET | Method::HEAD) {
        let text = "this can only be read, with GET or HEAD\n";
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, PLAIN, text.to_owned());
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    plain(status, content_type, text)
}

fn plain(status: StatusCode, content_type: &'static str, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
