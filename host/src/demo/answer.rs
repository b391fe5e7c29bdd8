//! What the sample answers: its endpoints, their methods, and the short answers. Owns no bytes in motion.

use std::convert::Infallible;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, UPGRADE, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{Request, Response, body::Incoming};
use serde::Serialize;

use super::{Tasks, members, socket, transfer};

const PAGE: &str = include_str!("page.html");

/// The page brings everything with it and talks to nobody but this service.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
     connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Answers one request.
pub(super) async fn answer(request: Request<Incoming>, tasks: Tasks) -> Result<Reply, Infallible> {
    let Some(endpoint) = Endpoint::of(request.uri().path()) else {
        return Ok(text(StatusCode::NOT_FOUND, "The sample has nothing here.\n"));
    };
    let allowed = endpoint.methods();
    if !allowed.is_empty() && !allowed.contains(request.method()) {
        let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "The sample takes other methods here.\n");
        let names = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        reply.headers_mut().insert(ALLOW, HeaderValue::try_from(names).expect("names of methods are tokens"));
        return Ok(reply);
    }
    Ok(match endpoint {
        Endpoint::Page => html(PAGE),
        Endpoint::Members => html(members::page(request.headers())),
        Endpoint::Echo => echo(request).await,
        Endpoint::Clock => socket::accept(request, &tasks, socket::clock),
        Endpoint::Chat => socket::accept(request, &tasks, socket::chat),
        Endpoint::Events => transfer::events(request.headers(), tasks.stop),
        Endpoint::Upload => upload(request).await,
        Endpoint::Download => transfer::download(request.uri().query()),
    })
}

#[derive(Clone, Copy)]
enum Endpoint {
    Page,
    Members,
    Echo,
    Clock,
    Chat,
    Events,
    Upload,
    Download,
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Page,
            "/members" | "/members/" => Self::Members,
            "/echo" => Self::Echo,
            // Anything below, so that odd paths can be tried.
            path if path.starts_with("/echo/") => Self::Echo,
            "/clock" => Self::Clock,
            "/chat" => Self::Chat,
            "/events" => Self::Events,
            "/upload" => Self::Upload,
            "/download" => Self::Download,
            _ => return None,
        })
    }

    /// The methods it takes; none means any.
    fn methods(self) -> &'static [Method] {
        match self {
            Self::Echo => &[],
            Self::Page | Self::Members | Self::Events | Self::Download => &[Method::GET, Method::HEAD],
            Self::Clock | Self::Chat => &[Method::GET],
            Self::Upload => &[Method::POST, Method::PUT],
        }
    }
}

fn html(page: impl Into<Bytes>) -> Reply {
    let mut reply = full(StatusCode::OK, "text/html; charset=utf-8", page);
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    reply
}

/// The request as it arrived, for a person to compare with what was sent.
#[derive(Serialize)]
struct Echo {
    method: String,
    /// Byte for byte.
    target: String,
    /// Names in the order of their first appearance; values of one name in their order.
    headers: Vec<(String, String)>,
    #[serde(flatten)]
    body: transfer::Receipt,
}

async fn echo(request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or_else(|| head.uri.to_string(), ToString::to_string);
    match transfer::receive(body).await {
        Ok(body) => {
            json(&Echo { method: head.method.to_string(), target, headers: readable(&head.headers), body })
        }
        Err(error) => text(StatusCode::BAD_REQUEST, format!("The body broke off: {error}\n")),
    }
}

/// Values that are not UTF-8 are shown with escapes.
fn readable(headers: &HeaderMap) -> Vec<(String, String)> {
    let value = |value: &HeaderValue| match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().escape_ascii().to_string(),
    };
    headers.iter().map(|(name, content)| (name.to_string(), value(content))).collect()
}

async fn upload(request: Request<Incoming>) -> Reply {
    match transfer::receive(request.into_body()).await {
        Ok(receipt) => json(&receipt),
        Err(error) => text(StatusCode::BAD_REQUEST, format!("The upload broke off: {error}\n")),
    }
}

/// The endpoint speaks WebSocket only.
pub(super) fn upgrade_required() -> Reply {
    let mut reply = text(StatusCode::UPGRADE_REQUIRED, "This is a WebSocket; open it with one.\n");
    reply.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    reply
}

/// A short plain answer.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    full(status, "text/plain; charset=utf-8", text)
}

fn json(value: &impl Serialize) -> Reply {
    let mut text = serde_json::to_vec_pretty(value).expect("plain fields and no maps");
    text.push(b'\n');
    full(StatusCode::OK, "application/json", text)
}

fn full(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()).boxed_unsync());
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}
