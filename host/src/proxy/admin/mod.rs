//! Where an operator's programs ask after the node and act on it, on a listener of its own: `/healthz`, `/readyz`, `/metrics`, and
//! an API below `/api/v1`.
//!
//! Owns what is answered there. It answers from [`bind`](super::bind) to the end of [`Proxy::run`](super::Proxy::run), while the node
//! drains too. Must not know visitors.

mod api;
mod show;

use std::{net::SocketAddr, sync::Arc};

use http::{Method, Response, StatusCode, request::Parts};
use tokio::net::TcpListener;

use super::{Shared, health::Readiness};
use crate::operator::{self, Door, Gate, Listener, OPEN_METRICS, PLAIN};

/// Answers on this listener from now on.
pub(super) fn start(listener: TcpListener, address: SocketAddr, node: &Arc<Shared>) -> Listener {
    let observe = &node.config.observe;
    let gate = Gate {
        token: observe.admin_token.clone(),
        open: observe.admin_open,
        loopback: address.ip().is_loopback(),
    };
    let node = Arc::clone(node);
    Listener::start(listener, address, Arc::new(move |request| answer(&node, &gate, request)))
}

fn answer(node: &Shared, gate: &Gate, request: &Parts) -> Response<String> {
    let path = request.uri.path();
    let door = match path {
        "/healthz" | "/readyz" => Door::Health,
        "/metrics" => Door::Metrics,
        _ => Door::Api,
    };
    if let Err(refused) = gate.admits(door, request) {
        return refused;
    }
    if let Some(path) = path.strip_prefix("/api/v1/") {
        return api::answer(node, &request.method, path, request.uri.query().unwrap_or_default());
    }
    let (status, content_type, text) = match path {
        // Whoever can say this lives.
        "/healthz" => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
        "/readyz" => {
            let readiness = Readiness::of(node);
            (readiness.status(), PLAIN, readiness.words().to_owned())
        }
        "/metrics" => (StatusCode::OK, OPEN_METRICS, node.numbers()),
        _ => {
            let text = "there is nothing here but /healthz, /readyz, /metrics and /api/v1/\n";
            (StatusCode::NOT_FOUND, PLAIN, text.to_owned())
        }
    };
    if status != StatusCode::NOT_FOUND && !matches!(request.method, Method::GET | Method::HEAD) {
        return operator::only("GET, HEAD");
    }
    operator::answer(status, content_type, text)
}
