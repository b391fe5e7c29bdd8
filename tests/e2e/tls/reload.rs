//! Certificates that change while visitors come.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use sha2::{Digest, Sha256};

use crate::harness::{
    Origin, Signal,
    certificate::{Pair, Secure},
    origin,
    secured::{NAMES, Secured},
    within,
};

/// The digest of the certificate that visitors are shown.
async fn shown(tunnel: &Secured, visitor: &Secure) -> Vec<u8> {
    let stream = visitor.try_visit(tunnel.address(), "localhost").await.expect("a handshake");
    let chain = stream.get_ref().1.peer_certificates().expect("a certificate");
    Sha256::digest(&chain[0]).to_vec()
}

fn renewed(tunnel: &Secured) -> Pair {
    tunnel.authority.server(NAMES)
}

#[tokio::test]
async fn a_new_certificate_is_taken_over_and_a_broken_one_is_not() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let mut tunnel = Secured::start(&origin.url(), "", &[]).await;
    let visitor = tunnel.visitor();
    let first = shown(&tunnel, &visitor).await;
    // A connection from before lives on.
    let mut old = tunnel.visit().await;
    renewed(&tunnel).write(&tunnel.proxy.home, "first");
    let second = within("the other certificate", async {
        loop {
            tunnel.proxy.process.event("reloaded").await;
            // Two files take two looks, if the first came between.
            let now = shown(&tunnel, &visitor).await;
            if now != first {
                break now;
            }
        }
    })
    .await;
    old.send(tunnel.get("/")).await;
    assert_eq!(old.reply("GET").await.status(), 200);

    std::fs::write(tunnel.proxy.home.file("first.pem"), "nothing").expect("a file");
    let failed = tunnel.proxy.process.event_where("reload_failed", |event| {
        event["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("first.pem: it has no certificate in it"))
    });
    failed.await;
    assert_eq!(shown(&tunnel, &visitor).await, second, "what was in force stays");

    // The pair is whole again; whoever renews may as well say so.
    let whole = renewed(&tunnel);
    whole.write(&tunnel.proxy.home, "first");
    tunnel.proxy.process.signal(Signal::HUP);
    within("the third certificate", async {
        while shown(&tunnel, &visitor).await == second {
            tunnel.proxy.process.event("reloaded").await;
        }
    })
    .await;
}

#[tokio::test]
async fn no_request_is_lost_while_certificates_change() {
    let origin = Origin::start().await.answering(|_| origin::ok("ok"));
    let mut tunnel = Secured::start(&origin.url(), "", &["--rate", "off"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (address, name, request) = (tunnel.address(), tunnel.name().to_owned(), tunnel.get("/"));
    let mut visitors = tokio::task::JoinSet::new();
    for number in 0..4 {
        let (secure, stop) = (tunnel.visitor(), Arc::clone(&stop));
        let (name, request) = (name.clone(), request.clone());
        visitors.spawn(async move {
            let mut kept = secure.visit(address, &name).await;
            let mut count = 0;
            while !stop.load(Relaxed) {
                // Half of them come anew each time.
                let fresh = if number % 2 == 0 { Some(secure.visit(address, &name).await) } else { None };
                let mut fresh = fresh;
                let visitor = fresh.as_mut().unwrap_or(&mut kept);
                visitor.send(&request).await;
                assert_eq!(visitor.reply("GET").await.status(), 200);
                count += 1;
            }
            count
        });
    }
    for _ in 0..5 {
        renewed(&tunnel).write(&tunnel.proxy.home, "first");
        tunnel.proxy.process.event("reloaded").await;
    }
    stop.store(true, Relaxed);
    for count in visitors.join_all().await {
        assert!(count > 0);
    }
}
