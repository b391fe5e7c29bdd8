//! What belongs to one guest: the exchange in hand, its bounds, and what it was lent.

use std::{sync::Arc, time::Duration};

use wasmtime::{ResourceLimiter, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::{
    capability::Lent,
    config::Role,
    engine::TICK,
    hand::{Hand, ResponseHead},
    meter::Meter,
};

/// Handles that one guest may have open at once: of the host's table, and of the engine's, which a guest grows without
/// asking the host. Each takes a few dozen bytes outside of what its limit of memory counts.
pub(super) const MAX_HANDLES: usize = 10_000;

/// The data of one guest's store.
pub(super) struct State {
    pub(super) role: Role,
    pub(super) lent: Lent,
    pub(super) bounds: Bounds,
    /// Ticks of the engine's clock that the running call may still see.
    pub(super) ticks: u64,
    /// How long it may run.
    time: Duration,
    pub(super) meter: Arc<Meter>,
    pub(super) table: ResourceTable,
    pub(super) wasi: WasiCtx,
    hand: Option<Hand>,
}

impl State {
    pub(super) fn new(role: Role, lent: Lent, wasi: WasiCtx, memory: usize, meter: Arc<Meter>) -> Self {
        let bounds = Bounds { memory, used: 0, passed: false };
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self { role, lent, bounds, ticks: 0, time: Duration::ZERO, meter, table, wasi, hand: None }
    }

    /// A call begins.
    pub(super) fn begin(&mut self, hook: &'static str, time: Duration, hand: Option<Hand>) {
        // One more than asked: the first may follow at once.
        self.ticks = u64::try_from(time.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        self.time = time;
        self.meter.reset();
        self.lent.begin(hook, hand.as_ref().map(|hand| hand.context.exchange));
        self.hand = hand;
    }

    /// A tick of the engine's clock while the call runs. Says whether it has run for too long.
    pub(super) fn tick(&mut self) -> bool {
        self.ticks = self.ticks.saturating_sub(1);
        self.ticks == 0 && self.meter.run_time() >= self.time
    }

    /// The call has ended, well or not.
    pub(super) fn end(&mut self) -> Option<Hand> {
        self.hand.take()
    }

    /// # Errors
    /// No exchange is in hand: a handle was kept beyond its call.
    pub(super) fn hand(&self) -> wasmtime::Result<&Hand> {
        self.hand.as_ref().ok_or_else(no_exchange)
    }

    pub(super) fn hand_mut(&mut self) -> wasmtime::Result<&mut Hand> {
        self.hand.as_mut().ok_or_else(no_exchange)
    }

    pub(super) fn response(&self) -> wasmtime::Result<&ResponseHead> {
        self.hand()?.response.as_ref().ok_or_else(no_exchange)
    }
}

impl AsMut<State> for State {
    fn as_mut(&mut self) -> &mut State {
        self
    }
}

fn no_exchange() -> wasmtime::Error {
    wasmtime::Error::msg("a handle of an exchange was used outside the call that lent it")
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Holds a guest's memories and tables to its limit.
pub(super) struct Bounds {
    memory: usize,
    used: usize,
    /// The limit was reached: what follows, often a trap, has its reason here.
    pub(super) passed: bool,
}

impl Bounds {
    fn grows(&mut self, by: usize) -> bool {
        let fits = self.used.saturating_add(by) <= self.memory;
        if fits {
            self.used += by;
        }
        self.passed |= !fits;
        fits
    }
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grows(desired.saturating_sub(current)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // An element is a pointer here.
        Ok(self.grows(desired.saturating_sub(current).saturating_mul(size_of::<usize>())))
    }
}
