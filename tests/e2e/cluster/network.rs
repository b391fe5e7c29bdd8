//! A network that fails between one node and Redis: as if Redis were away for that node alone.

use std::time::{Duration, Instant};

use crate::harness::{
    Client, Cluster, Door, Redis, Relay,
    cluster::Place,
    load::{self, Load, Sockets},
    netns::Namespace,
    origin::{Handling, vacant},
    within,
};

/// Tunnels on the far side of a partition are back in this time after it.
const BACK: Duration = Duration::from_secs(5);

/// A node that can't be reached is given up in this time, and what can't be reached is said.
const NOTICED: Duration = Duration::from_secs(8);

/// The node that the partition cuts off.
const ISLAND: usize = 0;

/// A client at the node that will be cut off, and one with another key at the mainland.
struct Partition {
    cluster: Cluster,
    island: Client,
    mainland: Client,
    _origin: Handling,
}

impl Partition {
    async fn of(cluster: Cluster) -> Self {
        let origin = load::echoing().await;
        let key = |name: &str| cluster.home.file(name);
        let url = |node: usize| cluster.nodes[node].url();
        let island = Client::start(&url(ISLAND), &origin.url(), &key("island.pem"), &[]).await;
        let mainland = Client::start(&url(1), &origin.url(), &key("mainland.pem"), &[]).await;
        Self { cluster, island, mainland, _origin: origin }
    }

    /// Cuts and heals so many times, and checks what every visitor gets.
    async fn survives(&self, times: usize, cut: impl Fn(), heal: impl Fn()) {
        let (cluster, island, mainland) = (&self.cluster, &self.island, &self.mainland);
        // Never fails: what doesn't cross the cut.
        let mut undisturbed = Vec::new();
        for door in
            [cluster.door_at(ISLAND, island), cluster.door_at(1, mainland), cluster.door_at(2, mainland)]
        {
            undisturbed.push((Load::start(&door, 1), Sockets::open(&door, 2).await));
        }
        let across =
            [cluster.door_at(1, island), cluster.door_at(2, island), cluster.door_at(ISLAND, mainland)];
        for _ in 0..times {
            for door in &across {
                until(door, 200).await;
            }
            cut();
            let begin = Instant::now();
            for door in &across {
                until(door, 503).await;
                let reply = door.get("/").await;
                assert_eq!(reply.status(), 503, "{}", reply.text());
                assert!(reply.head.has("retry-after"), "{}", reply.text());
            }
            assert!(begin.elapsed() < NOTICED, "noticed after {:?}", begin.elapsed());
            assert_eq!(cluster.nodes[ISLAND].health("/healthz").await, 200);
            for (load, _) in &undisturbed {
                load.goes_on_for(50).await;
            }
            heal();
            let begin = Instant::now();
            for door in &across {
                until(door, 200).await;
            }
            assert!(begin.elapsed() < BACK, "back after {:?}", begin.elapsed());
        }
        for (load, sockets) in undisturbed {
            load.goes_on_for(50).await;
            load.finish().await.all_well();
            assert_eq!(sockets.finish().await, vec![load::End::Alive; 2]);
        }
    }
}

/// Asks until this status comes; whatever comes before is an answer that says something.
async fn until(door: &Door, status: u16) {
    within(&format!("answers with {status}"), async {
        loop {
            let reply = door.get("/").await;
            if reply.status() == status {
                return;
            }
            assert!(reply.status() == 200 || reply.error().is_some(), "{}", reply.text());
        }
    })
    .await;
}

#[tokio::test]
async fn a_partition_between_a_node_and_redis_is_survived() {
    let (redis, relay) = (Redis::start().await, Relay::start().await);
    relay.lead_to(redis.address());
    let (direct, through) = (redis.url(), format!("redis://{}", relay.address()));
    let cluster = Cluster::over(redis, &[&through, &direct, &direct], &["--rate", "off"]).await;
    Partition::of(cluster).await.survives(2, || relay.hold(), || relay.release()).await;
}

#[tokio::test]
async fn connections_to_redis_that_die_without_a_word_are_replaced() {
    let (redis, relay) = (Redis::start().await, Relay::start().await);
    relay.lead_to(redis.address());
    let (direct, through) = (redis.url(), format!("redis://{}", relay.address()));
    let cluster = Cluster::over(redis, &[&through, &direct, &direct], &[]).await;
    let partition = Partition::of(cluster).await;
    let before = relay.accepted();
    relay.silence();
    let begin = Instant::now();
    for (node, client) in [(1, &partition.island), (ISLAND, &partition.mainland)] {
        let door = partition.cluster.door_at(node, client);
        assert_eq!(partition.cluster.door_at(ISLAND, &partition.island).get("/").await.status(), 200);
        // What is under way when a connection dies is given up within moments, and the next one works.
        within("new connections", async {
            while relay.accepted() == before {
                let _ = door.get("/").await;
            }
        })
        .await;
        until(&door, 200).await;
    }
    assert!(begin.elapsed() < 2 * NOTICED, "after {:?}", begin.elapsed());
}

#[tokio::test]
async fn a_slow_way_to_redis_is_no_failure() {
    let (redis, relay) = (Redis::start().await, Relay::start().await);
    relay.lead_to(redis.address());
    let (direct, through) = (redis.url(), format!("redis://{}", relay.address()));
    let cluster = Cluster::over(redis, &[&through, &direct, &direct], &["--rate", "off"]).await;
    let partition = Partition::of(cluster).await;
    // Between continents; and then as if every other packet were sent again.
    for (delay, jitter) in [(80, 20), (20, 300)] {
        relay.slow(Duration::from_millis(delay), Duration::from_millis(jitter));
        crosses_well(&partition).await;
    }
}

/// Requests both ways over the link, and WebSockets: all well.
async fn crosses_well(partition: &Partition) {
    let doors = [(1, &partition.island), (ISLAND, &partition.mainland)]
        .map(|(node, client)| partition.cluster.door_at(node, client));
    let mut all = Vec::new();
    for door in &doors {
        all.push((Load::start(door, 20), Sockets::open(door, 2).await));
    }
    for (load, sockets) in all {
        load.reaches(60).await;
        load.finish().await.all_well();
        assert_eq!(sockets.finish().await, vec![load::End::Alive; 2]);
    }
}

/// A cluster whose first node is inside of the namespace.
async fn inside(namespace: &Namespace) -> Partition {
    let address = (namespace.redis(), vacant().await.port()).into();
    // Redis takes nobody from elsewhere who needs no password, unless it is told to.
    let open = ["--port", &format!("{}", std::net::SocketAddr::port(&address)), "--protected-mode", "no"];
    let redis = Redis::start_with(address, &open).await;
    let url = redis.url();
    let island = Place::new(namespace.listen(), namespace.admin(), &url).inside(namespace.name());
    let places = vec![island, Place::anywhere(&url).await, Place::anywhere(&url).await];
    Partition::of(Cluster::at(redis, places, &["--rate", "off"]).await).await
}

#[tokio::test]
async fn a_link_to_redis_that_goes_down_and_comes_up_is_survived() {
    let Some(namespace) = Namespace::make() else { return };
    inside(&namespace).await.survives(1, || namespace.down(), || namespace.up()).await;
}

#[tokio::test]
async fn a_link_to_redis_that_delays_and_loses_packets_is_no_failure() {
    let Some(namespace) = Namespace::make() else { return };
    if namespace.trouble("delay 30ms 20ms loss 2%") {
        crosses_well(&inside(&namespace).await).await;
    }
}
