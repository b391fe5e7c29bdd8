//! The key-value store as guests see it: which bucket a name is, and the bounds of keys and values.

#[cfg(test)]
mod contract;
mod memory;
mod redis;
mod store;

pub(super) use memory::Memory;
pub use redis::RedisStore;
pub use store::{BucketName, Place, Quota, Reply, Store, StoreError};

use std::time::Duration;

use wasmtime::component::Resource;

use super::{
    super::{bindings::tunnel::plugin::kv, state::State},
    Lent,
};

/// Longest key, in bytes. As `wit/host.wit` says.
const MAX_KEY: usize = 256;

/// Longest value, in bytes. As `wit/host.wit` says.
const MAX_VALUE: usize = 64 << 10;

/// How a plugin calls the bucket that is its own.
const OWN: &str = "default";

/// A bucket that a guest has opened.
pub struct Bucket(BucketName);

type Answer<T> = wasmtime::Result<Result<T, kv::Error>>;

/// Goes on with what `$result` holds, or answers the guest with its error.
macro_rules! or_tell {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => return Ok(Err(error.into())),
        }
    };
}

impl From<StoreError> for kv::Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::Full,
            other => Self::Other(other.to_string()),
        }
    }
}

impl Lent {
    fn bucket(&self, name: &str) -> Result<BucketName, kv::Error> {
        let grant = &self.loan.grant;
        if name == OWN && grant.kv {
            Ok(BucketName::Own(self.loan.plugin.to_string()))
        } else if name != OWN && grant.shared_kv.iter().any(|shared| shared == name) {
            Ok(BucketName::Shared(name.to_owned()))
        } else {
            Err(kv::Error::Denied)
        }
    }

    fn quota(&self) -> Quota {
        let limits = &self.loan.limits;
        Quota { entries: limits.kv_entries, bytes: limits.kv_bytes }
    }
}

impl State {
    fn place<'a>(
        &'a self,
        bucket: &Resource<Bucket>,
        key: &'a str,
    ) -> wasmtime::Result<Result<Place<'a>, kv::Error>> {
        let Bucket(bucket) = self.table.get(bucket)?;
        Ok(if key.len() > MAX_KEY { Err(kv::Error::TooLarge) } else { Ok(Place { bucket, key }) })
    }

    fn store(&self) -> &dyn Store {
        &*self.lent.loan.stock.kv
    }
}

fn checked(value: &[u8]) -> Result<&[u8], kv::Error> {
    if value.len() > MAX_VALUE { Err(kv::Error::TooLarge) } else { Ok(value) }
}

/// `None` keeps an entry until it is removed.
fn lifetime(ttl_ms: u64) -> Option<Duration> {
    (ttl_ms > 0).then(|| Duration::from_millis(ttl_ms))
}

impl kv::Host for State {}

impl kv::HostBucket for State {
    async fn open(&mut self, name: String) -> Answer<Resource<Bucket>> {
        let bucket = or_tell!(self.lent.bucket(&name));
        // A guest that never gives handles back fills the table of its own instance.
        let full = |_| kv::Error::Other("too many handles are open: drop those that are done".to_owned());
        Ok(self.table.push(Bucket(bucket)).map_err(full))
    }

    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let place = or_tell!(self.place(&bucket, &key)?);
        Ok(self.store().get(place).await.map_err(Into::into))
    }

    async fn set(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
        ttl_ms: u64,
    ) -> Answer<()> {
        let place = or_tell!(self.place(&bucket, &key)?);
        let value = or_tell!(checked(&value));
        Ok(self.store().set(place, value, lifetime(ttl_ms), self.lent.quota()).await.map_err(Into::into))
    }

    async fn remove(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let place = or_tell!(self.place(&bucket, &key)?);
        Ok(self.store().remove(place).await.map_err(Into::into))
    }

    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        by: i64,
        ttl_ms: u64,
    ) -> Answer<i64> {
        let place = or_tell!(self.place(&bucket, &key)?);
        Ok(self.store().increment(place, by, lifetime(ttl_ms), self.lent.quota()).await.map_err(Into::into))
    }

    async fn swap(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        old: Option<Vec<u8>>,
        new: Vec<u8>,
        ttl_ms: u64,
    ) -> Answer<bool> {
        let place = or_tell!(self.place(&bucket, &key)?);
        let new = or_tell!(checked(&new));
        // No entry is as large, and a store far away needn't hear of it.
        if old.as_ref().is_some_and(|old| old.len() > MAX_VALUE) {
            return Ok(Ok(false));
        }
        let (old, ttl, quota) = (old.as_deref(), lifetime(ttl_ms), self.lent.quota());
        Ok(self.store().swap(place, old, new, ttl, quota).await.map_err(Into::into))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}
