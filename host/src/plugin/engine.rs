//! The engine: how guests are compiled, where compiled ones are kept, and the clock that interrupts them.
//!
//! One for a process. Everything in it is settled before the first plugin is loaded.

use std::{
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use prometheus_client::registry::Registry;
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
};

use super::{
    capability::{Stock, kv, metrics},
    error::LoadError,
    load::Plugin,
    measured::Measured,
};

/// The unit of a guest's running time. A guest that never ends gives way to others this often, so it bounds by how much
/// one can hold them up; a thread has to wake for each while guests run.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// Instances of all plugins together. Each reserves 4 GiB of addresses, not memory: 4 TiB of the 128 that x86-64 has.
const INSTANCES: u32 = 1000;

/// Largest memory that a plugin's limit can allow.
const MAX_MEMORY: usize = 4 << 30;

/// Bytes of an instance's memory that stay mapped when it is done: most guests touch less, and giving pages back and
/// faulting them in again costs more than the call.
const RESIDENT: usize = 2 << 20;

/// How a process runs its plugins.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where compiled plugins are kept; nowhere if `None`.
    pub cache: Option<PathBuf>,
    /// Where plugins keep entries; in this process's memory if `None`.
    pub kv: Option<Arc<dyn kv::Store>>,
}

/// Loads plugins and runs them; cheap to clone.
#[derive(Clone)]
pub struct Host(Arc<Shared>);

struct Shared {
    engine: Engine,
    clock: Arc<Clock>,
    stock: Arc<Stock>,
    measured: Measured,
}

impl Host {
    /// Starts the engine.
    ///
    /// # Errors
    /// The machine can't run WebAssembly (no address space, no executable memory), or the cache's folder can't be used.
    pub fn new(options: &Options) -> Result<Self, LoadError> {
        let cache = options.cache.as_ref().map(|folder| {
            let mut config = CacheConfig::new();
            config.with_directory(folder);
            Cache::new(config)
        });
        let cache = cache.transpose().map_err(|error| {
            LoadError::Compile(format!("the folder for compiled plugins can't be used: {error:#}"))
        })?;
        let engine = Engine::new(&config(cache.clone(), true)).or_else(|error| {
            // A container that bounds address space (ulimit -v) has no room for the pool; one mapping at a time it has.
            tracing::warn!(%error, "no address space for a pool of instances: each call that needs a new one costs more");
            Engine::new(&config(cache, false))
        });
        let engine = engine.map_err(|error| LoadError::Compile(format!("no WebAssembly here: {error:#}")))?;
        let clock = Clock::start(engine.clone());
        let stock = Arc::new(Stock::new(options.kv.clone()));
        Ok(Self(Arc::new(Shared { engine, clock, stock, measured: Measured::new() })))
    }

    /// What plugins have measured, by plugin and name; a snapshot.
    pub fn metrics(&self) -> Vec<metrics::Series> {
        self.0.stock.metrics()
    }

    /// Puts what the host measures of plugins where it is read from, under `plugin_`.
    pub fn register(&self, registry: &mut Registry) {
        self.0.measured.register(registry);
    }

    /// The plugins that are loaded, by name.
    pub fn plugins(&self) -> Vec<Arc<Plugin>> {
        self.0.measured.plugins()
    }

    pub(super) fn measured(&self) -> &Measured {
        &self.0.measured
    }

    pub(super) fn stock(&self) -> &Arc<Stock> {
        &self.0.stock
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(super) fn clock(&self) -> &Arc<Clock> {
        &self.0.clock
    }
}

fn config(cache: Option<Cache>, pooled: bool) -> Config {
    let mut config = Config::new();
    config.cache(cache);
    config.epoch_interruption(true);
    // Our hooks return before the next one is called; what tasks inside a component need would cost on each call.
    config.concurrency_support(false);
    config.memory_init_cow(true);
    if pooled {
        let mut pool = PoolingAllocationConfig::new();
        // A component of one language's runtime and an adapter has up to a handful of core instances and tables.
        pool.total_component_instances(INSTANCES)
            .total_core_instances(INSTANCES * 4)
            .total_memories(INSTANCES)
            .total_tables(INSTANCES * 3)
            .total_stacks(INSTANCES)
            .max_core_instances_per_component(50)
            .max_tables_per_component(30)
            .table_elements(100_000)
            .max_component_instance_size(4 << 20)
            .max_core_instance_size(4 << 20)
            .max_memory_size(MAX_MEMORY)
            .linear_memory_keep_resident(RESIDENT)
            .table_keep_resident(RESIDENT)
            .pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// Advances the engine's epoch while guests run, and rests while none does.
pub(super) struct Clock {
    running: AtomicUsize,
    resting: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
}

impl Clock {
    fn start(engine: Engine) -> Arc<Self> {
        let clock = Arc::new(Self {
            running: AtomicUsize::new(0),
            resting: AtomicBool::new(false),
            thread: std::sync::OnceLock::new(),
        });
        let ticks = Arc::downgrade(&clock);
        let thread =
            thread::Builder::new().name("guest-clock".to_owned()).spawn(move || tick(&ticks, &engine));
        if let Ok(thread) = thread {
            let _ = clock.thread.set(thread.thread().clone());
        }
        clock
    }

    /// Says that a guest runs until what is returned is dropped.
    pub(super) fn running(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.resting.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        Running(Arc::clone(self))
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        // It finds nobody to tick for, and ends.
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// A guest that runs.
pub(super) struct Running(Arc<Clock>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(clock: &Weak<Clock>, engine: &Engine) {
    /// Going to rest and waking up are system calls: not between two calls of a busy plugin.
    const IDLE_TICKS: u32 = 50;
    let mut idle = 0;
    loop {
        let Some(clock) = clock.upgrade() else { return };
        if clock.running.load(Ordering::SeqCst) == 0 {
            idle += 1;
        } else {
            idle = 0;
        }
        if idle < IDLE_TICKS {
            drop(clock);
            thread::park_timeout(TICK);
            engine.increment_epoch();
            continue;
        }
        clock.resting.store(true, Ordering::SeqCst);
        // Whoever started in between has seen no one resting.
        let rest = clock.running.load(Ordering::SeqCst) == 0;
        let resting = Arc::downgrade(&clock);
        drop(clock);
        if rest {
            thread::park();
        }
        if let Some(clock) = resting.upgrade() {
            clock.resting.store(false, Ordering::SeqCst);
        }
        idle = 0;
    }
}
