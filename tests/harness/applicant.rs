//! A client that is played by hand: a connection that may register, and the statements for it.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use tunnel::wire::{
    Decoded, Limits, Message,
    message::{Refusal, Registered},
    registration::Statement,
};

use super::{Frame, Frames, Head, Opcode, Wire};

/// A connection that may register.
pub(crate) struct Applicant {
    pub(crate) frames: Frames,
    pub(crate) nonce: [u8; 32],
}

impl Applicant {
    pub(crate) async fn connect(proxy: SocketAddr) -> Self {
        Self::connect_with(proxy, "").await
    }

    /// Nothing where the proxy has too many of them just now.
    pub(crate) async fn try_connect(proxy: SocketAddr) -> Option<Self> {
        let (wire, head) = ask(proxy, "").await;
        (head.status() != 503).then(|| Self::attached(wire, &head))
    }

    /// With further lines in its request.
    pub(crate) async fn connect_with(proxy: SocketAddr, fields: &str) -> Self {
        let (wire, head) = ask(proxy, fields).await;
        Self::attached(wire, &head)
    }

    fn attached(wire: Wire, head: &Head) -> Self {
        assert_eq!(head.status(), 101, "{head:?}");
        let nonce = URL_SAFE_NO_PAD.decode(head.text("tunnel-nonce").expect("a nonce")).expect("base64url");
        Self { frames: Frames::of_visitor(wire), nonce: nonce.try_into().expect("32 bytes") }
    }

    pub(crate) async fn send(&mut self, message: &Message) {
        self.frames.send(Frame::whole(Opcode::Binary, message.encode())).await;
    }

    pub(crate) async fn apply(&mut self, signed: Vec<u8>) -> Result<Registered, Refusal> {
        self.send(&Message::RegistrationRequest { id: 7, statement: signed.into() }).await;
        self.outcome().await
    }

    /// What the proxy says next about the registration.
    pub(crate) async fn outcome(&mut self) -> Result<Registered, Refusal> {
        let answer = self.frames.next().await;
        match Message::decode(Bytes::from(answer.payload), &Limits { headers: 0 }) {
            Ok(Decoded::Message(Message::RegistrationResponse { outcome, .. })) => outcome,
            other => panic!("{other:?}"),
        }
    }
}

/// A request to attach, with further lines, and its answer.
pub(crate) async fn ask(proxy: SocketAddr, fields: &str) -> (Wire, Head) {
    let mut wire = Wire::connect(proxy).await;
    wire.send(format!(
        "GET /proxy/subscribe HTTP/1.1\r\nHost: {proxy}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: tunnel.v2.cbor\r\n{fields}\r\n"
    ))
    .await;
    let head = wire.head().await;
    (wire, head)
}

/// A key that is the same in every run.
pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

/// What a client states who dialled this proxy just now, for this nonce.
pub(crate) fn statement(proxy: SocketAddr, nonce: [u8; 32]) -> Statement {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let issued_at = i64::try_from(now).expect("for some time to come");
    Statement {
        nonce,
        audience: format!("ws://{proxy}/proxy/subscribe"),
        issued_at,
        expires_at: issued_at + 60,
        session: None,
        hostname: None,
        invitation: None,
    }
}
