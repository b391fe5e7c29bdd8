//! A client's way in: what happens on `GET /proxy/subscribe`, from the upgrade to the session's end.
//!
//! Owns the choice of the dialect; the order of registration in each is [`v2`]'s and [`v1`]'s. What a statement or a token must
//! say is `wire`'s part.

mod gate;
mod seat;
mod spent;
mod v1;
mod v2;

pub(crate) use spent::Spent;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::OwnedSemaphorePermit,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::CloseFrame};

use super::{
    Config, LAST_WORDS, Shared,
    admission::{Pages, whole},
    answer,
    config::Dialects,
    outgoing::Outgoing,
    upgrade::{self, Offer},
};
use crate::{
    exchange::{Body, ExchangeId, Scheme, hygiene},
    wire::{NONCE_HEADER, SUBPROTOCOL, registration::NONCE_LENGTH},
};

/// Bytes of what a client says it is.
const LONGEST_AGENT: usize = 100;

/// What a client and this proxy have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V1,
    V2,
}

/// Answers a client that wants to attach; the session goes on in a task of its own.
pub(super) async fn subscribe<B: http_body::Body>(
    shared: &Arc<Shared>,
    mut request: http::Request<B>,
    peer: SocketAddr,
    exchange: ExchangeId,
) -> http::Response<Outgoing> {
    let refuse = |status, code, text: &str| refuse(status, code, text, exchange);
    let offer = upgrade::offer(&mut request).and_then(Result::ok);
    // Clients speak HTTP/1.1 here; their one WebSocket gains nothing by sharing a connection.
    let Some((accept, upgraded)) = offer.and_then(Offer::into_parts) else {
        return refuse(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade-required",
            "clients attach here, by a WebSocket of version 13 over HTTP/1.1",
        );
    };
    let dialect = choose(shared.config.dialects, &shared.admission.rules().pages, request.headers());
    let dialect = match dialect {
        Ok(dialect) => dialect,
        Err((status, code, text)) => {
            shared.admission.refused(code);
            return refuse(status, code, &text);
        }
    };
    // Behind a web server the client is whom that one names.
    let arrival = hygiene::Arrival {
        peer,
        scheme: Scheme::Http,
        authority: "",
        trusted: &shared.config.trusted_proxies,
    };
    let client = hygiene::visitor(request.headers(), &arrival).address;
    if let Err(wait) = shared.admission.knock(client.ip()) {
        return come_later(&wait, exchange);
    }
    if shared.drain.is_cancelled() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "draining", "this node is shutting down");
    }
    let Ok(permit) = Arc::clone(&shared.unregistered).try_acquire_owned() else {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-many-registrations",
            "too many clients are registering; try again",
        );
    };
    let mut nonce = [0; NONCE_LENGTH];
    if getrandom::fill(&mut nonce).is_err() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "no-randomness", "the proxy has no randomness");
    }
    let agent = request.headers().get(header::USER_AGENT).map(|agent| agent_of(agent.as_bytes()));
    let mut response = http::Response::new(Outgoing::from(Body::empty()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    let shared = Arc::clone(shared);
    match dialect {
        Dialect::V1 => {
            let attachment = v1::Attachment::new(Arc::clone(&shared), client, agent);
            shared.sessions.spawn(attachment.run(upgraded, permit));
        }
        Dialect::V2 => {
            let attachment = v2::Attachment::new(Arc::clone(&shared), client, agent, nonce);
            shared.sessions.spawn(attachment.run(upgraded, permit));
            let nonce =
                HeaderValue::try_from(URL_SAFE_NO_PAD.encode(nonce)).expect("base64url is plain text");
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
            headers.insert(NONCE_HEADER, nonce);
        }
    }
    response
}

type Refusal = (StatusCode, &'static str, String);

/// The dialect that a client wants, if this proxy speaks it. Those of version 2 offer its name, those of the original nothing.
fn choose(spoken: Dialects, pages: &Pages, headers: &HeaderMap) -> Result<Dialect, Refusal> {
    let mut offered = hygiene::tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).peekable();
    let old = spoken.v1 && offered.peek().is_none();
    // A browser sends Origin with every WebSocket, and newer ones a Sec-Fetch-Site; no client of version 2 does. A page must not
    // register tunnels by whatever the browser lets it reach. In the original's dialect pages may be clients: see
    // docs/protocol-v1.md.
    let a_page_s = headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site");
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let is_listed = match (origins.next(), origins.next()) {
        (Some(origin), None) => pages.has(origin.as_bytes()),
        _ => false,
    };
    if a_page_s && !(old && is_listed) {
        let text = "clients attach here; pages of browsers don't, unless the operator has listed their origin (registration.pages)";
        return Err((StatusCode::FORBIDDEN, "not-a-client", text.to_owned()));
    }
    if old {
        return Ok(Dialect::V1);
    }
    if spoken.v2 && offered.any(|it| it == SUBPROTOCOL.as_bytes()) {
        return Ok(Dialect::V2);
    }
    let text = if spoken.v2 {
        format!("this proxy speaks {SUBPROTOCOL}, which the client didn't offer")
    } else {
        "this proxy speaks the original's dialect alone, to clients that offer no subprotocol".to_owned()
    };
    Err((StatusCode::BAD_REQUEST, "unknown-dialect", text))
}

/// To one who comes too often.
fn come_later(wait: &Duration, exchange: ExchangeId) -> http::Response<Outgoing> {
    let seconds = whole(wait).as_secs();
    let text = format!("too many registrations come from your address; try again in {seconds} s");
    let mut response = refuse(StatusCode::TOO_MANY_REQUESTS, "too-many-registrations", &text, exchange);
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

/// In plain words, which a client shows to its user.
fn refuse(
    status: StatusCode,
    code: &'static str,
    text: &str,
    exchange: ExchangeId,
) -> http::Response<Outgoing> {
    let mut response = http::Response::new(Outgoing::from(Body::full(format!("{text}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer::mark(headers, code, exchange);
    if status == StatusCode::UPGRADE_REQUIRED {
        // RFC 9110 section 15.5.22, and section 7.8: `Connection` has to name it.
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    response
}

/// What a client says it is, cut to what a list has room for.
fn agent_of(agent: &[u8]) -> String {
    String::from_utf8_lossy(&agent[..agent.len().min(LONGEST_AGENT)]).into_owned()
}

/// What comes of a client's first words, if they come in time and while the node lives. Then it doesn't count any more among
/// those that haven't registered.
async fn in_time<T>(
    shared: &Shared,
    client: SocketAddr,
    dialect: &'static str,
    permit: OwnedSemaphorePermit,
    registering: impl Future<Output = Option<T>>,
) -> Option<T> {
    let registered = tokio::select! {
        registered = tokio::time::timeout(shared.config.limits.registration_timeout, registering) => registered,
        () = shared.kill.cancelled() => return None,
    };
    drop(permit);
    registered.unwrap_or_else(|_| {
        shared.metrics.clients.registration(dialect, "too-late");
        tracing::debug!(%client, "a client didn't register in time");
        None
    })
}

/// Closes, and waits until the client has taken its leave too: closing earlier could reset what it hasn't read.
async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>, frame: CloseFrame) {
    let closing = async {
        let _ = socket.close(Some(frame)).await;
        while let Some(Ok(_)) = socket.next().await {}
    };
    let _ = tokio::time::timeout(LAST_WORDS, closing).await;
}

/// Seconds since 1970-01-01 UTC.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// The origins by which clients may dial this proxy. From settings and the listening address only: what a request
/// says of itself proves nothing.
pub(super) fn own_origins(config: &Config, address: SocketAddr, public_url: &str) -> Vec<Uri> {
    let mut origins = config.also_known_as.clone();
    origins.extend(public_url.parse());
    let mut listening = vec![address.to_string()];
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        let port = address.port();
        listening.extend([format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")]);
    }
    let scheme = if config.door.tls.is_some() { "https" } else { "http" };
    origins.extend(listening.iter().filter_map(|host| format!("{scheme}://{host}").parse().ok()));
    origins
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(spoken: Dialects, lines: &[(&'static str, &str)]) -> Result<Dialect, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let pages = Pages { any: false, origins: vec!["https://page.example".into()] };
        choose(spoken, &pages, &headers).map_err(|(status, _, _)| status.as_u16())
    }

    #[test]
    fn a_client_gets_the_dialect_that_it_offers_if_that_is_spoken() {
        let both = Dialects::default();
        let (only_1, only_2) = (Dialects { v1: true, v2: false }, Dialects { v1: false, v2: true });
        let v2 = ("sec-websocket-protocol", "chat, tunnel.v2.cbor");
        let other = ("sec-websocket-protocol", "tunnel.v3");
        let page = ("origin", "https://page.example");
        let other_page = ("origin", "https://page.example.evil.test");
        let fetched = ("sec-fetch-site", "cross-site");
        for (spoken, lines, expected) in [
            (both, &[][..], Ok(Dialect::V1)),
            (both, &[v2], Ok(Dialect::V2)),
            (both, &[other], Err(400)),
            (both, &[page], Ok(Dialect::V1)),
            (both, &[page, fetched], Ok(Dialect::V1)),
            (both, &[page, v2], Err(403)),
            (both, &[page, page], Err(403)),
            (both, &[other_page], Err(403)),
            (both, &[page, other_page], Err(403)),
            (both, &[("origin", "null")], Err(403)),
            (both, &[fetched], Err(403)),
            (both, &[fetched, v2], Err(403)),
            (only_1, &[], Ok(Dialect::V1)),
            (only_1, &[v2], Err(400)),
            (only_2, &[], Err(400)),
            (only_2, &[page], Err(403)),
            (only_2, &[v2], Ok(Dialect::V2)),
        ] {
            assert_eq!(chosen(spoken, lines), expected, "{spoken:?} {lines:?}");
        }
    }
}
