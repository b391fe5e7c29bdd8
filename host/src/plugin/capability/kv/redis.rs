//! Buckets in Redis: all nodes see the same entries, and they outlive each of them.
//!
//! Owns the keys under `tunnel:kv:`. Must not know which bucket is whose.

use std::time::Duration;

use super::{BucketName, Place, Quota, Reply, Store, StoreError};
use crate::redis::{Redis, RedisError, Script};

/// Each operation is one run of it, and so one round trip.
const OPERATIONS: &str = include_str!("redis.lua");

/// What all keys begin with.
const PREFIX: &str = "tunnel:kv";

/// Redis' scores are doubles, which count milliseconds exactly up to here: 140,000 years. What lasts longer lasts forever.
const LONGEST: Duration = Duration::from_millis(1 << 52);

/// A store that all nodes share.
#[derive(Debug)]
pub struct RedisStore {
    redis: Redis,
    operations: Script,
    prefix: String,
}

/// What came of an operation, and a value if there is one.
type Outcome = (String, Option<Vec<u8>>);

impl RedisStore {
    /// A store in this database. It connects when it is first used.
    pub fn new(redis: Redis) -> Self {
        Self::under(PREFIX, redis)
    }

    fn under(prefix: impl Into<String>, redis: Redis) -> Self {
        Self { redis, operations: Script::new(OPERATIONS), prefix: prefix.into() }
    }

    /// The keys of a bucket's entries and of their expiries. What is in braces keeps them together in a cluster. The kind
    /// goes before the name and what they hold after it, so that no two are the same, whatever the names are.
    fn keys(&self, bucket: &BucketName) -> [String; 2] {
        let (kind, name) = match bucket {
            BucketName::Own(plugin) => ("own", plugin),
            BucketName::Shared(name) => ("shared", name),
        };
        ["entries", "expiries"].map(|part| format!("{}:{{{kind}:{name}}}:{part}", self.prefix))
    }

    /// Runs an operation that doesn't write a value.
    async fn look(&self, operation: &str, place: Place<'_>) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(operation, place, &[]).await.map(|(_, value)| value)
    }

    /// Runs an operation that writes a value; `rest` is what it needs beside quota and ttl.
    async fn write(
        &self,
        operation: &str,
        place: Place<'_>,
        quota: Quota,
        ttl: Option<Duration>,
        rest: &[&[u8]],
    ) -> Result<Outcome, StoreError> {
        let ttl = ttl.filter(|ttl| *ttl <= LONGEST).map(|ttl| ttl.as_millis().to_string());
        let (entries, bytes) = (quota.entries.to_string(), quota.bytes.to_string());
        let fixed = [entries.as_bytes(), bytes.as_bytes(), ttl.as_deref().unwrap_or_default().as_bytes()];
        self.run(operation, place, &[&fixed, rest].concat()).await
    }

    async fn run(&self, operation: &str, place: Place<'_>, rest: &[&[u8]]) -> Result<Outcome, StoreError> {
        let mut script = self.operations.arg(operation);
        script.arg(place.key).arg(rest);
        for key in self.keys(place.bucket) {
            script.key(key);
        }
        loop {
            let outcome: Outcome = self.redis.script(&script).await.map_err(unavailable)?;
            match outcome.0.as_str() {
                "full" => return Err(StoreError::Full),
                "not a number" => return Err(StoreError::NotANumber),
                // Many have expired in a bucket that is full: each run takes some of them away, and lets others run.
                "again" => {}
                _ => return Ok(outcome),
            }
        }
    }
}

/// What a plugin may hear of a failure.
fn unavailable(error: RedisError) -> StoreError {
    tracing::debug!(%error, "the store of plugins' entries failed");
    let says = match error {
        RedisError::Away { .. } => "the store can't be reached",
        RedisError::Lost(_) => "the store didn't answer: what was asked may have been done or not",
        RedisError::Refused(_) => "the store refused what was asked",
    };
    StoreError::Unavailable(says.to_owned())
}

impl Store for RedisStore {
    fn get<'a>(&'a self, place: Place<'a>) -> Reply<'a, Option<Vec<u8>>> {
        Box::pin(self.look("get", place))
    }

    fn set<'a>(
        &'a self,
        place: Place<'a>,
        value: &'a [u8],
        ttl: Option<Duration>,
        quota: Quota,
    ) -> Reply<'a, ()> {
        Box::pin(async move { self.write("set", place, quota, ttl, &[value]).await.map(|_| ()) })
    }

    fn remove<'a>(&'a self, place: Place<'a>) -> Reply<'a, ()> {
        Box::pin(async move { self.look("remove", place).await.map(|_| ()) })
    }

    fn increment<'a>(
        &'a self,
        place: Place<'a>,
        by: i64,
        ttl: Option<Duration>,
        quota: Quota,
    ) -> Reply<'a, i64> {
        Box::pin(async move {
            let by = by.to_string();
            let (_, sum) = self.write("increment", place, quota, ttl, &[by.as_bytes()]).await?;
            let sum = sum.and_then(|digits| str::from_utf8(&digits).ok()?.parse().ok());
            sum.ok_or(StoreError::NotANumber)
        })
    }

    fn swap<'a>(
        &'a self,
        place: Place<'a>,
        old: Option<&'a [u8]>,
        new: &'a [u8],
        ttl: Option<Duration>,
        quota: Quota,
    ) -> Reply<'a, bool> {
        Box::pin(async move {
            let rest = [Some(new), old];
            let rest: Vec<&[u8]> = rest.into_iter().flatten().collect();
            self.write("swap", place, quota, ttl, &rest).await.map(|(outcome, _)| outcome == "done")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::contract, *};
    use crate::redis::{
        cmd, pipe,
        tests::{prefix, redis},
    };

    fn empty() -> RedisStore {
        RedisStore::under(prefix(), redis())
    }

    /// Lets Redis say when so much of its time has passed: nobody pushes to this list.
    async fn pass(time: Duration) {
        let wait = cmd("BLPOP").arg(prefix()).arg(time.as_secs_f64()).to_owned();
        let patience = time + Duration::from_secs(10);
        redis().call_within::<Option<(String, String)>>(patience, &wait).await.unwrap();
    }

    contract::suite!(empty(), pass);

    const QUOTA: Quota = Quota { entries: 1000, bytes: 1 << 20 };

    /// How many fields and expiries a bucket has, and how many keys.
    async fn extent(store: &RedisStore, bucket: &BucketName) -> (u64, u64, u64) {
        let [entries, expiries] = store.keys(bucket);
        let mut look = pipe();
        look.cmd("HLEN").arg(&entries).cmd("ZCARD").arg(&expiries).cmd("EXISTS").arg(&entries).arg(&expiries);
        store.redis.run(&look).await.unwrap()
    }

    #[tokio::test]
    async fn what_has_expired_is_given_back_bit_by_bit() {
        let (store, bucket) = (empty(), BucketName::Own("p".to_owned()));
        let keys: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let place = |key| Place { bucket: &bucket, key };
        store.set(place("lasting"), b"x", None, QUOTA).await.unwrap();
        let ttl = Duration::from_secs(2);
        let sets = keys.iter().map(|key| store.set(place(key), b"x", Some(ttl), QUOTA));
        futures_util::future::try_join_all(sets).await.unwrap();
        assert_eq!(extent(&store, &bucket).await, (102, 100, 2));
        pass(ttl).await;
        for left in (0..25).rev() {
            store.set(place("lasting"), b"x", None, QUOTA).await.unwrap();
            assert_eq!(extent(&store, &bucket).await.1, 4 * left);
        }
        assert_eq!(extent(&store, &bucket).await, (2, 0, 1));
        let bytes = cmd("HGET").arg(&store.keys(&bucket)[0]).arg(b"\xff").to_owned();
        assert_eq!(store.redis.call::<u64>(&bytes).await, Ok(8));
    }

    #[tokio::test]
    async fn a_bucket_that_has_nothing_left_leaves_nothing() {
        let (store, bucket) = (empty(), BucketName::Shared("s".to_owned()));
        let place = |key| Place { bucket: &bucket, key };
        store.set(place("a"), b"", None, QUOTA).await.unwrap();
        store.remove(place("a")).await.unwrap();
        assert_eq!(extent(&store, &bucket).await, (0, 0, 0));
        // Nobody needs to come by for the last that expires.
        let ttl = Some(Duration::from_millis(100));
        store.set(place("a"), b"", None, QUOTA).await.unwrap();
        store.increment(place("b"), 1, ttl, QUOTA).await.unwrap();
        pass(Duration::from_millis(100)).await;
        assert_eq!(extent(&store, &bucket).await, (3, 1, 2), "one lasts");
        store.set(place("a"), b"", ttl, QUOTA).await.unwrap();
        pass(Duration::from_millis(100)).await;
        assert_eq!(extent(&store, &bucket).await, (0, 0, 0));
    }

    #[tokio::test]
    async fn all_nodes_see_the_same_entries() {
        let prefix = prefix();
        let nodes = [(); 3].map(|()| RedisStore::under(&prefix, redis()));
        let bucket = BucketName::Shared("s".to_owned());
        let place = Place { bucket: &bucket, key: "sum" };
        let counts = nodes.iter().flat_map(|node| (0..50).map(|_| node.increment(place, 1, None, QUOTA)));
        let mut sums = futures_util::future::try_join_all(counts).await.unwrap();
        sums.sort_unstable();
        assert_eq!(sums, (1..=150).collect::<Vec<_>>());
    }

    #[test]
    fn no_two_buckets_have_a_key_in_common() {
        let store = empty();
        let names = ["a", "own:a", "a}:entries", "a}:expiries", "}", "{", ""];
        let buckets = names
            .map(str::to_owned)
            .into_iter()
            .flat_map(|name| [BucketName::Own(name.clone()), BucketName::Shared(name)]);
        let keys: Vec<String> = buckets.flat_map(|bucket| store.keys(&bucket)).collect();
        let different: std::collections::BTreeSet<&String> = keys.iter().collect();
        assert_eq!(different.len(), names.len() * 4);
    }

    #[tokio::test]
    async fn a_store_that_is_away_says_so_and_not_where_it_was() {
        // A port that was free a moment ago, with nobody listening.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let away = Redis::new(format!("redis://:secret@127.0.0.1:{port}").parse().unwrap());
        let store = RedisStore::new(away);
        let bucket = BucketName::Own("p".to_owned());
        let error = store.get(Place { bucket: &bucket, key: "a" }).await.unwrap_err();
        assert_eq!(error, StoreError::Unavailable("the store can't be reached".to_owned()));
    }
}
