//! Bytes of the operating system's secure generator.

use crate::host::random;

/// Random bytes, 64 KiB at most.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= 64 * 1024, "64 KiB at most in one call") };
    let mut bytes = [0; N];
    // The host gives what was asked for, up to its bound.
    bytes.copy_from_slice(&random::bytes(N as u32));
    bytes
}

/// A random number.
#[must_use]
pub fn u64() -> u64 {
    u64::from_le_bytes(bytes())
}
