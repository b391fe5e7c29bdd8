//! From bytes to a plugin that can be called, and its calls.

use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use tokio::sync::SemaphorePermit;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::{
    Store,
    component::{Component, InstancePre},
};

use super::{
    artefact,
    bindings::exports::tunnel::plugin::{
        http_request_hook, http_response_hook, lifecycle, tick_hook, ws_hook,
    },
    breaker::Breaker,
    capability::{self, Loan},
    config::{Config, Isolation, Limits, OnFailure},
    engine::{Clock, Host},
    error::{HookError, LoadError},
    guest::{self, Exports, Guest},
    measured::Measured,
    meter::Meter,
    pool::Pool,
    state::State,
    tick,
    websocket::Farewells,
};

/// Which hooks a plugin exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hooks {
    /// `http-request-hook`.
    pub request: bool,
    /// `http-response-hook`.
    pub response: bool,
    /// `ws-hook`.
    pub websocket: bool,
    /// `tick-hook`.
    pub tick: bool,
}

/// What a plugin is doing at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Instances that a call holds.
    pub busy: usize,
    /// Instances that wait for a call.
    pub idle: usize,
    /// Calls that wait for an instance.
    pub waiting: usize,
    /// It failed too often in a row, and isn't asked for a while.
    pub paused: bool,
}

/// A component that was compiled, linked with what it is granted, and has passed its `init` once.
pub struct Plugin {
    name: Arc<str>,
    pub(super) hooks: Hooks,
    pub(super) limits: Arc<Limits>,
    pub(super) on_failure: OnFailure,
    pub(super) isolation: Isolation,
    config: Config,
    /// SHA-256 of the file.
    digest: [u8; 32],
    exports: Exports,
    instances: InstancePre<State>,
    clock: Arc<Clock>,
    loan: Arc<Loan>,
    pub(super) measured: Measured,
    pool: Pool,
    breaker: Breaker,
    /// Calls its tick hook.
    ticking: OnceLock<AbortOnDropHandle<()>>,
    pub(super) farewells: Farewells,
}

impl Host {
    /// Makes a plugin of a file's bytes.
    ///
    /// Compiling takes from milliseconds to, for a guest with a language's runtime in it, half a minute of one core;
    /// what is in the cache takes about a millisecond.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn load(&self, wasm: &[u8], config: Config) -> Result<Arc<Plugin>, LoadError> {
        let component = self.compile(wasm).await?;
        let hooks = hooks(&component, self.engine())?;
        capability::imports(&component, self.engine(), &config.grant)?;
        let linked = capability::linker(self.engine(), &config.grant);
        let instances = linked.and_then(|linker| linker.instantiate_pre(&component));
        let instances = instances.map_err(|error| LoadError::Compile(format!("{error:#}")))?;
        let exports = exports(&instances, hooks).map_err(|error| LoadError::Compile(format!("{error:#}")))?;
        let limits = Arc::new(config.limits.clone());
        let plugin = Plugin {
            name: config.name.as_str().into(),
            hooks,
            on_failure: config.on_failure,
            isolation: config.isolation,
            digest: Sha256::digest(wasm).into(),
            exports,
            instances,
            clock: Arc::clone(self.clock()),
            loan: Loan::new(&config, self.stock())?,
            measured: self.measured().clone(),
            pool: Pool::new(limits.instances, limits.queue),
            breaker: Breaker::new(limits.failures, limits.pause),
            ticking: OnceLock::new(),
            farewells: Farewells::new(),
            limits,
            config,
        };
        let guest = plugin.start().await.map_err(|error| {
            LoadError::Init(match error {
                HookError::Init(reason) => format!("its init refused the configuration: {reason}"),
                other => format!("it can't be started: {other}"),
            })
        })?;
        plugin.pool.keep(guest);
        let plugin = Arc::new(plugin);
        self.measured().loaded(&plugin);
        Ok(plugin)
    }

    pub(super) async fn compile(&self, wasm: &[u8]) -> Result<Component, LoadError> {
        let engine = self.engine().clone();
        let wasm = wasm.to_vec();
        let compiled = tokio::task::spawn_blocking(move || {
            let (_, component) = artefact::component(&wasm)?;
            Component::new(&engine, component).map_err(|error| LoadError::Compile(format!("{error:#}")))
        });
        compiled.await.unwrap_or_else(|error| Err(LoadError::Compile(error.to_string())))
    }
}

/// Which hooks a component exports.
pub(super) fn hooks(component: &Component, engine: &wasmtime::Engine) -> Result<Hooks, LoadError> {
    const PACKAGE: &str = "tunnel:plugin/";
    let version = capability::VERSION;
    let mut hooks = Hooks::default();
    let mut alive = false;
    let mut others = Vec::new();
    for (export, _) in component.component_type().exports(engine) {
        let (interface, made_for) = export.split_once('@').unwrap_or((export, ""));
        let Some(name) = interface.strip_prefix(PACKAGE) else {
            others.push(export.to_owned());
            continue;
        };
        if made_for != version {
            return Err(LoadError::NotAPlugin(format!(
                "it was made for tunnel:plugin version {made_for}, and this program has version {version}: build it \
                 again with the guest-sdk of this version"
            )));
        }
        match name {
            "lifecycle" => alive = true,
            "http-request-hook" => hooks.request = true,
            "http-response-hook" => hooks.response = true,
            "ws-hook" => hooks.websocket = true,
            "tick-hook" => hooks.tick = true,
            _ => others.push(export.to_owned()),
        }
    }
    if alive && hooks != Hooks::default() {
        return Ok(hooks);
    }
    Err(LoadError::NotAPlugin(
        if others.iter().any(|export| export.starts_with("wasi:http/incoming-handler@")) {
            "it is an application (it exports wasi:http/incoming-handler), not a plugin: serve it with --serve, or as a \
         policy's `serve`"
            .to_owned()
        } else if alive {
            "it exports no hook, so that it would never be called: export at least one of http-request-hook, \
         http-response-hook, ws-hook and tick-hook"
                .to_owned()
        } else if hooks != Hooks::default() {
            format!("it exports hooks but not {PACKAGE}lifecycle@{version}, which every plugin has")
        } else if others.is_empty() {
            "it is a component that exports nothing: is the #[plugin] attribute missing?".to_owned()
        } else {
            format!("it is a component for something else: it exports {}", others.join(", "))
        },
    ))
}

fn exports(instances: &InstancePre<State>, hooks: Hooks) -> wasmtime::Result<Exports> {
    Ok(Exports {
        lifecycle: lifecycle::GuestIndices::new(instances)?,
        request: hooks.request.then(|| http_request_hook::GuestIndices::new(instances)).transpose()?,
        response: hooks.response.then(|| http_response_hook::GuestIndices::new(instances)).transpose()?,
        websocket: hooks.websocket.then(|| ws_hook::GuestIndices::new(instances)).transpose()?,
        tick: hooks.tick.then(|| tick_hook::GuestIndices::new(instances)).transpose()?,
    })
}

impl Plugin {
    /// Its name in policies, logs and metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn name_shared(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// SHA-256 of the file that it was made of.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// What it is doing now.
    pub fn standing(&self) -> Standing {
        let (busy, idle, waiting) = self.pool.standing();
        Standing { busy, idle, waiting, paused: self.breaker.is_open() }
    }

    /// The hooks that it exports.
    pub fn hooks(&self) -> Hooks {
        self.hooks
    }

    /// What it was loaded with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Waits until every `on-close` that is due has been called. To be awaited before the plugin, or the process, goes.
    pub async fn settled(&self) {
        self.farewells.said().await;
    }

    /// Puts the plugin to use: its ticks begin, once, however many chains it stands in. One that is only loaded, to be
    /// checked or beside one that is in force, does nothing of its own accord.
    pub(super) fn put_to_use(self: &Arc<Self>) {
        if self.hooks.tick {
            self.ticking.get_or_init(|| tick::begin(self));
        }
    }

    /// A fresh instance, initialised.
    pub(super) async fn start(&self) -> Result<Guest, HookError> {
        let (lent, wasi) = self.loan.lend()?;
        let meter = Meter::new(&self.clock);
        let state = State::new(self.config.role, lent, wasi, self.limits.memory, Arc::clone(&meter));
        let mut store = Store::new(self.instances.engine(), state);
        guest::limit(&mut store, &self.limits);
        store.data_mut().begin("init", self.limits.time, None);
        store.set_epoch_deadline(1);
        let instance = self.instances.instantiate_async(&mut store);
        let instance = guest::bounded(instance, &meter, self.limits.wait).await;
        let instance = instance.ok_or(HookError::Wait(self.limits.wait))?.map_err(|error| {
            if store.data().bounds.passed {
                HookError::Memory(self.limits.memory)
            } else {
                HookError::Trap(format!("{:#}", error))
            }
        })?;
        Guest::start(store, instance, &self.exports, Arc::clone(&self.limits), &self.config.config).await
    }

    /// An instance to call, idle or fresh.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, HookError> {
        if !self.breaker.allows() {
            return Err(HookError::Paused);
        }
        let permit = self.pool.place().await?;
        let idle = if self.isolation == Isolation::Pool { self.pool.idle() } else { None };
        let guest = match idle {
            Some(guest) => guest,
            None => self.start().await?,
        };
        // From here the lease gives the place back.
        SemaphorePermit::forget(permit);
        Ok(Lease { plugin: Arc::clone(self), guest: Some(guest) })
    }

    /// Counts a call's end, and logs a failure.
    pub(super) fn note<T>(
        &self,
        hook: &'static str,
        exchange: Option<crate::exchange::ExchangeId>,
        end: &Result<T, HookError>,
    ) {
        self.count(&self.breaker, hook, exchange, end);
    }

    /// As [`Self::note`], by another breaker.
    pub(super) fn count<T>(
        &self,
        breaker: &Breaker,
        hook: &'static str,
        exchange: Option<crate::exchange::ExchangeId>,
        end: &Result<T, HookError>,
    ) {
        let Err(error) = end else {
            return breaker.succeeded();
        };
        let exchange = exchange.map(tracing::field::display);
        match error {
            // Said once, when it opened.
            HookError::Paused => {}
            _ => tracing::warn!(target: "plugin", plugin = &*self.name, hook, exchange, "failed: {error}"),
        }
        if error.counts() && breaker.failed() {
            let pause = self.limits.pause;
            tracing::error!(
                target: "plugin", plugin = &*self.name, hook,
                "{} failures in a row: it isn't asked for {pause:?}", self.limits.failures
            );
        }
    }
}

/// An instance that is taken. Dropped as it is, the instance is thrown away: its call didn't end, or ended badly.
pub(super) struct Lease {
    plugin: Arc<Plugin>,
    guest: Option<Guest>,
}

impl Lease {
    pub(super) fn guest(&mut self) -> &mut Guest {
        self.guest.as_mut().expect("taken only when the lease ends")
    }

    /// The call ended well: the instance may serve the next one.
    pub(super) fn end(mut self) {
        if let Some(guest) = self.guest.take()
            && guest.calls < self.plugin.limits.reuse
        {
            self.plugin.pool.keep(guest);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Memory first, then the place.
        self.guest = None;
        self.plugin.pool.vacate();
    }
}

#[cfg(test)]
impl Plugin {
    /// Instances that could be taken now.
    pub(super) fn places(&self) -> usize {
        self.pool.places()
    }
}
