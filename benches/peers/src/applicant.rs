//! A client that registers and does nothing else, as docs/protocol.md has it: of these there may be thousands in one process.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use coset::{
    AsCborValue, CborSerializable, CoseKeyBuilder, CoseSign1Builder, HeaderBuilder,
    cbor::{self, Value},
    cwt::{ClaimsSetBuilder, Timestamp},
    iana::{self, CwtClaimName, EnumI64},
};
use ed25519_dalek::{Signer, SigningKey};
use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

/// Numbers of the protocol: kinds of messages (the value of key 0), and keys.
const KIND: u8 = 0;
const ID: u8 = 1;
const HOSTNAME: u8 = 4;
const STATEMENT: u8 = 13;
const REGISTRATION_REQUEST: u8 = 1;
const REGISTRATION_RESPONSE: u8 = 2;

/// Ping and Pong, whole: a map of the kind alone.
const PING: &[u8] = &[0xa1, KIND, 12];
const PONG: &[u8] = &[0xa1, KIND, 13];

/// Seconds for which a statement holds.
const LIFETIME: i64 = 60;

/// A registered tunnel.
pub(crate) struct Applicant(WebSocketStream<TcpStream>);

impl Applicant {
    /// Connects, and registers under the name of a key.
    ///
    /// # Errors
    /// There is no proxy, or it refuses.
    pub(crate) async fn register(proxy: SocketAddr, key: &SigningKey) -> Result<Self> {
        let url = format!("ws://{proxy}/proxy/subscribe");
        let mut request = url.as_str().into_client_request()?;
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("tunnel.v2.cbor"));
        let socket = TcpStream::connect(proxy).await.context("nobody listens")?;
        socket.set_nodelay(true)?;
        // Thousands of these are in one process.
        let small = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
        let (mut socket, response) = client_async_with_config(request, socket, Some(small)).await?;
        let nonce = response.headers().get("tunnel-nonce").context("there is no nonce in its answer")?;
        let statement = statement(url, URL_SAFE_NO_PAD.decode(nonce)?, key)?;
        let request =
            map([(KIND, REGISTRATION_REQUEST.into()), (ID, 1.into()), (STATEMENT, Value::Bytes(statement))])?;
        socket.send(Message::binary(request)).await?;
        match socket.next().await {
            Some(Ok(Message::Binary(answer))) => accepted(&answer)?,
            other => bail!("no answer to a registration: {other:?}"),
        }
        Ok(Self(socket))
    }

    /// Answers pings until the proxy ends the session.
    pub(crate) async fn stay(mut self) {
        while let Some(Ok(message)) = self.0.next().await {
            if &message.into_data()[..] == PING && self.0.send(Message::binary(PONG)).await.is_err() {
                return;
            }
        }
    }
}

/// A key for each number, the same in every run.
pub(crate) fn key(number: u64) -> SigningKey {
    let mut seed = [0xbe; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    SigningKey::from_bytes(&seed)
}

/// Who the client is, signed for this connection alone.
fn statement(url: String, nonce: Vec<u8>, key: &SigningKey) -> Result<Vec<u8>> {
    let public = CoseKeyBuilder::new_okp_key()
        .param(iana::OkpKeyParameter::Crv.to_i64(), Value::from(iana::EllipticCurve::Ed25519.to_i64()))
        .param(iana::OkpKeyParameter::X.to_i64(), Value::Bytes(key.verifying_key().to_bytes().to_vec()))
        .build();
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let confirmed = Value::Map(vec![(1.into(), public.to_cbor_value()?)]);
    let claims = ClaimsSetBuilder::new()
        .audience(url)
        .issued_at(Timestamp::WholeSeconds(now))
        .expiration_time(Timestamp::WholeSeconds(now + LIFETIME))
        .claim(CwtClaimName::Cnf, confirmed)
        .claim(CwtClaimName::Nonce, Value::Bytes(nonce))
        .text_claim("version".to_owned(), 2.into())
        .build();
    let signed = CoseSign1Builder::new()
        .protected(HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).build())
        .payload(claims.to_vec()?)
        .create_signature(b"tunnel registration v2", |bytes| key.sign(bytes).to_bytes().to_vec())
        .build();
    Ok(signed.to_vec()?)
}

fn map<const N: usize>(entries: [(u8, Value); N]) -> Result<Vec<u8>> {
    let entries = entries.map(|(key, value)| (key.into(), value)).to_vec();
    let mut encoded = Vec::new();
    cbor::into_writer(&Value::Map(entries), &mut encoded)?;
    Ok(encoded)
}

fn accepted(answer: &[u8]) -> Result<()> {
    let answer: Value = cbor::from_reader(answer)?;
    let entries = answer.as_map().context("the answer is no map")?;
    let has = |key: u8| entries.iter().find(|(number, _)| *number == key.into()).map(|(_, value)| value);
    ensure!(has(KIND) == Some(&REGISTRATION_RESPONSE.into()), "an answer of another kind: {answer:?}");
    ensure!(has(HOSTNAME).is_some(), "it was refused: {answer:?}");
    Ok(())
}
