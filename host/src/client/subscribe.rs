//! The upgrade by which a connection to the proxy becomes a session's socket (RFC 6455 section 4.1).
//!
//! Owns the request and what makes an answer to it a good one. What a refusal means is the caller's.

use bytes::Bytes;
use http::{
    Request, Response, StatusCode, Uri,
    header::{
        CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
        USER_AGENT,
    },
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use super::origin_websocket;
use crate::wire::SUBPROTOCOL;

/// What this program is, for the operator of the proxy.
const PROGRAM: &str = concat!("tunnel/", env!("CARGO_PKG_VERSION"));

/// Bytes that are read of an answer which is no upgrade: it is a sentence.
const LONGEST_ANSWER: usize = 16 * 1024;

/// What came of it.
pub(super) enum Subscribed<I> {
    /// The connection is a WebSocket now.
    Upgraded {
        /// The answer.
        response: Response<()>,
        /// The connection.
        io: I,
        /// What was read of it with the answer.
        read: Bytes,
    },
    /// Something else was answered.
    Answered(Response<Bytes>),
}

/// Why there is no answer, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubscribeError {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("it {0}")]
    Handshake(&'static str),
}

/// Asks for a session's WebSocket.
pub(super) async fn subscribe<I>(io: I, url: &Uri) -> Result<Subscribed<I>, SubscribeError>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let key = generate_key();
    let request = request(url, &key);
    let asking = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = match head.status {
            StatusCode::SWITCHING_PROTOCOLS => Bytes::new(),
            // One that is too long, or breaks off, is a refusal all the same.
            _ => Limited::new(body, LONGEST_ANSWER)
                .collect()
                .await
                .map_or_else(|_| Bytes::new(), |it| it.to_bytes()),
        };
        // Without `sender`, which goes here, the connection ends with the exchange.
        Ok(Response::from_parts(head, body))
    };
    let (parts, response) = tokio::try_join!(connection.without_shutdown(), asking)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Subscribed::Answered(response));
    }
    let offered = [SUBPROTOCOL.as_bytes().to_vec()];
    origin_websocket::check(response.headers(), &key, &offered).map_err(SubscribeError::Handshake)?;
    Ok(Subscribed::Upgraded { response: response.map(drop), io: parts.io.into_inner(), read: parts.read_buf })
}

fn request(url: &Uri, key: &str) -> Request<Empty<Bytes>> {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    // RFC 9110 section 7.2: credentials are no part of it.
    let host = authority.rsplit('@').next().unwrap_or(authority);
    Request::get(url.path())
        .header(HOST, host)
        .header(USER_AGENT, PROGRAM)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, key)
        .header(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        .body(Empty::new())
        .expect("what was read as a URL has a path and a host that lines can hold")
}
