//! A key-value store.

/// A bucket that a guest has opened.
pub struct Bucket;
