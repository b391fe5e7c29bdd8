//! Visitors' own certificates.

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::harness::{
    Origin, Reply,
    certificate::{Authority, Pair, Secure},
    compiled, guest, origin, path_text,
    secured::{NAMES, Secured},
    tunnel::Home,
};

async fn start(origin: &str, wanted: &str) -> (Secured, Authority) {
    let (authority, visitors, home) = (Authority::new(), Authority::new(), Home::new());
    std::fs::write(home.file("visitors.pem"), visitors.pem()).expect("a file");
    let pair = authority.server(NAMES);
    let more = format!("client_ca = 'visitors.pem'\nclient_certificates = '{wanted}'");
    (Secured::with(authority, home, &[("first", pair)], &more, &[], origin).await, visitors)
}

async fn ask(tunnel: &Secured, visitor: &Secure) -> Reply {
    let mut wire = visitor.visit(tunnel.address(), tunnel.name()).await;
    wire.send(tunnel.get("/")).await;
    wire.reply("GET").await
}

#[tokio::test]
async fn where_one_is_required_a_visitor_without_is_refused_and_a_client_is_not() {
    let origin = Origin::start().await.answering(|_| origin::ok("in"));
    // The client is in already, by its key.
    let (tunnel, visitors) = start(&origin.url(), "required").await;
    ask(&tunnel, &tunnel.visitor()).await.explained(403, "certificate-required");
    assert_eq!(origin.seen().len(), 0);
    let alice = tunnel.visitor().known_by(&visitors.visitor("alice"));
    assert_eq!(ask(&tunnel, &alice).await.status(), 200);
    // TLS 1.2 resumes and presents it in other ways.
    let alice = tunnel.visitor().by_1_2().known_by(&visitors.visitor("alice"));
    assert_eq!(ask(&tunnel, &alice).await.status(), 200);
    assert_eq!(ask(&tunnel, &alice).await.status(), 200);
}

#[tokio::test]
async fn one_that_somebody_else_signed_ends_the_handshake() {
    let origin = Origin::start().await.answering(|_| origin::ok("in"));
    let (tunnel, _) = start(&origin.url(), "optional").await;
    assert_eq!(ask(&tunnel, &tunnel.visitor()).await.status(), 200);
    let mallory = tunnel.visitor().by_1_2().known_by(&Authority::new().visitor("alice"));
    let refused = mallory.try_visit(tunnel.address(), tunnel.name()).await;
    assert!(refused.is_err());
    assert_eq!(origin.seen().len(), 1);
}

/// A plugin that answers with what it knows of the visitor's TLS.
fn asking() -> String {
    let wasm = guest("probe");
    format!(
        "[[plugin]]\nname = 'probe'\nfile = {wasm:?}\ngrant = {{ kv = true, http = ['http://127.0.0.1:1'], \
         secrets = {{ key = {{ env = 'HOME' }} }} }}\n"
    )
}

async fn known(tunnel: &Secured, visitor: &Secure) -> Value {
    let mut wire = visitor.visit(tunnel.address(), tunnel.name()).await;
    wire.send(tunnel.get("/").replace("\r\n\r\n", "\r\nscript: [[\"tls\"]]\r\n\r\n")).await;
    let reply = wire.reply("GET").await;
    assert_eq!(reply.status(), 200, "{}", reply.text());
    serde_json::from_str(&reply.text()).expect("JSON")
}

fn sha256(pair: &Pair) -> String {
    let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("a certificate");
    Sha256::digest(&der).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn plugins_at_both_ends_are_told_of_a_visitors_tls_and_certificate() {
    let origin = Origin::start().await.answering(|_| origin::ok("in"));
    for at_client in [false, true] {
        let (authority, visitors, home) = (Authority::new(), Authority::new(), Home::new());
        std::fs::write(home.file("visitors.pem"), visitors.pem()).expect("a file");
        let pair = authority.server(NAMES);
        let mut more = "client_ca = 'visitors.pem'\n".to_owned();
        std::fs::write(home.file("tunnel.toml"), asking()).expect("a file");
        if !at_client {
            more += &(asking() + "[[policy]]\ndomain = '*'\nplugins = ['probe']\n");
        }
        let cache = compiled();
        let arguments = ["--plugin-cache", cache.as_str()];
        let config = home.file("tunnel.toml");
        let client = if at_client {
            vec!["--config", path_text(&config), "--plugin-cache", &cache]
        } else {
            Vec::new()
        };
        let tunnel = Secured::beside(
            authority,
            home.clone(),
            &[("first", pair)],
            &more,
            &arguments,
            &origin.url(),
            &client,
        )
        .await;
        let alice = visitors.visitor("alice");
        let by_1_2 = tunnel.visitor().by_1_2().offering(&["http/1.1"]).known_by(&alice);
        let told = known(&tunnel, &by_1_2).await;
        assert_eq!(
            (told["version"].as_str(), told["alpn"].as_str()),
            (Some("1.2"), Some("http/1.1")),
            "{told}"
        );
        assert_eq!(told["server-name"].as_str(), Some(tunnel.name()));
        assert!(told["cipher"].as_str().is_some_and(|name| name.starts_with("TLS_ECDHE_")), "{told}");
        assert_eq!(told["client"]["subject"], "CN=alice");
        assert_eq!(told["client"]["sha256"], sha256(&alice));
        let told = known(&tunnel, &tunnel.visitor()).await;
        assert_eq!((told["version"].as_str(), told["client"].is_null()), (Some("1.3"), true), "{told}");
        assert!(
            told["cipher"]
                .as_str()
                .is_some_and(|name| name.starts_with("TLS_AES_") || name.starts_with("TLS_CHACHA20_")),
            "{told}"
        );
    }
}
