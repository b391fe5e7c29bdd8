//! A registration holds for the connection that it was made for, and nowhere else.

use futures_util::future::join_all;
use tunnel::wire::registration::Statement;

use crate::harness::{
    Cluster, Proxy,
    applicant::{Applicant, key, statement},
    path_text,
    tunnel::Home,
};

async fn code(applicant: &mut Applicant, signed: Vec<u8>) -> String {
    applicant.apply(signed).await.expect_err("it isn't for this connection").code
}

#[tokio::test]
async fn one_that_was_captured_registers_at_no_node() {
    let cluster = Cluster::start(&[]).await;
    let addresses: Vec<_> = cluster.nodes.iter().map(crate::harness::cluster::Node::address).collect();
    let mut victim = Applicant::connect(addresses[0]).await;
    // All nodes are known by the balancer's URL, so that the audience is right at each of them.
    let audience = format!("ws://{}/proxy/subscribe", cluster.nginx.address());
    let captured = Statement { audience, ..statement(addresses[0], victim.nonce) }.sign(&key(5));
    victim.apply(captured.clone()).await.expect("its own");
    for address in addresses.iter().copied().chain([cluster.nginx.address()]) {
        let mut thief = Applicant::connect(address).await;
        assert_eq!(code(&mut thief, captured.clone()).await, "wrong-nonce", "{address}");
    }
    // Nor once the victim has left.
    drop(victim);
    let mut thief = Applicant::connect(addresses[0]).await;
    assert_eq!(code(&mut thief, captured).await, "wrong-nonce");
}

#[tokio::test]
async fn one_that_was_made_for_another_proxy_registers_nowhere() {
    let [real, evil] = [Proxy::start(&[]).await, Proxy::start(&[]).await];
    // A proxy that passes on the nonce of another one, and what its client signs for it.
    let mut relay = Applicant::connect(real.address).await;
    let deceived = statement(evil.address, relay.nonce);
    assert_eq!(code(&mut relay, deceived.sign(&key(5))).await, "wrong-audience");
    // One whose name begins like that of the other.
    let mut relay = Applicant::connect(real.address).await;
    let audience = format!("ws://{}.evil.example/proxy/subscribe", real.address);
    let deceived = Statement { audience, ..statement(real.address, relay.nonce) };
    assert_eq!(code(&mut relay, deceived.sign(&key(5))).await, "wrong-audience");
}

#[tokio::test]
async fn one_whose_wishes_were_altered_is_refused() {
    let home = Home::new();
    let (wished, guest) = (key(5), key(6));
    let names = [&wished, &guest].map(|key| tunnel::wire::TunnelName::of_key(&key.verifying_key()));
    let [text, other] = ["blog", "shop"].map(|name| format!("hostnames = ['{name}']\n"));
    let settings = format!(
        "[[registration.key]]\nname = '{}'\n{text}[[registration.key]]\nname = '{}'\n{other}",
        names[0], names[1]
    );
    let settings = home.write("proxy.toml", &settings);
    let proxy = Proxy::start(&["--config", path_text(&settings)]).await;
    let mut applicant = Applicant::connect(proxy.address).await;
    let mut honest = statement(proxy.address, applicant.nonce);
    honest.hostname = Some("blog".parse().expect("a name"));
    honest.invitation = Some("come-in".into());
    let signed = honest.sign(&wished);
    // Words of the same length in the place of others, under the same signature.
    let alter = |from: &[u8], to: &[u8]| {
        let at =
            signed.windows(from.len()).position(|window| window == from).expect("it stands in plain sight");
        let mut altered = signed.clone();
        altered[at..at + to.len()].copy_from_slice(to);
        altered
    };
    for altered in [alter(b"blog", b"shop"), alter(b"come-in", b"come-on")] {
        let mut thief = Applicant::connect(proxy.address).await;
        assert_eq!(code(&mut thief, altered).await, "bad-signature");
    }
    // Signed anew by a key of one's own it is good, and gives what that key may have.
    let mut thief = Applicant::connect(proxy.address).await;
    let own = Statement { hostname: honest.hostname.clone(), ..statement(proxy.address, thief.nonce) };
    assert_eq!(code(&mut thief, own.sign(&guest)).await, "hostname-not-yours");
    applicant.apply(signed).await.expect("untouched it is good");
}

/// Many connections with one nonce's statement at once: only one may have it.
#[tokio::test]
async fn a_race_of_copies_is_won_by_the_connection_that_it_is_for() {
    let proxy = Proxy::start(&[]).await;
    let mut victim = Applicant::connect(proxy.address).await;
    let signed = statement(proxy.address, victim.nonce).sign(&key(5));
    let thieves = (0..20).map(|_| async {
        let mut thief = Applicant::connect(proxy.address).await;
        code(&mut thief, signed.clone()).await
    });
    let (registered, refused) = tokio::join!(victim.apply(signed.clone()), join_all(thieves));
    registered.expect("its own");
    assert!(refused.iter().all(|code| code == "wrong-nonce"), "{refused:?}");
}

/// Who proves to have the key has the name: the newest session with proof stands beside the others, and none of them can be pushed
/// out without it.
#[tokio::test]
async fn the_name_goes_to_whoever_has_the_key() {
    let proxy = Proxy::start(&[]).await;
    let mut names = Vec::new();
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut applicant = Applicant::connect(proxy.address).await;
        let signed = statement(proxy.address, applicant.nonce).sign(&key(5));
        names.push(applicant.apply(signed).await.expect("its own").name);
        kept.push(applicant);
    }
    assert_eq!(names[0], names[1]);
    let mut other = Applicant::connect(proxy.address).await;
    let signed = statement(proxy.address, other.nonce).sign(&key(6));
    assert_ne!(other.apply(signed).await.expect("its own").name, names[0]);
}
