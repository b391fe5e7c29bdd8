//! Upgrades to WebSocket at the origin: the client's half of the handshake (RFC 6455 section 4.1).

use http::{HeaderMap, HeaderValue, Method, header};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::{
    origin::{Origin, SWITCHING, bad_request, origin_form},
    origin_body::RequestBody,
    origin_h2::Way,
};
use crate::exchange::{
    Accepted, Answer, ErrorKind, ForwardError, Request, hygiene,
    websocket::{Role, over},
};

impl Origin {
    /// Asks the origin for a WebSocket. Its refusal is an answer like any other.
    pub(super) async fn upgrade(&self, request: Request) -> Result<Answer, ForwardError> {
        // An origin whose HTTP/2 knows no WebSockets is asked by HTTP/1.1, on a connection of its own.
        if let Way::Http2(place) = self.way().await?
            && place.takes_websockets()
        {
            return self.upgrade_h2(request, place).await;
        }
        let mut head = request.head;
        // Section 4.1 knows no other method.
        head.method = Method::GET;
        let key = generate_key();
        let mut headers = self.headers(&head)?;
        let key_header =
            HeaderValue::from_str(&key).map_err(|_| bad_request("the handshake's key is not valid"))?;
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(header::SEC_WEBSOCKET_KEY, key_header);
        // An extension changes the frames; the codec, and every stage that looks at messages, knows none.
        hygiene::retain(&mut headers, |name| {
            *name != header::SEC_WEBSOCKET_EXTENSIONS && *name != header::CONTENT_LENGTH
        });
        let offered = hygiene::tokens(&headers, &header::SEC_WEBSOCKET_PROTOCOL)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>();

        let outgoing = origin_form(&head, headers);
        let again = outgoing.clone();
        let whole = |request: http::Request<()>| request.map(|()| RequestBody::none());
        let (mut line, mut response) = self.send(whole(outgoing), None, || Some(whole(again))).await?;
        if response.status() != SWITCHING {
            return self.answer(response, None, Some(line)).map(Answer::Http);
        }
        check(response.headers(), &key, &offered).map_err(|detail| self.broken(detail))?;
        let upgraded = line
            .drive(hyper::upgrade::on(&mut response))
            .await
            .map_err(|error| self.broken("broke off after it accepted a WebSocket").because(error))?;
        let mut headers = std::mem::take(response.headers_mut());
        hygiene::upgrade_response(&mut headers);
        let duplex = over(TokioIo::new(upgraded), Role::Client, self.max_websocket_message);
        Ok(Answer::WebSocket(Accepted { headers, duplex }))
    }

    pub(super) fn broken(&self, what: &str) -> ForwardError {
        ForwardError::new(ErrorKind::OriginFailed, format!("{} {what}", self.url))
    }
}

/// Checks a 101 as section 4.1 asks: it is about WebSocket, it answers this very request, and it chose from what was
/// offered.
pub(super) fn check(headers: &HeaderMap, key: &str, offered: &[Vec<u8>]) -> Result<(), &'static str> {
    let upgrade = hygiene::lists(headers, &header::UPGRADE, "websocket");
    let connection = hygiene::lists(headers, &header::CONNECTION, "upgrade");
    if !upgrade || !connection {
        return Err("switched to another protocol than WebSocket");
    }
    let accept = headers.get(header::SEC_WEBSOCKET_ACCEPT);
    if accept.is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err("accepted a WebSocket with the wrong Sec-WebSocket-Accept");
    }
    chosen(headers, offered)
}

/// Checks that what was chosen had been offered.
pub(super) fn chosen(headers: &HeaderMap, offered: &[Vec<u8>]) -> Result<(), &'static str> {
    if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        return Err("chose a WebSocket extension that was not offered");
    }
    match headers.get(header::SEC_WEBSOCKET_PROTOCOL) {
        None => Ok(()),
        Some(chosen) if offered.iter().any(|offer| offer == chosen.as_bytes()) => Ok(()),
        Some(_) => Err("chose a WebSocket subprotocol that was not offered"),
    }
}

#[cfg(test)]
#[path = "tests/origin_websocket.rs"]
mod tests;
