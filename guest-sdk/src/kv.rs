//! Entries that outlive an instance, shared by all instances of the plugin: `grant = { kv = true }`.
//!
//! ```no_run
//! # fn main() -> guest_sdk::Result<()> {
//! use guest_sdk::kv;
//! use std::time::Duration;
//!
//! let hits = kv::open()?.increment("hits", 1, Some(Duration::from_secs(60)))?;
//! # Ok(()) }
//! ```

use std::{fmt, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Fault, Result as Outcome, bindings::plugin::kv, host};

/// The entries of one plugin, or of several that share a name.
pub struct Bucket(host::kv::Bucket);

/// Why the store didn't do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bucket isn't granted.
    Denied,
    /// The quota of entries or bytes is used up.
    Full,
    /// Key or value is over the bound: 256 bytes, 64 KiB.
    TooLarge,
    /// The store can't be reached, or another cause.
    Other(String),
}

type Result<T> = std::result::Result<T, Error>;

/// The plugin's own bucket.
///
/// # Errors
/// [`Error::Denied`], or the store can't be reached.
pub fn open() -> Result<Bucket> {
    named("default")
}

/// A bucket that the policy shares between plugins.
///
/// # Errors
/// [`Error::Denied`], or the store can't be reached.
pub fn named(name: &str) -> Result<Bucket> {
    Ok(Bucket(host::kv::Bucket::open(name)?))
}

impl Bucket {
    /// The value of an entry.
    ///
    /// # Errors
    /// The store can't be reached.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(key)?)
    }

    /// Sets an entry. Without `keep` it stays until it is removed.
    ///
    /// # Errors
    /// It is too large, the bucket is full, or the store can't be reached.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>, keep: Option<Duration>) -> Result<()> {
        Ok(self.0.set(key, value.as_ref(), millis(keep))?)
    }

    /// The value of an entry that was written as JSON.
    ///
    /// # Errors
    /// It can't be read as `T`, or the store can't be reached.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Outcome<Option<T>> {
        let value = self.get(key)?;
        value.map(|value| serde_json::from_slice(&value)).transpose().map_err(|error| {
            Fault::new(format!("the entry {key:?} isn't the JSON that was expected: {error}"))
        })
    }

    /// Sets an entry as JSON.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_json(&self, key: &str, value: &impl Serialize, keep: Option<Duration>) -> Outcome<()> {
        Ok(self.set(key, serde_json::to_vec(value)?, keep)?)
    }

    /// Removes an entry, if it is there.
    ///
    /// # Errors
    /// The store can't be reached.
    pub fn remove(&self, key: &str) -> Result<()> {
        Ok(self.0.remove(key)?)
    }

    /// Adds to a number in one step that nobody gets between, and returns the sum. An absent entry counts from 0, and its
    /// time starts then.
    ///
    /// # Errors
    /// The entry is no number, the bucket is full, or the store can't be reached.
    pub fn increment(&self, key: &str, by: i64, keep: Option<Duration>) -> Result<i64> {
        Ok(self.0.increment(key, by, millis(keep))?)
    }

    /// Sets an entry only if its present value is `old` (`None`: absent), and says whether it did.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn swap(
        &self,
        key: &str,
        old: Option<&[u8]>,
        new: impl AsRef<[u8]>,
        keep: Option<Duration>,
    ) -> Result<bool> {
        Ok(self.0.swap(key, old, new.as_ref(), millis(keep))?)
    }
}

/// The WIT's 0 means "until removed": a time that rounds to 0 must not become that.
fn millis(keep: Option<Duration>) -> u64 {
    keep.map_or(0, |keep| u64::try_from(keep.as_millis()).unwrap_or(u64::MAX).max(1))
}

impl From<kv::Error> for Error {
    fn from(error: kv::Error) -> Self {
        match error {
            kv::Error::Denied => Self::Denied,
            kv::Error::Full => Self::Full,
            kv::Error::TooLarge => Self::TooLarge,
            kv::Error::Other(cause) => Self::Other(cause),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("the kv bucket isn't granted: grant = { kv = true }"),
            Self::Full => {
                f.write_str("the kv bucket is full: raise its quota, or keep entries for a shorter time")
            }
            Self::TooLarge => f.write_str("a kv key may have 256 bytes, a value 64 KiB"),
            Self::Other(cause) => write!(f, "kv: {cause}"),
        }
    }
}

impl std::error::Error for Error {}
