//! A visitor's upgrade to WebSocket (RFC 6455 section 4.2): what is asked, what is answered, and the joining of
//! both ends.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{OpenExchange, Shared, http2, outgoing::Outgoing};
use crate::exchange::{
    Accepted, Body, hygiene,
    websocket::{self, Duplex, Role},
};

/// A request to upgrade that can be granted.
pub(super) struct Offer {
    /// None for a stream of HTTP/2, which needs no proof that it is understood (RFC 8441 section 5).
    accept: Option<HeaderValue>,
    upgraded: OnUpgrade,
}

impl Offer {
    /// The Sec-WebSocket-Accept that grants it, and the connection that it becomes; `None` for a stream of HTTP/2.
    pub(super) fn into_parts(self) -> Option<(HeaderValue, OnUpgrade)> {
        Some((self.accept?, self.upgraded))
    }
}

/// Says of an answer that it grants an upgrade; by HTTP/2 its status doesn't.
#[derive(Clone, Copy)]
pub(super) struct Granted;

/// Why a request to upgrade can't be granted, whatever the origin says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadOffer {
    /// Another version than 13.
    Version,
    /// No key, or not 16 bytes in base64.
    Key,
    /// Bytes follow that are neither a request nor WebSocket frames.
    Body,
}

/// Reads a request to upgrade to WebSocket; `None` if it is anything else, which goes on as plain HTTP.
pub(super) fn offer<B: http_body::Body>(request: &mut http::Request<B>) -> Option<Result<Offer, BadOffer>> {
    let headers = request.headers();
    if http2::is_websocket(request) {
        return Some(
            version(headers).map(|()| Offer { accept: None, upgraded: hyper::upgrade::on(request) }),
        );
    }
    let asks = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && hygiene::lists(headers, &header::UPGRADE, "websocket")
        // Browsers send a list: `keep-alive, Upgrade`.
        && hygiene::lists(headers, &header::CONNECTION, "upgrade");
    if !asks {
        return None;
    }
    Some(check(headers, request.body().is_end_stream()).map(|accept| {
        let upgraded = hyper::upgrade::on(request);
        Offer { accept: Some(accept), upgraded }
    }))
}

fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn version(headers: &HeaderMap) -> Result<(), BadOffer> {
    let version = one(headers, &header::SEC_WEBSOCKET_VERSION);
    let good = version.is_some_and(|version| version.as_bytes().trim_ascii() == b"13");
    if good { Ok(()) } else { Err(BadOffer::Version) }
}

fn check(headers: &HeaderMap, bodiless: bool) -> Result<HeaderValue, BadOffer> {
    version(headers)?;
    let key = one(headers, &header::SEC_WEBSOCKET_KEY).ok_or(BadOffer::Key)?.as_bytes().trim_ascii();
    if STANDARD.decode(key).ok().is_none_or(|key| key.len() != 16) {
        return Err(BadOffer::Key);
    }
    if !bodiless {
        return Err(BadOffer::Body);
    }
    HeaderValue::try_from(derive_accept_key(key)).map_err(|_| BadOffer::Key)
}

/// Answers 101, or 200 by HTTP/2, and joins the visitor with the far end for as long as the WebSocket lasts.
pub(super) fn accept(offer: Offer, accepted: Accepted, exchange: OpenExchange) -> Response<Outgoing> {
    let Accepted { mut headers, duplex } = accepted;
    hygiene::upgrade_response(&mut headers);
    let status = match offer.accept {
        Some(accept) => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            StatusCode::SWITCHING_PROTOCOLS
        }
        None => StatusCode::OK,
    };
    let shared = exchange.shared.clone();
    shared.visitors.spawn(run(offer.upgraded, duplex, exchange));
    let mut response = Response::new(Outgoing::from(Body::empty()));
    *response.status_mut() = status;
    response.extensions_mut().insert(Granted);
    *response.headers_mut() = headers;
    response
}

/// Ends a connection whose upgrade was refused. Hyper gives it away as if it had been granted, once it can't serve
/// another request, and without the regular end: dropped as it is, it could reset what the visitor hasn't read.
pub(super) async fn refused(upgrade: OnUpgrade) {
    // Fails as soon as the connection ends in another way, or upgrades again.
    if let Ok(io) = upgrade.await {
        // Where it fails the visitor is gone already.
        let _ = TokioIo::new(io).shutdown().await;
    }
}

async fn run(upgraded: OnUpgrade, far: Duplex, exchange: OpenExchange) {
    let shared: &Shared = &exchange.shared;
    let both = async {
        // Fails if the visitor is gone; dropping the far end then breaks it off.
        let Ok(io) = upgraded.await else { return };
        let near =
            websocket::over(TokioIo::new(io), Role::Server, shared.config.limits.max_websocket_message);
        let tell = |way, bytes| exchange.observed.message(way, bytes);
        websocket::join_telling(near, far, &tell).await;
    };
    tokio::select! {
        biased;
        () = both => {}
        () = shared.killed_and_told() => {}
    }
}
