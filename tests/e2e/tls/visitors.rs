//! Visitors' own certificates.

use crate::harness::{
    Origin, Reply,
    certificate::{Authority, Secure},
    origin,
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
