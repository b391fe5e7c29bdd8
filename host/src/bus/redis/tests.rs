//! Two nodes in one process, over a real Redis.

use std::{sync::Arc, time::Instant};

use super::*;
use crate::{
    bus::contract::{self, Ends},
    redis::tests::redis,
};

/// A node that is connected.
async fn node() -> Arc<RedisBus> {
    let own = NodeId(getrandom::u64().unwrap());
    let bus = Arc::new(RedisBus::start(redis(), own, contract::MAX_SEATS, 1 << 20));
    bus.connected().await;
    assert_eq!(bus.standing(), Standing::Connected);
    bus
}

/// Waits until a node has heard all that was said before: at the latest when it hears itself again.
async fn caught_up(bus: &RedisBus) {
    let before = Instant::now();
    bus.core.say_alive().await;
    while bus.core.nodes().deaf_for(Instant::now()) > before.elapsed() {
        tokio::task::yield_now().await;
    }
}

mod one_node {
    use super::*;

    contract::suite!(async { Ends::same(node().await) });
}

mod two_nodes {
    use super::*;

    contract::suite!(async {
        let (here, there) = (node().await, node().await);
        let waits = Arc::clone(&here);
        Ends::of(here, there, move || {
            let here = Arc::clone(&waits);
            Box::pin(async move { caught_up(&here).await })
        })
    });
}
