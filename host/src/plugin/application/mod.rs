//! Applications: components that answer requests in place of an origin (`wasi:http/incoming-handler`).
//!
//! Owns how one is loaded, and how a request becomes a call of it. Must not know where its answers go: it is a stage
//! like any other, the last one.
//!
//! An application runs only while somebody asks for its answer: whoever polls the answer, or its body, runs the guest,
//! and so a visitor who stops reading stops it, and one who goes away ends it. What it still does after its answer is
//! complete, it does in a task that is tracked and bounded.
//!
//! - `serving`: one request, from the call to the last byte.
//! - `head`: what it answers, held against what an answer may be.
//! - `lent`: what its instances see of this host, and the requests that it sends.
//! - `upload`: a request's body on its way to the guest.

mod head;
mod lent;
mod serving;
mod upload;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::SemaphorePermit;
use tokio_util::task::TaskTracker;
use wasmtime::{
    Engine, Store,
    component::{Component, Linker},
};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};

use super::{
    breaker::Breaker,
    capability::{self, Loan},
    config::{Config, Isolation},
    engine::{Clock, Host},
    error::{HookError, LoadError},
    guest,
    measured::Measured,
    meter::Meter,
    pool::Pool,
    state::State,
};
use crate::exchange::{
    Answer, Body, ErrorKind, ExchangeId, Forward, ForwardError, ForwardFuture, Request, RequestKind, Response,
};
use lent::Served;

/// What its calls are named in logs, as hooks are.
const HOOK: &str = "handle";

/// A component that answers requests, compiled and linked with what it is granted. The last stage of a way.
pub struct Application(Arc<Shared>);

/// What its answers hold on to as well.
struct Shared {
    name: Arc<str>,
    config: Config,
    proxy: ProxyPre<Served>,
    clock: Arc<Clock>,
    loan: Arc<Loan>,
    measured: Measured,
    places: Pool,
    idle: Mutex<Vec<Instance>>,
    breaker: Breaker,
    /// What goes on after its answer.
    after: TaskTracker,
}

/// A running one.
struct Instance {
    store: Store<Served>,
    proxy: Proxy,
    requests: u32,
}

impl Host {
    /// Makes an application of a file's bytes.
    ///
    /// Of its settings, `config`, `role`, `on_failure` and `tick` say nothing to it. Most applications expect an instance
    /// of their own for each request ([`Isolation::Exchange`], see [`Config::application`]); with [`Isolation::Pool`] one
    /// serves a request after the other.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn load_application(&self, wasm: &[u8], config: Config) -> Result<Arc<Application>, LoadError> {
        let component = self.compile(wasm).await?;
        exports(&component, self.engine())?;
        imports(&component, self.engine(), &config)?;
        let refused = |error: wasmtime::Error| LoadError::Compile(format!("{error:#}"));
        let linked = linker(self.engine()).and_then(|linker| linker.instantiate_pre(&component));
        let proxy = linked.and_then(ProxyPre::new).map_err(refused)?;
        let after = TaskTracker::new();
        // So that waiting ends whenever there is nothing to wait for; more may follow all the same.
        after.close();
        let shared = Arc::new(Shared {
            name: config.name.as_str().into(),
            proxy,
            clock: Arc::clone(self.clock()),
            loan: Loan::new(&config, self.stock())?,
            measured: self.measured().clone(),
            places: Pool::new(config.limits.instances, config.limits.queue),
            idle: Mutex::default(),
            breaker: Breaker::new(config.limits.failures, config.limits.pause),
            after,
            config,
        });
        let started = shared.start().await;
        let instance = started.map_err(|error| LoadError::Init(format!("it can't be started: {error}")))?;
        shared.keep(instance);
        Ok(Arc::new(Application(shared)))
    }
}

fn exports(component: &Component, engine: &Engine) -> Result<(), LoadError> {
    let component = component.component_type();
    let exports: Vec<_> = component.exports(engine).map(|(export, _)| export).collect();
    let has = |interface| exports.iter().any(|export: &&str| export.starts_with(interface));
    if has("wasi:http/incoming-handler@0.2.") {
        return Ok(());
    }
    Err(LoadError::NotAPlugin(if has("tunnel:plugin/") {
        "it is a plugin, not an application: use it with --plugin, or name it in a [[plugin]] table"
            .to_owned()
    } else if has("wasi:http/") {
        format!(
            "it is an application for another version of WASI (it exports {}): build it for wasi:http 0.2, \
             with an export of wasi:http/incoming-handler",
            exports.join(", ")
        )
    } else if has("wasi:cli/run@") {
        "it is a program for the command line (it exports wasi:cli/run): an application exports \
         wasi:http/incoming-handler"
            .to_owned()
    } else if exports.is_empty() {
        "it is a component that exports nothing: an application exports wasi:http/incoming-handler".to_owned()
    } else {
        format!(
            "it is a component for something else: it exports {}, and an application exports \
             wasi:http/incoming-handler",
            exports.join(", ")
        )
    }))
}

fn imports(component: &Component, engine: &Engine, config: &Config) -> Result<(), LoadError> {
    for (import, _) in component.component_type().imports(engine) {
        // Toolchains import it into every application; what is sent is held against the grants.
        if import.starts_with("wasi:http/types@0.2.") || import.starts_with("wasi:http/outgoing-handler@0.2.")
        {
            continue;
        }
        if import.starts_with("tunnel:plugin/") {
            return Err(LoadError::Import(format!(
                "it imports {import}, which plugins are lent: an application has WASI, and wasi:http/outgoing-handler \
                 for requests"
            )));
        }
        capability::check(import, &config.grant).map_err(LoadError::Import)?;
    }
    Ok(())
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<Served>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    Ok(linker)
}

impl Application {
    /// Its name in logs and errors.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What it was loaded with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Waits until nothing runs any more that it does after its answers. To be awaited before the process goes.
    pub async fn settled(&self) {
        self.0.after.wait().await;
    }
}

impl Forward for Application {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        if request.head.kind == RequestKind::WebSocket {
            return Box::pin(std::future::ready(Ok(Answer::Http(no_websocket()))));
        }
        Box::pin(async move { serving::answer(&self.0, request).await.map(Answer::Http) })
    }
}

impl Shared {
    async fn start(&self) -> Result<Instance, HookError> {
        let limits = &self.config.limits;
        let (lent, wasi) = self.loan.lend()?;
        let meter = Meter::new(&self.clock);
        let state = State::new(self.config.role, lent, wasi, limits.memory, Arc::clone(&meter));
        let mut store = Store::new(self.proxy.engine(), Served::new(state, Arc::clone(&self.loan)));
        guest::limit(&mut store, limits);
        store.data_mut().state.begin(HOOK, limits.time, None);
        store.set_epoch_deadline(1);
        let proxy = self.proxy.instantiate_async(&mut store);
        let proxy = guest::bounded(proxy, &meter, limits.wait).await;
        let proxy = guest::judge(proxy, &store.data().state, limits)?;
        Ok(Instance { store, proxy, requests: 0 })
    }

    /// An instance to call, idle or fresh, and its place.
    async fn instance(self: &Arc<Self>) -> Result<(Instance, Place), HookError> {
        if !self.breaker.allows() {
            return Err(HookError::Paused);
        }
        SemaphorePermit::forget(self.places.place().await?);
        let place = Place(Arc::clone(self));
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(instance) => Ok((instance, place)),
            None => Ok((self.start().await?, place)),
        }
    }

    /// Keeps an instance for another request, if it may have one.
    fn keep(&self, instance: Instance) {
        let fresh = instance.requests == 0;
        let reusable = self.config.isolation == Isolation::Pool
            && instance.requests < self.config.limits.reuse
            // What it holds on to is a visitor's.
            && instance.store.data().state.table.is_empty();
        if fresh || reusable {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
        }
    }

    fn note(&self, exchange: ExchangeId, end: Result<(), &HookError>) {
        let Err(error) = end else {
            return self.breaker.succeeded();
        };
        let application = &*self.name;
        if *error != HookError::Paused {
            tracing::warn!(target: "plugin", plugin = application, hook = HOOK, %exchange, "failed: {error}");
        }
        if error.counts() && self.breaker.failed() {
            let limits = &self.config.limits;
            tracing::error!(
                target: "plugin", plugin = application,
                "{} failures in a row: it isn't asked for {:?}", limits.failures, limits.pause
            );
        }
    }

    /// The failed exchange. Its public sentence names the application and no more.
    fn failed(&self, error: HookError) -> ForwardError {
        let name = &self.name;
        let (kind, detail) = match &error {
            HookError::Busy(_) => {
                (ErrorKind::PluginBusy, format!("the application {name} has too much to do"))
            }
            HookError::Wait(_) => {
                (ErrorKind::TimedOut, format!("the application {name} didn't answer in time"))
            }
            _ => (ErrorKind::PluginFailed, format!("the application {name} failed")),
        };
        ForwardError::new(kind, detail).because(error)
    }

    fn wait(&self) -> Duration {
        self.config.limits.wait
    }
}

/// The place of an instance among those that may run at once.
struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.vacate();
    }
}

/// `wasi:http` knows no upgrade; a refusal is an answer like any other (RFC 6455 section 4.2.2).
fn no_websocket() -> Response {
    const TEXT: &[u8] =
        b"This is served by an application that only answers HTTP requests (wasi:http): it has no WebSockets.\n";
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(TEXT.len()));
    Response { status: StatusCode::NOT_IMPLEMENTED, headers, body: Body::full(Bytes::from_static(TEXT)) }
}
