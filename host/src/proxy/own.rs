//! What the proxy answers on its own host: a greeting, its health, and that there is nothing else.

use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;

use super::{
    Shared, answer,
    health::Readiness,
    page::{Form, Page},
};
use crate::exchange::{Body, ExchangeId};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Says what this is and how to use it.
pub(super) fn greeting(shared: &Shared, method: &Method, exchange: ExchangeId, form: Form) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return only_get(exchange, form);
    }
    let url = shared.names.public_url();
    let command = format!("tunnel 3000 --proxy {url}");
    Page {
        title: "This is a tunnel proxy",
        paragraphs: vec![
            "It makes services reachable that run behind a firewall. Each has a host name of its own under this one.",
            "To publish what listens on port 3000 of your machine:",
        ],
        command: Some(&command),
        facts: vec![("Version", VERSION)],
        json: json!({ "program": "tunnel", "version": VERSION, "public_url": url, "connect": command }),
    }
    .respond(StatusCode::OK, form)
}

/// Whether the node takes exchanges: 200, or 503 once it drains.
pub(super) fn health(shared: &Shared) -> Response<Body> {
    let (status, text) = if shared.drain.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ok\n")
    };
    line(status, text)
}

/// Whether a load balancer should send visitors and clients here: as the admin listener answers, for those that see this one
/// alone.
pub(super) fn ready(shared: &Shared) -> Response<Body> {
    let readiness = Readiness::of(shared);
    line(readiness.status(), readiness.words())
}

fn line(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Anything else. No path of the visitor's is repeated here.
pub(super) fn other(exchange: ExchangeId, form: Form) -> Response<Body> {
    let code = "not-found";
    let id = exchange.to_string();
    let page = Page {
        title: "There is nothing here",
        paragraphs: vec![
            "This is the proxy's own host name, and it has no such path.",
            "A service is reached by its own host name, or below /proxy/request/ and its name. Use the URL that \
             its client prints.",
        ],
        command: None,
        facts: vec![("Status", "404"), ("Error", code), ("Request id", &id)],
        json: json!({
            "error": code,
            "message": "This is the proxy's own host name, and it has no such path.",
            "blame": "visitor",
            "hint": "Use the URL that the service's client prints.",
            "request_id": id,
        }),
    };
    let mut response = page.respond(StatusCode::NOT_FOUND, form);
    answer::mark(response.headers_mut(), code, exchange);
    response
}

/// The answer to a visitor without the certificate that this proxy wants to see.
pub(super) fn certificate_required(exchange: ExchangeId, form: Form) -> Response<Body> {
    Refusal {
        status: StatusCode::FORBIDDEN,
        code: "certificate-required",
        title: "A certificate is required",
        message: "This proxy lets in visitors with a certificate of their own alone, and this connection has none.",
        blame: "visitor",
        hint: "Give your browser or program the certificate that you were sent, and connect again.",
    }
    .respond(exchange, form)
}

/// The answer on a connection that is kept for clients.
pub(super) fn full(exchange: ExchangeId, form: Form) -> Response<Body> {
    let mut response = Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "too-many-connections",
        title: "This proxy is full",
        message: "As many connections are in use here as this proxy takes.",
        blame: "proxy",
        hint: "Try again in a moment. If it lasts, tell the proxy's operator.",
    }
    .respond(exchange, form);
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// An answer that refuses a visitor, and says why.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    message: &'static str,
    blame: &'static str,
    hint: &'static str,
}

impl Refusal {
    fn respond(self, exchange: ExchangeId, form: Form) -> Response<Body> {
        let Self { status, code, title, message, blame, hint } = self;
        let id = exchange.to_string();
        let page = Page {
            title,
            paragraphs: vec![message, hint],
            command: None,
            facts: vec![("Status", status.as_str()), ("Error", code), ("Request id", &id)],
            json: json!({ "error": code, "message": message, "blame": blame, "hint": hint, "request_id": id }),
        };
        let mut response = page.respond(status, form);
        answer::mark(response.headers_mut(), code, exchange);
        response
    }
}

fn only_get(exchange: ExchangeId, form: Form) -> Response<Body> {
    let code = "method-not-allowed";
    let id = exchange.to_string();
    let message = "This page can only be read, with GET or HEAD.";
    let page = Page {
        title: "This method isn't allowed here",
        paragraphs: vec![message],
        command: None,
        facts: vec![("Status", "405"), ("Error", code), ("Request id", &id)],
        json: json!({ "error": code, "message": message, "blame": "visitor", "request_id": id }),
    };
    let mut response = page.respond(StatusCode::METHOD_NOT_ALLOWED, form);
    answer::mark(response.headers_mut(), code, exchange);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}
