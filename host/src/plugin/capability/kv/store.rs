//! What a store of buckets has to do. Every store passes the suite in `contract.rs`.

use std::{fmt, future::Future, pin::Pin, time::Duration};

/// Names a bucket among those of all plugins.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BucketName {
    /// The one that a plugin has for itself, by the plugin's name.
    Own(String),
    /// One that plugins share, by its own name.
    Shared(String),
}

/// One entry's place.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The bucket.
    pub bucket: &'a BucketName,
    /// The key in it.
    pub key: &'a str,
}

/// How much a bucket may hold. In a shared bucket, what whoever writes may fill it up to.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    /// Entries.
    pub entries: usize,
    /// Bytes of keys and values together.
    pub bytes: usize,
}

/// Why a store didn't do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The bucket's quota is used up, and no entry in it has expired.
    #[error("the bucket is full")]
    Full,
    /// What is to be incremented isn't a whole number of 64 bits in plain decimal digits, or wouldn't be afterwards.
    #[error("the entry is no number that can be incremented by this")]
    NotANumber,
    /// The store can't be reached, or failed.
    #[error("{0}")]
    Unavailable(String),
}

/// What comes of an operation.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Buckets of entries, each a key and a value that may expire.
///
/// Each operation happens at once or not at all, whoever else works on the same entry: implementations do it in a single
/// step, which for a remote one is a single round trip. An entry that has expired is absent, and its room is free for
/// others. A `ttl` of `None` keeps an entry until it is removed. A bucket that is over a quota (because the quota became
/// smaller) takes what doesn't make it larger.
pub trait Store: fmt::Debug + Send + Sync {
    /// The present value.
    fn get<'a>(&'a self, place: Place<'a>) -> Reply<'a, Option<Vec<u8>>>;

    /// Sets or replaces value and ttl.
    fn set<'a>(
        &'a self,
        place: Place<'a>,
        value: &'a [u8],
        ttl: Option<Duration>,
        quota: Quota,
    ) -> Reply<'a, ()>;

    /// Removes an entry; it is no error if there is none.
    fn remove<'a>(&'a self, place: Place<'a>) -> Reply<'a, ()>;

    /// Adds to a number and gives the new one. An absent entry counts from 0 and gets the ttl; a present one keeps the
    /// ttl that it has.
    fn increment<'a>(
        &'a self,
        place: Place<'a>,
        by: i64,
        ttl: Option<Duration>,
        quota: Quota,
    ) -> Reply<'a, i64>;

    /// Sets value and ttl if the present value equals `old` (`None`: absent), and says whether it did.
    fn swap<'a>(
        &'a self,
        place: Place<'a>,
        old: Option<&'a [u8]>,
        new: &'a [u8],
        ttl: Option<Duration>,
        quota: Quota,
    ) -> Reply<'a, bool>;
}
