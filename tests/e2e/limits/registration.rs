//! A registration holds for one connection, one proxy and one minute, and is tried once.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use tunnel::wire::{
    Decoded, Limits, Message,
    message::{Refusal, Registered},
    registration::Statement,
};

use crate::harness::{Frame, Frames, Head, Opcode, Proxy, Wire};

/// A connection that may register.
struct Applicant {
    frames: Frames,
    nonce: [u8; 32],
}

impl Applicant {
    async fn connect(proxy: &Proxy) -> Self {
        let (wire, head) = ask(proxy, "").await;
        assert_eq!(head.status(), 101, "{head:?}");
        let nonce = URL_SAFE_NO_PAD.decode(head.text("tunnel-nonce").expect("a nonce")).expect("base64url");
        Self { frames: Frames::of_visitor(wire), nonce: nonce.try_into().expect("32 bytes") }
    }

    async fn send(&mut self, message: &Message) {
        self.frames.send(Frame::whole(Opcode::Binary, message.encode())).await;
    }

    async fn apply(&mut self, signed: Vec<u8>) -> Result<Registered, Refusal> {
        self.send(&Message::RegistrationRequest { id: 7, statement: signed.into() }).await;
        let answer = self.frames.next().await;
        match Message::decode(Bytes::from(answer.payload), &Limits { headers: 0 }) {
            Ok(Decoded::Message(Message::RegistrationResponse { id: 7, outcome })) => outcome,
            other => panic!("{other:?}"),
        }
    }
}

async fn ask(proxy: &Proxy, field: &str) -> (Wire, Head) {
    let mut wire = Wire::connect(proxy.address).await;
    let address = proxy.address;
    wire.send(format!(
        "GET /proxy/subscribe HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: tunnel.v2.cbor\r\n{field}\r\n"
    ))
    .await;
    let head = wire.head().await;
    (wire, head)
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn statement(proxy: &Proxy, nonce: [u8; 32]) -> Statement {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let issued_at = i64::try_from(now).expect("for some time to come");
    Statement {
        nonce,
        audience: format!("ws://{}/proxy/subscribe", proxy.address),
        issued_at,
        expires_at: issued_at + 60,
        session: None,
    }
}

#[tokio::test]
async fn a_good_one_gets_the_name_of_its_key() {
    let mut proxy = Proxy::start(&[]).await;
    let mut applicant = Applicant::connect(&proxy).await;
    let statement = statement(&proxy, applicant.nonce);
    let registered = applicant.apply(statement.sign(&key())).await.expect("accepted");
    let name = statement.name(&key().verifying_key());
    assert_eq!(registered.hostname, format!("{name}.localhost"));
    assert_eq!(registered.public_url, format!("http://{name}.localhost:{}", proxy.address.port()));
    assert_eq!(proxy.process.event("registered").await["tunnel"], name.as_str());
}

#[tokio::test]
async fn a_replayed_foreign_old_or_forged_one_registers_nothing() {
    let mut proxy = Proxy::start(&[]).await;
    let captured = {
        let mut victim = Applicant::connect(&proxy).await;
        let signed = statement(&proxy, victim.nonce).sign(&key());
        victim.apply(signed.clone()).await.expect("accepted");
        signed
    };
    proxy.process.event("unregistered").await;
    let before = proxy.process.events("registered").len();
    type Change = fn(Statement) -> Statement;
    let changes: [(&str, Change); 5] = [
        ("wrong-audience", |it| Statement { audience: "wss://other.example/proxy/subscribe".into(), ..it }),
        ("expired", |it| Statement { issued_at: it.issued_at - 120, expires_at: it.expires_at - 120, ..it }),
        ("from-the-future", |it| Statement {
            issued_at: it.issued_at + 300,
            expires_at: it.expires_at + 300,
            ..it
        }),
        ("lives-too-long", |it| Statement { expires_at: it.expires_at + 1, ..it }),
        ("bad-session-label", |it| Statement { session: Some(String::new()), ..it }),
    ];
    let mut applicant = Applicant::connect(&proxy).await;
    let refusal = applicant.apply(captured).await.expect_err("a replay");
    assert_eq!((refusal.code.as_str(), refusal.retry), ("wrong-nonce", false));
    assert_eq!(applicant.frames.next().await.code(), Some(1008));
    for (code, change) in changes {
        let mut applicant = Applicant::connect(&proxy).await;
        let changed = change(statement(&proxy, applicant.nonce));
        let refusal = applicant.apply(changed.sign(&key())).await.expect_err(code);
        assert_eq!(refusal.code, code, "{}", refusal.text);
        assert_eq!(applicant.frames.next().await.code(), Some(1008), "{code}");
    }
    let mut applicant = Applicant::connect(&proxy).await;
    let mut forged = statement(&proxy, applicant.nonce).sign(&key());
    *forged.last_mut().expect("bytes") ^= 1;
    assert_eq!(applicant.apply(forged).await.expect_err("forged").code, "bad-signature");
    assert_eq!(proxy.process.events("registered").len(), before);
}

#[tokio::test]
async fn a_second_one_on_the_same_nonce_ends_the_connection() {
    let proxy = Proxy::start(&[]).await;
    let mut applicant = Applicant::connect(&proxy).await;
    let signed = statement(&proxy, applicant.nonce).sign(&key());
    applicant.apply(signed.clone()).await.expect("accepted");
    applicant.send(&Message::RegistrationRequest { id: 8, statement: signed.into() }).await;
    assert_eq!(applicant.frames.next().await.code(), Some(1002));
}

#[tokio::test]
async fn nothing_else_is_taken_before_it() {
    let proxy = Proxy::start(&[]).await;
    let mut applicant = Applicant::connect(&proxy).await;
    applicant.send(&Message::Ping).await;
    assert_eq!(applicant.frames.next().await.code(), Some(1002));
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_connection() {
    let proxy = Proxy::start(&[]).await;
    let mut early = Applicant::connect(&proxy).await;
    early.frames.send(Frame::whole(Opcode::Binary, vec![0; 600_000])).await;
    assert_eq!(early.frames.next().await.code(), Some(1009));
    let mut late = Applicant::connect(&proxy).await;
    let signed = statement(&proxy, late.nonce).sign(&key());
    late.apply(signed).await.expect("accepted");
    late.frames.send(Frame::whole(Opcode::Binary, vec![0; 600_000])).await;
    assert_eq!(late.frames.next().await.code(), Some(1009));
}

#[tokio::test]
async fn a_page_in_a_browser_is_turned_away() {
    let proxy = Proxy::start(&[]).await;
    let (_, head) = ask(&proxy, "Origin: https://evil.example\r\n").await;
    assert_eq!(head.status(), 403, "{head:?}");
}
