//! Ten thousand tunnels at one proxy, and thousands that come at once. By default there are fewer, within the same bounds for each;
//! TUNNEL_TEST_FULL asks for all of them.

use std::{net::SocketAddr, sync::Arc};

use ed25519_dalek::SigningKey;
use futures_util::{StreamExt, stream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::harness::{
    Origin, Proxy, Tunnel,
    applicant::{self, Applicant},
    memory::Watch,
    origin::ok,
    path_text,
    tunnel::Home,
};

/// What one idle tunnel may take of the proxy's memory: 600 MB for ten thousand.
const MOST_OF_ONE: u64 = 60_000;

fn full() -> bool {
    std::env::var_os("TUNNEL_TEST_FULL").is_some()
}

/// A key for each number, the same in every run.
fn key(n: u32) -> SigningKey {
    let mut seed = [0x5a; 32];
    seed[..4].copy_from_slice(&n.to_le_bytes());
    SigningKey::from_bytes(&seed)
}

/// A registered tunnel; nothing where the proxy says that too many are registering just now.
async fn register(proxy: SocketAddr, n: u32) -> Option<Applicant> {
    let mut applicant = Applicant::try_connect(proxy).await?;
    let statement = applicant::statement(proxy, applicant.nonce);
    applicant.apply(statement.sign(&key(n))).await.unwrap_or_else(|refusal| panic!("{n}: {refusal:?}"));
    Some(applicant)
}

#[tokio::test]
async fn ten_thousand_idle_tunnels_take_little_memory() {
    let tunnels: u32 = if full() { 10_000 } else { 1_000 };
    let home = Home::new();
    let settings = home.write("proxy.toml", "[limits]\nping_after = '600s'\n");
    let proxy = Proxy::start(&["--config", path_text(&settings)]).await;
    // Threads, pages of code and tables that grow by steps are there after the first.
    let first: Vec<_> =
        stream::iter(0..50).map(|n| register(proxy.address, n)).buffer_unordered(16).collect().await;
    let watch = Watch::start(&proxy.process);
    let numbers = stream::iter(50..50 + tunnels);
    let all: Vec<_> = numbers.map(|n| register(proxy.address, n)).buffer_unordered(64).collect().await;
    assert!(first.iter().chain(&all).all(Option::is_some), "each is registered");
    let each = watch.rise() / u64::from(tunnels);
    println!("{each} bytes for each of {tunnels} tunnels");
    assert!(each <= MOST_OF_ONE, "{each} bytes for each of {tunnels} tunnels");
}

#[tokio::test]
async fn a_burst_of_registrations_leaves_visitors_served() {
    let clients: u32 = if full() { 5_000 } else { 1_000 };
    let origin = Origin::start().await.answering(|_| ok("served"));
    let tunnel = Tunnel::to(&origin.url()).await;
    let (proxy, over) = (tunnel.proxy.address, CancellationToken::new());
    let burst = async {
        // As many connections as a machine opens at once. One that is told that too many register comes again, as clients do.
        let room = Arc::new(Semaphore::new(2_000));
        let registering = (0..clients).map(|n| {
            let room = Arc::clone(&room);
            async move {
                let _turn = room.acquire().await.expect("it isn't closed");
                loop {
                    if let Some(applicant) = register(proxy, n).await {
                        return applicant;
                    }
                }
            }
        });
        let all = futures_util::future::join_all(registering).await;
        over.cancel();
        all.len()
    };
    let visitors = async {
        let mut answers = 0_u32;
        let mut visitor = tunnel.visit().await;
        while !over.is_cancelled() {
            visitor.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", tunnel.client.host())).await;
            let reply = visitor.reply("GET").await;
            assert_eq!((reply.status(), &reply.body[..]), (200, &b"served"[..]));
            answers += 1;
        }
        answers
    };
    let (registered, answers) = tokio::join!(burst, visitors);
    assert_eq!(registered, clients as usize);
    println!("{answers} answers while {clients} clients registered");
    assert!(answers > 0);
}
