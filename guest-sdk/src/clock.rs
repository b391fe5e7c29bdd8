//! The time. (`std::time::SystemTime` doesn't work in every build for WebAssembly; this does.)

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::host::clock;

/// The time of day.
#[must_use]
pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(clock::now())
}

/// Seconds since 1970-01-01 UTC, as in tokens and signatures.
#[must_use]
pub fn unix_seconds() -> u64 {
    clock::now() / 1000
}

/// Milliseconds since 1970-01-01 UTC.
#[must_use]
pub fn unix_millis() -> u64 {
    clock::now()
}

/// A clock that never goes back; its start means nothing, and isn't the same in two instances.
#[must_use]
pub fn monotonic() -> Duration {
    Duration::from_nanos(clock::monotonic())
}
