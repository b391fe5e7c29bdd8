//! State of an exchange as the bytes that the host keeps.
//!
//! Owns the format: postcard, because state travels with every call. No bytes at all are the default, so that what never
//! was set costs nothing.

use serde::{Serialize, de::DeserializeOwned};

use crate::{Fault, Result};

pub(crate) fn read<S: DeserializeOwned + Default>(bytes: &[u8]) -> Result<S> {
    if bytes.is_empty() {
        return Ok(S::default());
    }
    postcard::from_bytes(bytes)
        .map_err(|error| Fault::new(format!("the state that an earlier hook left can't be read: {error}")))
}

pub(crate) fn write<S: Serialize>(state: &S) -> Result<Vec<u8>> {
    postcard::to_allocvec(state).map_err(|error| Fault::new(format!("the state can't be kept: {error}")))
}

/// What the host has to keep instead of `before`, if anything.
pub(crate) fn changed<S: Serialize>(state: &S, before: &[u8]) -> Result<Option<Vec<u8>>> {
    let after = write(state)?;
    Ok((after != before).then_some(after))
}
