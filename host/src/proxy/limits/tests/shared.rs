//! Buckets that several nodes share, over the tests' Redis.

use std::sync::Mutex;

use futures_util::{FutureExt, future::join_all};

use super::{
    super::{
        lease::{Ask, Grant, Terms},
        reach::Reach,
        shared::id,
    },
    relay::{Relay, Way},
    *,
};
use crate::redis::{
    cmd,
    tests::{prefix, redis},
};

const HOUR: Duration = Duration::from_secs(3600);

/// So slow that none comes back during a test.
fn hourly(burst: u32) -> Rate {
    Rate { tokens: NonZeroU32::MIN, per: HOUR, burst: NonZeroU32::new(burst).unwrap() }
}

fn node(reach: &Arc<Reach>, scope: &str, rate: Rate) -> RateLimit {
    let buckets = Buckets::new(rate, scope, Some(reach));
    RateLimit::new(Some(Arc::new(buckets)), Fake::new(async |_| ok("")))
}

/// Nodes with a connection each.
fn nodes<const N: usize>(scope: &str, rate: Rate) -> [RateLimit; N] {
    [(); N].map(|()| node(&Reach::new(redis()), scope, rate))
}

/// Whether a request passed; it is refused for no other reason than the rate.
async fn passes(node: &RateLimit) -> Result<(), Duration> {
    match node.forward(request()).await {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            ErrorKind::TooManyRequests { retry_after } => Err(retry_after),
            other => panic!("{other:?}: {error}"),
        },
    }
}

/// How many of so many requests at once pass, sent to the nodes in turn.
async fn passing(nodes: &[RateLimit], requests: usize) -> usize {
    let answers = (0..requests).map(|number| passes(&nodes[number % nodes.len()]));
    join_all(answers).await.into_iter().filter(Result::is_ok).count()
}

#[tokio::test]
async fn of_a_small_bucket_exactly_the_burst_passes() {
    let nodes = nodes::<3>(&prefix(), hourly(39));
    assert_eq!(passing(&nodes, 100).await, 39);
    assert_eq!(passing(&nodes, 10).await, 0);
    // Others aren't concerned.
    for node in &nodes {
        node.forward(contract::request(contract::name(2))).await.unwrap();
    }
}

#[tokio::test]
async fn of_a_large_bucket_a_batch_for_each_node_more_or_less_passes() {
    const BATCH: usize = 20;
    for at_once in [1, 7, 1000] {
        let nodes = nodes::<3>(&prefix(), hourly(400));
        let mut passed = 0;
        for _ in 0..1000_usize.div_ceil(at_once) {
            passed += passing(&nodes, at_once.next_multiple_of(nodes.len())).await;
        }
        let bounds = 400 - nodes.len() * BATCH..=400 + nodes.len() * BATCH;
        assert!(bounds.contains(&passed), "{passed} passed, {at_once} at once");
        for node in &nodes {
            assert!(passes(node).await.is_err());
        }
    }
}

#[tokio::test]
async fn refusals_say_when_there_is_a_token() {
    let rate = Rate { tokens: NonZeroU32::new(5).unwrap(), per: Duration::from_secs(60), ..hourly(5) };
    let two = nodes::<2>(&prefix(), rate);
    assert_eq!(passing(&two, 5).await, 5);
    // Asked for the first time, and known from then on.
    for node in two.iter().chain(&two) {
        let wait = passes(node).await.unwrap_err();
        assert!(wait > Duration::from_secs(9) && wait <= Duration::from_secs(12), "{wait:?}");
    }
    let rate = Rate { tokens: NonZeroU32::new(60).unwrap(), ..hourly(200) };
    let [large] = nodes(&prefix(), rate);
    assert!(passing(std::slice::from_ref(&large), 400).await < 400);
    let wait = passes(&large).await.unwrap_err();
    // What it spent ahead, at most a batch, comes first.
    assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(11 * 60), "{wait:?}");
}

#[tokio::test]
async fn tokens_come_back_at_the_rate() {
    for burst in [2, 100] {
        let each = Duration::from_millis(5);
        let rate = Rate::per_second(NonZeroU32::new(200).unwrap(), NonZeroU32::new(burst).unwrap());
        let nodes = nodes::<2>(&prefix(), rate);
        let (start, mut passed) = (Instant::now(), 0);
        // As many again as the burst, and twenty.
        while passed < 2 * burst + 20 {
            for node in &nodes {
                passed += u32::from(passes(node).await.is_ok());
            }
            // Redis' answers are read in between.
            tokio::task::yield_now().await;
        }
        let batches = 2 * Terms::of(rate).batch;
        let least = each * (passed - burst - batches);
        assert!(start.elapsed() >= least, "{passed} of {burst} in {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn nobody_waits_for_redis_while_there_is_something_in_hand() {
    let (relay, scope) = (Relay::start().await, prefix());
    let reach = Reach::new(relay.redis.clone());
    let [direct] = nodes(&scope, hourly(400));
    let node = node(&reach, &scope, hourly(400));
    relay.turn(Way::Held);
    for _ in 0..20 {
        assert_eq!(passes(&node).now_or_never(), Some(Ok(())), "a batch, ahead of the answer");
    }
    let mut next = Box::pin(passes(&node));
    assert!(futures_util::poll!(&mut next).is_pending());
    relay.turn(Way::Open);
    next.await.unwrap();
    assert!(!reach.is_away());
    // What went ahead was asked for.
    let left = passing(&[direct], 400).await;
    assert!((400 - 21 - 40..=400 - 21 + 20).contains(&left), "{left} were left");
}

#[tokio::test]
async fn without_redis_a_node_counts_by_itself_and_returns() {
    for (way, burst) in [(Way::Cut, 4), (Way::Held, 4), (Way::Cut, 100), (Way::Held, 100)] {
        let logged = Logged::begin();
        let (relay, scope) = (Relay::start().await, prefix());
        let reach = Reach::new(relay.redis.clone());
        let node = [node(&reach, &scope, hourly(burst))];
        assert_eq!(passing(&node, 1).await, 1);
        relay.redis.ping().await.unwrap();

        relay.turn(way);
        let asked = passing(&node, 3 * burst as usize).await;
        assert!(reach.is_away());
        // Its own bucket, and what it had in hand or spent ahead.
        let batch = Terms::of(hourly(burst)).batch as usize;
        let most = burst as usize + if batch > 1 { 2 * batch } else { 0 };
        assert!((burst as usize..=most).contains(&asked), "{asked} passed, {way:?}");
        assert!(passes(&node[0]).now_or_never().expect("at once").is_err());

        relay.turn(Way::Open);
        tokio::time::timeout(Duration::from_secs(30), reach.found()).await.unwrap();
        let left = passing(&node, 3 * burst as usize).await;
        let bounds = (burst as usize - 1).saturating_sub(3 * batch)..burst as usize + batch;
        assert!(bounds.contains(&left), "{left} were left, {way:?}");
        assert_eq!(logged.count("counts by itself"), 1);
        assert_eq!(logged.count("together with other nodes again"), 1);
    }
}

#[tokio::test]
async fn websockets_share_the_rate_and_lose_nothing() {
    let (far, mut seen) = mpsc::channel(64);
    let (scope, rate) =
        (prefix(), Rate::per_second(NonZeroU32::new(50).unwrap(), NonZeroU32::new(2).unwrap()));
    let nodes = [(); 2].map(|()| {
        let buckets = Buckets::new(rate, &scope, Some(&Reach::new(redis())));
        RateLimit::new(Some(Arc::new(buckets)), sockets(far.clone()))
    });
    let start = Instant::now();
    let sending = nodes.iter().map(|node| async {
        let Ok(Answer::WebSocket(mut accepted)) = node.forward(request()).await else { panic!() };
        for number in 0..6_u8 {
            accepted.duplex.outgoing.send(Event::Binary(vec![number].into())).await.unwrap();
        }
    });
    join_all(sending).await;
    // Two upgrades and twelve messages, of which the last two went ahead of their tokens; two were there.
    assert!(start.elapsed() >= Duration::from_millis(20 * 10 - 1), "{:?}", start.elapsed());
    let mut arrived: Vec<u8> = Vec::new();
    while let Ok(Event::Binary(message)) = seen.try_recv() {
        arrived.push(message[0]);
    }
    arrived.sort_unstable();
    assert_eq!(arrived, (0..6).flat_map(|number| [number; 2]).collect::<Vec<_>>());
}

/// Each message takes a token, also one that no other follows.
#[tokio::test]
async fn a_single_message_counts() {
    let (far, _seen) = mpsc::channel(64);
    let (scope, reach) = (prefix(), Reach::new(redis()));
    let buckets = Buckets::new(hourly(3), &scope, Some(&reach));
    let stage = RateLimit::new(Some(Arc::new(buckets)), sockets(far));
    let Ok(Answer::WebSocket(mut accepted)) = stage.forward(request()).await else { panic!() };
    accepted.duplex.outgoing.send(Event::Binary("one".into())).await.unwrap();
    assert_eq!(passing(&[node(&reach, &scope, hourly(3))], 3).await, 1);
}

/// Answers with WebSockets whose messages go there.
fn sockets(far: mpsc::Sender<Event>) -> Arc<dyn Forward> {
    Fake::new(move |_| {
        let outgoing = sink::unfold(far.clone(), async |far, event| {
            far.send(event).await.unwrap();
            Ok(far)
        });
        let duplex = Duplex { incoming: Box::pin(stream::empty()), outgoing: Box::pin(outgoing) };
        std::future::ready(Ok(Answer::WebSocket(Accepted { headers: HeaderMap::new(), duplex })))
    })
}

#[tokio::test]
async fn a_bucket_gives_what_it_has_and_takes_back_what_it_lacks() {
    let (reach, bucket) = (Reach::new(redis()), prefix());
    let terms = Terms { burst: 10, each: HOUR, batch: 1 };
    let ask = async |give_back, take| reach.try_ask(&bucket, &terms, Ask { take, give_back }).await.unwrap();
    assert_eq!(ask(0, 4).await.taken, 4);
    let Grant { taken, next } = ask(0, 10).await;
    assert_eq!(taken, 6);
    assert!(next <= HOUR && next > HOUR - Duration::from_secs(60), "{next:?}");
    assert_eq!(ask(0, 1).await.taken, 0);
    assert_eq!(ask(3, 2).await.taken, 2);
    assert_eq!(ask(0, 10).await.taken, 1);
    assert_eq!(ask(100, 20).await.taken, 10, "it holds no more than it can");
    let left: i64 = redis().call(cmd("PTTL").arg(format!("tunnel:rate:{bucket}"))).await.unwrap();
    let fills = Duration::from_millis(u64::try_from(left).unwrap());
    assert!(fills <= 10 * HOUR && fills > 10 * HOUR - Duration::from_secs(60), "{fills:?}");
}

#[tokio::test]
async fn a_bucket_is_exact_at_any_rate() {
    let reach = Reach::new(redis());
    for (tokens, per, burst) in
        [(3, 1, 1_000_000), (7, 60, 7), (1, 86_400, 365), (4_000_000_000, 1, u32::MAX)]
    {
        let number = |n| NonZeroU32::new(n).unwrap();
        let rate = Rate { tokens: number(tokens), per: Duration::from_secs(per), burst: number(burst) };
        let (bucket, terms) = (prefix(), Terms::of(rate));
        let take =
            async |take| reach.try_ask(&bucket, &terms, Ask { take, give_back: 0 }).await.unwrap().taken;
        assert_eq!(take(burst - 1).await, burst - 1);
        assert!(take(1).await == 1, "{rate:?}");
        assert!(per == 1 || take(1).await == 0, "{rate:?}");
    }
}

#[tokio::test]
async fn a_clock_that_was_put_back_empties_no_bucket_for_longer_than_it_takes_to_fill() {
    let (reach, bucket, redis) = (Reach::new(redis()), prefix(), redis());
    let key = format!("tunnel:rate:{bucket}");
    redis.call::<()>(cmd("SET").arg(&key).arg(9e15).arg("PX").arg(60_000)).await.unwrap();
    let terms = Terms { burst: 2, each: HOUR, batch: 1 };
    let grant = reach.try_ask(&bucket, &terms, Ask { take: 1, give_back: 0 }).await.unwrap();
    assert_eq!(grant.taken, 0);
    assert!(grant.next <= HOUR, "{grant:?}");
}

#[tokio::test]
async fn a_redis_that_refuses_is_none() {
    let (scope, redis) = (prefix(), redis());
    let reach = Reach::new(redis.clone());
    let node = node(&reach, &scope, hourly(2));
    passes(&node).await.unwrap();
    // Somebody has put something else in the bucket's place.
    let key = format!("tunnel:rate:{}:{}", id(&scope, hourly(2)), name());
    redis.call::<()>(cmd("DEL").arg(&key)).await.unwrap();
    redis.call::<()>(cmd("LPUSH").arg(&key).arg("x")).await.unwrap();
    passes(&node).await.unwrap();
    assert!(reach.is_away());
    redis.call::<()>(cmd("DEL").arg(&key)).await.unwrap();
}

/// What this thread logs while it is there.
struct Logged {
    bytes: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Logged {
    fn begin() -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&bytes);
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || Writer(Arc::clone(&writer)));
        Self { bytes, _guard: tracing::subscriber::set_default(subscriber.finish()) }
    }

    fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).matches(text).count()
    }
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
