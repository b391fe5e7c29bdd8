//! Log, clock, random and secrets.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::super::{
    bindings::tunnel::plugin::{clock, log, random, secrets},
    state::State,
};

/// Longest line of a log that is kept, in bytes.
const MAX_LINE: usize = 2 << 10;

/// Bytes of randomness that one call gives.
const MAX_RANDOM: u32 = 64 << 10;

impl log::Host for State {
    fn write(
        &mut self,
        level: log::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let cut = |text: &str, room: usize| text[..text.floor_char_boundary(room)].to_owned();
        let mut line = cut(&message, MAX_LINE);
        for (name, value) in &fields {
            if line.len() >= MAX_LINE {
                break;
            }
            line.push_str(&cut(&format!(" {name}={value}"), MAX_LINE - line.len()));
        }
        let (plugin, hook) = (&*self.lent.plugin, self.lent.hook);
        let exchange = self.lent.exchange.map(tracing::field::display);
        match level {
            log::Level::Trace => tracing::trace!(target: "plugin", plugin, hook, exchange, "{line}"),
            log::Level::Debug => tracing::debug!(target: "plugin", plugin, hook, exchange, "{line}"),
            log::Level::Info => tracing::info!(target: "plugin", plugin, hook, exchange, "{line}"),
            log::Level::Warn => tracing::warn!(target: "plugin", plugin, hook, exchange, "{line}"),
            log::Level::Error => tracing::error!(target: "plugin", plugin, hook, exchange, "{line}"),
        }
        Ok(())
    }

    fn enabled(&mut self, level: log::Level) -> wasmtime::Result<bool> {
        Ok(match level {
            log::Level::Trace => tracing::enabled!(target: "plugin", tracing::Level::TRACE),
            log::Level::Debug => tracing::enabled!(target: "plugin", tracing::Level::DEBUG),
            log::Level::Info => tracing::enabled!(target: "plugin", tracing::Level::INFO),
            log::Level::Warn => tracing::enabled!(target: "plugin", tracing::Level::WARN),
            log::Level::Error => tracing::enabled!(target: "plugin", tracing::Level::ERROR),
        })
    }
}

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
        Ok(self.lent.grant.secrets.get(&name).cloned())
    }
}
