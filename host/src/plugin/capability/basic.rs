//! Clock, random and secrets.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::super::{
    bindings::tunnel::plugin::{clock, random, secrets},
    state::State,
};

/// Bytes of randomness that one call gives.
const MAX_RANDOM: u32 = 64 << 10;

impl clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&mut self) -> wasmtime::Result<u64> {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        Ok(u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

impl random::Host for State {
    fn bytes(&mut self, n: u32) -> wasmtime::Result<Vec<u8>> {
        let mut bytes = vec![0; n.min(MAX_RANDOM) as usize];
        getrandom::fill(&mut bytes).map_err(|error| wasmtime::Error::msg(error.to_string()))?;
        Ok(bytes)
    }
}

impl secrets::Host for State {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.lent.loan.grant.secrets.get(&name).cloned())
    }
}
