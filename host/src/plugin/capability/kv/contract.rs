//! What every store must do, written once; each backend runs [`suite!`] over itself.

use std::{sync::Arc, time::Duration};

use super::{BucketName, Place, Quota, Store, StoreError};

/// Makes a test of each item of the contract. The arguments are an empty store, and a function whose future lets at least so
/// much of the store's time pass.
macro_rules! suite {
    ($store:expr, $pass:expr) => {
        $crate::plugin::capability::kv::contract::suite!($store, $pass;
            sets_and_gets, takes_any_bytes, buckets_are_apart, expires, a_write_replaces_the_ttl, increments,
            counts_with_all_bits, counts_from_zero_again, refuses_what_is_no_number, swaps, swaps_once,
            holds_the_number_of_entries, holds_the_bytes, expired_ones_make_room, many_expired_ones_make_room,
            what_fails_changes_nothing, over_the_quota_it_may_shrink);
    };
    ($store:expr, $pass:expr; $($test:ident),*) => {
        mod contract_suite {
            use super::*;
            $(#[tokio::test]
            async fn $test() {
                let pass = |time| -> futures_util::future::BoxFuture<'static, ()> { Box::pin($pass(time)) };
                contract::$test(contract::Bench::new($store, pass)).await;
            })*
        }
    };
}
pub(crate) use suite;

type Pass = Box<dyn Fn(Duration) -> futures_util::future::BoxFuture<'static, ()> + Send + Sync>;

/// A store under test, with one bucket at hand.
pub(super) struct Bench {
    store: Arc<dyn Store>,
    pass: Pass,
    bucket: BucketName,
    quota: Quota,
}

/// Long enough for a few operations, also of a store that has real time and is far away.
const TTL: Duration = Duration::from_secs(1);

impl Bench {
    pub(super) fn new(
        store: impl Store + 'static,
        pass: impl Fn(Duration) -> futures_util::future::BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            store: Arc::new(store),
            pass: Box::new(pass),
            bucket: BucketName::Own("p".to_owned()),
            quota: Quota { entries: 3, bytes: 100 },
        }
    }

    fn place<'a>(&'a self, key: &'a str) -> Place<'a> {
        Place { bucket: &self.bucket, key }
    }

    async fn get(&self, key: &str) -> Option<String> {
        let value = self.store.get(self.place(key)).await.unwrap();
        value.map(|value| String::from_utf8(value).unwrap())
    }

    async fn set(&self, key: &str, value: &str, ttl: Option<Duration>) -> Result<(), StoreError> {
        self.store.set(self.place(key), value.as_bytes(), ttl, self.quota).await
    }

    async fn remove(&self, key: &str) {
        self.store.remove(self.place(key)).await.unwrap();
    }

    async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, StoreError> {
        self.store.increment(self.place(key), by, ttl, self.quota).await
    }

    async fn swap(&self, key: &str, old: Option<&str>, new: &str) -> Result<bool, StoreError> {
        let old = old.map(str::as_bytes);
        self.store.swap(self.place(key), old, new.as_bytes(), None, self.quota).await
    }
}

pub(super) async fn sets_and_gets(bench: Bench) {
    assert_eq!(bench.get("a").await, None);
    bench.set("a", "1", None).await.unwrap();
    bench.set("", "", None).await.unwrap();
    assert_eq!(bench.get("a").await.as_deref(), Some("1"));
    assert_eq!(bench.get("").await.as_deref(), Some(""), "neither key nor value need have a byte");
    bench.set("a", "2", None).await.unwrap();
    assert_eq!(bench.get("a").await.as_deref(), Some("2"));
    for key in ["a", ""] {
        bench.remove(key).await;
        bench.remove(key).await;
        assert_eq!(bench.get(key).await, None);
    }
}

pub(super) async fn takes_any_bytes(bench: Bench) {
    let value: Vec<u8> = (30..=u8::MAX).rev().step_by(3).chain([0, b'\r', b'\n', 0]).collect();
    let place = bench.place("ключ\0\n}");
    bench.store.set(place, &value, None, bench.quota).await.unwrap();
    assert_eq!(bench.store.get(place).await, Ok(Some(value.clone())));
    assert_eq!(bench.store.swap(place, Some(&value[1..]), b"", None, bench.quota).await, Ok(false));
    assert_eq!(bench.store.swap(place, Some(&value), b"\xff", None, bench.quota).await, Ok(true));
    assert_eq!(bench.store.increment(place, 1, None, bench.quota).await, Err(StoreError::NotANumber));
    assert_eq!(bench.store.get(place).await, Ok(Some(b"\xff".to_vec())));
}

pub(super) async fn buckets_are_apart(mut bench: Bench) {
    bench.set("a", "own", None).await.unwrap();
    bench.bucket = BucketName::Shared("p".to_owned());
    assert_eq!(bench.get("a").await, None);
    bench.set("a", "shared", None).await.unwrap();
    bench.bucket = BucketName::Own("q".to_owned());
    assert_eq!(bench.get("a").await, None);
    bench.bucket = BucketName::Own("p".to_owned());
    assert_eq!(bench.get("a").await.as_deref(), Some("own"));
}

pub(super) async fn expires(bench: Bench) {
    bench.set("a", "1", Some(TTL)).await.unwrap();
    bench.set("b", "1", None).await.unwrap();
    assert_eq!(bench.get("a").await.as_deref(), Some("1"));
    (bench.pass)(TTL).await;
    assert_eq!(bench.get("a").await, None);
    assert_eq!(bench.get("b").await.as_deref(), Some("1"));
    bench.set("c", "1", Some(Duration::from_millis(u64::MAX))).await.unwrap();
    assert_eq!(bench.get("c").await.as_deref(), Some("1"));
}

pub(super) async fn a_write_replaces_the_ttl(bench: Bench) {
    bench.set("a", "1", Some(TTL)).await.unwrap();
    bench.set("a", "2", None).await.unwrap();
    bench.set("b", "1", Some(TTL)).await.unwrap();
    assert_eq!(bench.swap("b", Some("1"), "2").await, Ok(true));
    bench.set("c", "1", None).await.unwrap();
    bench.set("c", "2", Some(TTL)).await.unwrap();
    (bench.pass)(TTL).await;
    assert_eq!(bench.get("a").await.as_deref(), Some("2"));
    assert_eq!(bench.get("b").await.as_deref(), Some("2"));
    assert_eq!(bench.get("c").await, None);
}

pub(super) async fn increments(bench: Bench) {
    assert_eq!(bench.increment("a", 5, None).await, Ok(5));
    assert_eq!(bench.increment("a", -7, None).await, Ok(-2));
    assert_eq!(bench.get("a").await.as_deref(), Some("-2"), "in decimal digits");
    bench.set("b", "41", None).await.unwrap();
    assert_eq!(bench.increment("b", 1, None).await, Ok(42));
}

/// More than a double holds.
pub(super) async fn counts_with_all_bits(bench: Bench) {
    const FINE: i64 = (1 << 53) + 1;
    assert_eq!(bench.increment("a", FINE, None).await, Ok(FINE));
    assert_eq!(bench.increment("a", 1, None).await, Ok(FINE + 1));
    assert_eq!(bench.increment("a", 0, None).await, Ok(FINE + 1));
    assert_eq!(bench.increment("a", i64::MAX, None).await, Err(StoreError::NotANumber));
    assert_eq!(bench.increment("a", i64::MIN, None).await, Ok(i64::MIN + FINE + 1));
    assert_eq!(bench.increment("a", -FINE - 1, None).await, Ok(i64::MIN));
    assert_eq!(bench.increment("a", -1, None).await, Err(StoreError::NotANumber));
    assert_eq!(bench.get("a").await, Some(i64::MIN.to_string()));
    assert_eq!(bench.increment("a", i64::MAX, None).await, Ok(-1));
    assert_eq!(bench.increment("b", i64::MIN, None).await, Ok(i64::MIN));
}

/// A counter of so many a minute: its time starts with the first, and the others don't lengthen it.
pub(super) async fn counts_from_zero_again(bench: Bench) {
    assert_eq!(bench.increment("a", 1, Some(TTL)).await, Ok(1));
    (bench.pass)(TTL / 2).await;
    assert_eq!(bench.increment("a", 1, Some(TTL)).await, Ok(2));
    (bench.pass)(TTL * 3 / 4).await;
    assert_eq!(bench.get("a").await, None);
    assert_eq!(bench.increment("a", 1, Some(TTL)).await, Ok(1));
    bench.set("b", "1", None).await.unwrap();
    assert_eq!(bench.increment("b", 1, Some(TTL)).await, Ok(2));
    (bench.pass)(TTL).await;
    assert_eq!(bench.get("b").await.as_deref(), Some("2"), "what had no ttl has none now");
}

pub(super) async fn refuses_what_is_no_number(bench: Bench) {
    for text in ["", " 1", "1 ", "+1", "01", "-0", "1.0", "x", "9223372036854775808"] {
        bench.set("a", text, None).await.unwrap();
        assert_eq!(bench.increment("a", 1, None).await, Err(StoreError::NotANumber), "{text:?}");
        assert_eq!(bench.get("a").await.as_deref(), Some(text));
    }
    bench.set("a", &i64::MAX.to_string(), None).await.unwrap();
    assert_eq!(bench.increment("a", 1, None).await, Err(StoreError::NotANumber));
    assert_eq!(bench.increment("a", -1, None).await, Ok(i64::MAX - 1));
}

pub(super) async fn swaps(bench: Bench) {
    assert_eq!(bench.swap("a", Some(""), "1").await, Ok(false), "absent isn't empty");
    assert_eq!(bench.swap("a", None, "1").await, Ok(true));
    assert_eq!(bench.swap("a", None, "2").await, Ok(false));
    assert_eq!(bench.swap("a", Some("2"), "3").await, Ok(false));
    assert_eq!(bench.swap("a", Some("1"), "2").await, Ok(true));
    assert_eq!(bench.get("a").await.as_deref(), Some("2"));
    bench.set("b", "1", Some(TTL)).await.unwrap();
    (bench.pass)(TTL).await;
    assert_eq!(bench.swap("b", Some("1"), "2").await, Ok(false), "expired is absent");
    assert_eq!(bench.swap("b", None, "2").await, Ok(true));
}

/// Of many who increment and swap at once, each increment counts and one swap wins.
pub(super) async fn swaps_once(bench: Bench) {
    let bench = Arc::new(bench);
    let tasks = (0..20).map(|number| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move {
            bench.increment("sum", 1, None).await.unwrap();
            bench.swap("one", None, &number.to_string()).await.unwrap()
        })
    });
    let won = futures_util::future::join_all(tasks.collect::<Vec<_>>()).await;
    assert_eq!(won.into_iter().filter(|won| *won.as_ref().unwrap()).count(), 1);
    assert_eq!(bench.get("sum").await.as_deref(), Some("20"));
}

pub(super) async fn holds_the_number_of_entries(bench: Bench) {
    for key in ["a", "b", "c"] {
        bench.set(key, "", None).await.unwrap();
    }
    assert_eq!(bench.set("d", "", None).await, Err(StoreError::Full));
    assert_eq!(bench.increment("d", 1, None).await, Err(StoreError::Full));
    assert_eq!(bench.swap("d", None, "").await, Err(StoreError::Full));
    assert_eq!(bench.swap("d", Some("x"), "").await, Ok(false));
    bench.set("a", "again", None).await.unwrap();
    bench.remove("a").await;
    bench.set("d", "", None).await.unwrap();
}

pub(super) async fn holds_the_bytes(bench: Bench) {
    bench.set("key", &"x".repeat(90), None).await.unwrap();
    assert_eq!(bench.set("k", &"x".repeat(7), None).await, Err(StoreError::Full), "101 with the keys");
    bench.set("k", &"x".repeat(6), None).await.unwrap();
    assert_eq!(bench.set("k", &"x".repeat(7), None).await, Err(StoreError::Full));
    assert_eq!(bench.swap("k", Some("xxxxxx"), "xxxxxxx").await, Err(StoreError::Full));
    bench.set("key", &"x".repeat(85), None).await.unwrap();
    assert_eq!(bench.increment("n", 1000, None).await, Ok(1000));
    assert_eq!(bench.increment("n", 9000, None).await, Err(StoreError::Full), "one digit too many");
    assert_eq!(bench.increment("n", -1, None).await, Ok(999));
}

pub(super) async fn expired_ones_make_room(bench: Bench) {
    for key in ["a", "b", "c"] {
        bench.set(key, &"x".repeat(30), Some(TTL)).await.unwrap();
    }
    assert_eq!(bench.set("d", "", None).await, Err(StoreError::Full));
    (bench.pass)(TTL).await;
    bench.set("d", &"x".repeat(99), None).await.unwrap();
    bench.remove("d").await;
    for key in ["a", "b", "c"] {
        bench.set(key, &"x".repeat(30), None).await.unwrap();
    }
}

/// More of them than a store may take away in one step.
pub(super) async fn many_expired_ones_make_room(mut bench: Bench) {
    const MANY: usize = 1000;
    bench.quota = Quota { entries: MANY + 1, bytes: 3 * MANY };
    let keys: Vec<String> = (0..MANY).map(|number| format!("{number:03}")).collect();
    let sets = keys.iter().map(|key| bench.set(key, "", Some(TTL)));
    futures_util::future::try_join_all(sets).await.unwrap();
    (bench.pass)(TTL).await;
    bench.set("large", &"x".repeat(3 * MANY - 5), None).await.unwrap();
    assert_eq!(bench.set("one", "", None).await, Err(StoreError::Full));
    assert_eq!(bench.get("000").await, None);
}

pub(super) async fn what_fails_changes_nothing(bench: Bench) {
    bench.set("a", "1", Some(TTL)).await.unwrap();
    assert_eq!(bench.set("a", &"x".repeat(100), None).await, Err(StoreError::Full));
    assert_eq!(bench.swap("a", Some("1"), &"x".repeat(100)).await, Err(StoreError::Full));
    assert_eq!(bench.get("a").await.as_deref(), Some("1"));
    (bench.pass)(TTL).await;
    assert_eq!(bench.get("a").await, None, "its ttl stayed too");
}

pub(super) async fn over_the_quota_it_may_shrink(mut bench: Bench) {
    bench.set("a", "12345", None).await.unwrap();
    bench.set("b", "12345", None).await.unwrap();
    bench.quota = Quota { entries: 1, bytes: 5 };
    assert_eq!(bench.set("a", "123456", None).await, Err(StoreError::Full));
    assert_eq!(bench.set("c", "", None).await, Err(StoreError::Full));
    bench.set("a", "1234", None).await.unwrap();
    bench.set("a", "5678", None).await.unwrap();
    assert_eq!(bench.increment("b", 1, None).await, Ok(12346));
}
