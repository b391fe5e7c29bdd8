//! A registration holds for one connection, one proxy and one minute, and is tried once.

use tunnel::wire::{Message, registration::Statement};

use crate::harness::{
    Frame, Opcode, Proxy,
    applicant::{Applicant, ask, key, statement},
};

#[tokio::test]
async fn a_good_one_gets_the_name_of_its_key() {
    let mut proxy = Proxy::start(&[]).await;
    let mut applicant = Applicant::connect(proxy.address).await;
    let statement = statement(proxy.address, applicant.nonce);
    let registered = applicant.apply(statement.sign(&key(5))).await.expect("accepted");
    let name = statement.name(&key(5).verifying_key());
    assert_eq!(registered.hostname, format!("{name}.localhost"));
    assert_eq!(registered.public_url, format!("http://{name}.localhost:{}", proxy.address.port()));
    assert_eq!(proxy.process.event("registered").await["tunnel"], name.as_str());
}

#[tokio::test]
async fn a_replayed_foreign_old_or_forged_one_registers_nothing() {
    let mut proxy = Proxy::start(&[]).await;
    let captured = {
        let mut victim = Applicant::connect(proxy.address).await;
        let signed = statement(proxy.address, victim.nonce).sign(&key(5));
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
    let mut applicant = Applicant::connect(proxy.address).await;
    let refusal = applicant.apply(captured).await.expect_err("a replay");
    assert_eq!((refusal.code.as_str(), refusal.retry), ("wrong-nonce", false));
    assert_eq!(applicant.frames.next().await.code(), Some(1008));
    for (code, change) in changes {
        let mut applicant = Applicant::connect(proxy.address).await;
        let changed = change(statement(proxy.address, applicant.nonce));
        let refusal = applicant.apply(changed.sign(&key(5))).await.expect_err(code);
        assert_eq!(refusal.code, code, "{}", refusal.text);
        assert_eq!(applicant.frames.next().await.code(), Some(1008), "{code}");
    }
    let mut applicant = Applicant::connect(proxy.address).await;
    let mut forged = statement(proxy.address, applicant.nonce).sign(&key(5));
    *forged.last_mut().expect("bytes") ^= 1;
    assert_eq!(applicant.apply(forged).await.expect_err("forged").code, "bad-signature");
    assert_eq!(proxy.process.events("registered").len(), before);
}

#[tokio::test]
async fn a_second_one_on_the_same_nonce_ends_the_connection() {
    let proxy = Proxy::start(&[]).await;
    let mut applicant = Applicant::connect(proxy.address).await;
    let signed = statement(proxy.address, applicant.nonce).sign(&key(5));
    applicant.apply(signed.clone()).await.expect("accepted");
    applicant.send(&Message::RegistrationRequest { id: 8, statement: signed.into() }).await;
    assert_eq!(applicant.frames.next().await.code(), Some(1002));
}

#[tokio::test]
async fn nothing_else_is_taken_before_it() {
    let proxy = Proxy::start(&[]).await;
    let mut applicant = Applicant::connect(proxy.address).await;
    applicant.send(&Message::Ping).await;
    assert_eq!(applicant.frames.next().await.code(), Some(1002));
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_connection() {
    let proxy = Proxy::start(&[]).await;
    let mut early = Applicant::connect(proxy.address).await;
    early.frames.send(Frame::whole(Opcode::Binary, vec![0; 600_000])).await;
    assert_eq!(early.frames.next().await.code(), Some(1009));
    let mut late = Applicant::connect(proxy.address).await;
    let signed = statement(proxy.address, late.nonce).sign(&key(5));
    late.apply(signed).await.expect("accepted");
    late.frames.send(Frame::whole(Opcode::Binary, vec![0; 600_000])).await;
    assert_eq!(late.frames.next().await.code(), Some(1009));
}

#[tokio::test]
async fn a_page_in_a_browser_is_turned_away() {
    let proxy = Proxy::start(&[]).await;
    let (_, head) = ask(proxy.address, "Origin: https://evil.example\r\n").await;
    assert_eq!(head.status(), 403, "{head:?}");
}
