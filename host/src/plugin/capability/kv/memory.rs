//! Buckets in this process's memory. They end with it.

use std::{
    collections::{BTreeSet, HashMap},
    future::ready,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{BucketName, Place, Quota, Reply, Store, StoreError};

/// Expired entries that each write takes away: more than it can add, so that they never pile up, and few, so that a
/// hundred thousand that expire together hold up nobody.
const SWEEP: usize = 4;

/// A store in memory.
#[derive(Debug, Default)]
pub(in super::super) struct Memory(Mutex<HashMap<BucketName, Arc<Mutex<Bucket>>>>);

#[derive(Debug, Default)]
struct Bucket {
    entries: HashMap<Arc<str>, Entry>,
    /// Entries with a ttl, the first to expire first.
    expiries: BTreeSet<(Instant, Arc<str>)>,
    /// Of keys and values, also of entries that have expired and are still there.
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    value: Box<[u8]>,
    expires: Option<Instant>,
}

impl Memory {
    /// Does one operation while nobody else is at the bucket.
    fn on<T>(&self, bucket: &BucketName, act: impl FnOnce(&mut Bucket, Instant) -> T) -> T {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = match buckets.get(bucket) {
            Some(bucket) => Arc::clone(bucket),
            None => Arc::clone(buckets.entry(bucket.clone()).or_default()),
        };
        drop(buckets);
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut bucket, Instant::now())
    }
}

impl Bucket {
    fn get(&self, key: &str, now: Instant) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.expires.is_none_or(|expires| now < expires))
    }

    fn remove(&mut self, key: &str) {
        if let Some((key, entry)) = self.entries.remove_entry(key) {
            self.bytes -= key.len() + entry.value.len();
            if let Some(expires) = entry.expires {
                self.expiries.remove(&(expires, key));
            }
        }
    }

    /// Takes the entry away that expired first, if one has.
    fn sweep(&mut self, now: Instant) -> bool {
        match self.expiries.first() {
            Some((expires, key)) if *expires <= now => {
                let key = Arc::clone(key);
                self.remove(&key);
                true
            }
            _ => false,
        }
    }

    fn put(
        &mut self,
        key: &str,
        value: &[u8],
        expires: Option<Instant>,
        quota: Quota,
        now: Instant,
    ) -> Result<(), StoreError> {
        for _ in 0..SWEEP {
            self.sweep(now);
        }
        while !self.fits(key, value, quota) {
            if !self.sweep(now) {
                return Err(StoreError::Full);
            }
        }
        self.remove(key);
        let key: Arc<str> = key.into();
        self.bytes += key.len() + value.len();
        if let Some(expires) = expires {
            self.expiries.insert((expires, Arc::clone(&key)));
        }
        self.entries.insert(key, Entry { value: value.into(), expires });
        Ok(())
    }

    fn fits(&self, key: &str, value: &[u8], quota: Quota) -> bool {
        let replaced = self.entries.get(key);
        let entries = self.entries.len() + usize::from(replaced.is_none());
        let freed = replaced.map_or(0, |entry| key.len() + entry.value.len());
        let bytes = self.bytes - freed + key.len() + value.len();
        (entries <= quota.entries || replaced.is_some()) && (bytes <= quota.bytes || bytes <= self.bytes)
    }

    fn increment(
        &mut self,
        key: &str,
        by: i64,
        ttl: Option<Duration>,
        quota: Quota,
        now: Instant,
    ) -> Result<i64, StoreError> {
        let (number, expires) = match self.get(key, now) {
            Some(entry) => (number(&entry.value)?, entry.expires),
            None => (0, end(now, ttl)),
        };
        let sum = number.checked_add(by).ok_or(StoreError::NotANumber)?;
        self.put(key, sum.to_string().as_bytes(), expires, quota, now)?;
        Ok(sum)
    }
}

/// A number as this store writes it: no sign but `-`, no zeros ahead. Redis takes no others either.
fn number(value: &[u8]) -> Result<i64, StoreError> {
    let text = std::str::from_utf8(value).ok();
    let number = text.and_then(|text| text.parse::<i64>().ok().filter(|number| number.to_string() == text));
    number.ok_or(StoreError::NotANumber)
}

/// When an entry expires; never, if that is beyond what the clock can count.
fn end(now: Instant, ttl: Option<Duration>) -> Option<Instant> {
    ttl.and_then(|ttl| now.checked_add(ttl))
}

impl Store for Memory {
    fn get<'a>(&'a self, place: Place<'a>) -> Reply<'a, Option<Vec<u8>>> {
        let value =
            self.on(place.bucket, |bucket, now| bucket.get(place.key, now).map(|entry| entry.value.to_vec()));
        Box::pin(ready(Ok(value)))
    }

    fn set<'a>(
        &'a self,
        place: Place<'a>,
        value: &'a [u8],
        ttl: Option<Duration>,
        quota: Quota,
    ) -> Reply<'a, ()> {
        let set = |bucket: &mut Bucket, now| bucket.put(place.key, value, end(now, ttl), quota, now);
        Box::pin(ready(self.on(place.bucket, set)))
    }

    fn remove<'a>(&'a self, place: Place<'a>) -> Reply<'a, ()> {
        self.on(place.bucket, |bucket, _| bucket.remove(place.key));
        Box::pin(ready(Ok(())))
    }

    fn increment<'a>(
        &'a self,
        place: Place<'a>,
        by: i64,
        ttl: Option<Duration>,
        quota: Quota,
    ) -> Reply<'a, i64> {
        let increment = |bucket: &mut Bucket, now| bucket.increment(place.key, by, ttl, quota, now);
        Box::pin(ready(self.on(place.bucket, increment)))
    }

    fn swap<'a>(
        &'a self,
        place: Place<'a>,
        old: Option<&'a [u8]>,
        new: &'a [u8],
        ttl: Option<Duration>,
        quota: Quota,
    ) -> Reply<'a, bool> {
        let swap = |bucket: &mut Bucket, now| {
            if bucket.get(place.key, now).map(|entry| &*entry.value) != old {
                return Ok(false);
            }
            bucket.put(place.key, new, end(now, ttl), quota, now).map(|()| true)
        };
        Box::pin(ready(self.on(place.bucket, swap)))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::contract, *};

    fn empty() -> Memory {
        tokio::time::pause();
        Memory::default()
    }

    contract::suite!(empty(), tokio::time::advance);

    #[tokio::test(start_paused = true)]
    async fn what_has_expired_is_given_back_bit_by_bit() {
        let store = Memory::default();
        let bucket = BucketName::Own("p".to_owned());
        let quota = Quota { entries: 1000, bytes: 1 << 20 };
        for number in 0..100 {
            let key = number.to_string();
            let place = Place { bucket: &bucket, key: &key };
            store.set(place, b"x", Some(Duration::from_millis(10)), quota).await.unwrap();
        }
        tokio::time::advance(Duration::from_millis(20)).await;
        for _ in 0..100 / SWEEP {
            let place = Place { bucket: &bucket, key: "one" };
            store.set(place, b"x", None, quota).await.unwrap();
        }
        store.on(&bucket, |bucket, _| {
            assert_eq!((bucket.entries.len(), bucket.expiries.len(), bucket.bytes), (1, 0, 4));
        });
    }
}
