//! Two clients with one key, on different nodes: each request reaches one of them, once, whatever happens to the other.

use std::collections::HashMap;

use futures_util::{StreamExt, stream};

use crate::harness::{Client, Cluster, Door, Origin, Redis, Reply, Wire, origin, origin::Answering, within};

const POSTS: usize = 1_000;

/// Two origins, each behind a client of the same key at a node of its own.
struct Two {
    cluster: Cluster,
    origins: [Answering; 2],
    doors: Vec<Door>,
}

impl Two {
    /// The clients are given away, so that they can be ended meanwhile.
    async fn start() -> (Self, Client, Client) {
        let one = Origin::start().await.answering(|request| origin::ok(&request.body));
        let two = Origin::start().await.answering(|request| origin::ok(&request.body));
        let cluster = Cluster::start(&["--rate", "off"]).await;
        let (first, second) =
            (cluster.client_at(0, &one.url()).await, cluster.client_at(1, &two.url()).await);
        let mut doors: Vec<_> = (0..3).map(|node| cluster.door_at(node, &first)).collect();
        doors.push(cluster.door(&first));
        (Self { cluster, origins: [one, two], doors }, first, second)
    }

    /// How often each body arrived, at either origin.
    fn arrived(&self) -> HashMap<String, usize> {
        let mut times = HashMap::new();
        for request in self.origins.iter().flat_map(Answering::seen) {
            *times.entry(String::from_utf8_lossy(&request.body).into_owned()).or_default() += 1;
        }
        times
    }
}

/// Sends a number, and says what came of it: the answer, or nothing where the connection ended.
async fn post(door: &Door, number: usize) -> Option<Reply> {
    let mut visitor: Wire = door.visit().await;
    let body = number.to_string();
    let head = door.head("POST /once", &[&format!("Content-Length: {}", body.len())]);
    visitor.try_send(&[&head[..], body.as_bytes()].concat()).await.ok()?;
    let head = within("an answer", visitor.try_head()).await.ok()?;
    let (body, trailers) = visitor.rest_of_reply("POST", &head).await.ok()?;
    Some(Reply { interim: Vec::new(), head, body, trailers })
}

/// Sends posts to all doors in turn while `disturb` goes on, and says which had no answer of the origin's. Those that had
/// arrived once, the others at most once.
async fn posts(two: &Two, doors: &[Door], disturb: impl Future<Output = ()>) -> Vec<usize> {
    let send = async |number: usize| match post(&doors[number % doors.len()], number).await {
        Some(reply) if reply.status() == 200 => {
            assert_eq!(reply.text(), number.to_string());
            None
        }
        Some(reply) => {
            assert!(reply.error().is_some(), "{}: {}", reply.status(), reply.text());
            Some(number)
        }
        None => Some(number),
    };
    let sending = stream::iter(0..POSTS).map(send).buffer_unordered(20).filter_map(async |failed| failed);
    let (failed, ()) = tokio::join!(sending.collect::<Vec<usize>>(), disturb);
    let arrived = two.arrived();
    for number in 0..POSTS {
        let times = arrived.get(&number.to_string()).copied().unwrap_or_default();
        let answered = !failed.contains(&number);
        assert!(
            times == 1 || (times == 0 && !answered),
            "{number} arrived {times} times, answered: {answered}"
        );
    }
    failed
}

#[tokio::test]
async fn a_thousand_posts_reach_an_origin_exactly_once_each() {
    let (two, _first, _second) = Two::start().await;
    let failed = posts(&two, &two.doors, async {}).await;
    assert!(failed.is_empty(), "{failed:?}");
    for origin in &two.origins {
        assert!(!origin.seen().is_empty(), "both serve");
    }
}

#[tokio::test]
async fn a_client_that_takes_its_leave_and_comes_back_fails_nobody() {
    let (two, _first, mut second) = Two::start().await;
    let comings = async {
        for _ in 0..5 {
            let exit = second.process.stop().await;
            assert_eq!(exit.code, Some(0), "{exit:?}");
            second = two.cluster.client_at(1, &two.origins[1].url()).await;
        }
    };
    let failed = posts(&two, &two.doors, comings).await;
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test]
async fn nothing_arrives_twice_when_a_client_is_killed() {
    let (two, _first, mut second) = Two::start().await;
    let killings = async {
        for _ in 0..5 {
            second.process.kill().await;
            second = two.cluster.client_at(1, &two.origins[1].url()).await;
        }
    };
    let failed = posts(&two, &two.doors, killings).await;
    assert!(failed.len() < POSTS / 4, "{} failed", failed.len());
}

#[tokio::test]
async fn nothing_arrives_twice_when_a_node_is_killed() {
    let (mut two, _first, mut second) = Two::start().await;
    let mut node = two.cluster.nodes.remove(1);
    let killings = async {
        for _ in 0..2 {
            node.process.kill().await;
            node.start_again().await;
            second.process.event("reconnected").await;
        }
    };
    // Visitors of the node itself are out of luck while it is away.
    let doors = [two.doors[0].clone(), two.doors[2].clone()];
    let failed = posts(&two, &doors, killings).await;
    assert!(failed.len() < POSTS / 4, "{} failed", failed.len());
}

#[tokio::test]
async fn nothing_arrives_twice_when_redis_goes_and_comes_back() {
    let (mut two, _first, _second) = Two::start().await;
    // Another one takes its place, so that it can be ended meanwhile.
    let mut redis = std::mem::replace(&mut two.cluster.redis, Redis::start().await);
    let outages = async {
        for _ in 0..3 {
            redis.kill().await;
            redis.start_again().await;
        }
    };
    posts(&two, &two.doors, outages).await;
}
