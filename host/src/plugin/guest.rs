//! One running instance, and a call of one of its hooks under its limits.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::FutureExt;
use wasmtime::{
    Store, Trap, UpdateDeadline,
    component::{Instance, Resource},
};

use super::{
    bindings::{
        exports::tunnel::plugin::{http_request_hook, http_response_hook, lifecycle, tick_hook, ws_hook},
        tunnel::plugin::types::{BodyVerdict, Fault, HeadVerdict, Side, WsAccept, WsMessage, WsVerdict},
    },
    config::Limits,
    error::HookError,
    hand::Hand,
    meter::Meter,
    state::{MAX_HANDLES, State},
};
use crate::exchange::ExchangeId;

/// What a component exports, found once for all of its instances.
#[derive(Clone)]
pub(super) struct Exports {
    pub(super) lifecycle: lifecycle::GuestIndices,
    pub(super) request: Option<http_request_hook::GuestIndices>,
    pub(super) response: Option<http_response_hook::GuestIndices>,
    pub(super) websocket: Option<ws_hook::GuestIndices>,
    pub(super) tick: Option<tick_hook::GuestIndices>,
}

/// An instance that has been initialised.
pub(super) struct Guest {
    store: Store<State>,
    limits: Arc<Limits>,
    meter: Arc<Meter>,
    request: Option<http_request_hook::Guest>,
    response: Option<http_response_hook::Guest>,
    websocket: Option<ws_hook::Guest>,
    tick: Option<tick_hook::Guest>,
    /// Calls so far.
    pub(super) calls: u32,
}

type Outcome<T> = Result<T, HookError>;

impl Guest {
    /// Makes a guest of a fresh instance: finds its hooks and calls `init`.
    pub(super) async fn start(
        mut store: Store<State>,
        instance: Instance,
        exports: &Exports,
        limits: Arc<Limits>,
        config: &str,
    ) -> Result<Self, HookError> {
        let broken = |error: wasmtime::Error| HookError::Init(format!("{error:#}"));
        let lifecycle = exports.lifecycle.load(&mut store, &instance).map_err(broken)?;
        macro_rules! load {
            ($hook:ident) => {
                exports
                    .$hook
                    .as_ref()
                    .map(|hook| hook.load(&mut store, &instance))
                    .transpose()
                    .map_err(broken)?
            };
        }
        let (request, response) = (load!(request), load!(response));
        let (websocket, tick) = (load!(websocket), load!(tick));
        let meter = Arc::clone(&store.data().meter);
        let mut guest = Self { store, limits, meter, request, response, websocket, tick, calls: 0 };
        guest.begin("init", None);
        let initialised = lifecycle.call_init(&mut guest.store, config);
        let initialised = bounded(initialised, &guest.meter, guest.limits.wait).await;
        guest.end();
        match judge(initialised, guest.store.data(), &guest.limits) {
            Ok(Ok(())) => Ok(guest),
            Ok(Err(reason)) => Err(HookError::Init(reason)),
            Err(error) => Err(HookError::Init(error.to_string())),
        }
    }

    /// A call begins: time is given anew, and the exchange is lent.
    pub(super) fn begin(&mut self, hook: &'static str, hand: Option<Hand>) {
        self.calls += 1;
        self.store.data_mut().begin(hook, self.limits.time, hand);
        self.store.set_epoch_deadline(1);
    }

    /// Names the exchange in what the call logs, also where it isn't lent.
    pub(super) fn on_behalf_of(&mut self, hook: &'static str, exchange: ExchangeId) {
        self.store.data_mut().lent.begin(hook, Some(exchange));
    }

    /// Takes the exchange back, however the call ended.
    pub(super) fn end(&mut self) -> Option<Hand> {
        self.store.data_mut().end()
    }

    fn settle<T>(&self, called: Option<wasmtime::Result<Result<T, Fault>>>) -> Outcome<T> {
        judge(called, self.store.data(), &self.limits)?.map_err(|fault| HookError::Fault(fault.message))
    }
}

/// Runs `$call` with `$hook` of a guest; what isn't exported is never called.
macro_rules! call {
    ($guest:ident, $hook:ident, $call:ident($($argument:expr),*)) => {{
        let Some(hook) = $guest.$hook.as_ref() else {
            return Err(HookError::Trap("the hook isn't exported".to_owned()));
        };
        let called = hook.$call(&mut $guest.store $(, $argument)*);
        bounded(called, &$guest.meter, $guest.limits.wait).await
    }};
}

impl Guest {
    pub(super) async fn on_request(&mut self) -> Outcome<HeadVerdict> {
        let called = call!(self, request, call_on_request(Resource::new_borrow(0)));
        self.settle(called)
    }

    pub(super) async fn on_request_body(
        &mut self,
        state: &[u8],
        bytes: &[u8],
        last: bool,
    ) -> Outcome<BodyVerdict> {
        let called = call!(self, request, call_on_request_body(Resource::new_borrow(0), state, bytes, last));
        self.settle(called)
    }

    pub(super) async fn on_response(&mut self, state: &[u8]) -> Outcome<HeadVerdict> {
        let called = call!(self, response, call_on_response(Resource::new_borrow(0), state));
        self.settle(called)
    }

    pub(super) async fn on_response_body(
        &mut self,
        state: &[u8],
        bytes: &[u8],
        last: bool,
    ) -> Outcome<BodyVerdict> {
        let called =
            call!(self, response, call_on_response_body(Resource::new_borrow(0), state, bytes, last));
        self.settle(called)
    }

    pub(super) async fn on_open(&mut self, state: &[u8]) -> Outcome<WsAccept> {
        let called = call!(self, websocket, call_on_open(Resource::new_borrow(0), state));
        self.settle(called)
    }

    pub(super) async fn on_message(
        &mut self,
        from: Side,
        message: &WsMessage,
        state: &[u8],
    ) -> Outcome<WsVerdict> {
        let called = call!(self, websocket, call_on_message(from, message, state));
        self.settle(called)
    }

    pub(super) async fn on_close(&mut self, by: Side, code: u16, reason: &str, state: &[u8]) -> Outcome<()> {
        let called = call!(self, websocket, call_on_close(by, code, reason, state));
        judge(called, self.store.data(), &self.limits)
    }

    pub(super) async fn on_tick(&mut self) -> Outcome<()> {
        let called = call!(self, tick, call_on_tick());
        self.settle(called)
    }
}

/// What a call's end means.
pub(super) fn judge<T>(called: Option<wasmtime::Result<T>>, state: &State, limits: &Limits) -> Outcome<T> {
    let Some(called) = called else { return Err(HookError::Wait(limits.wait)) };
    called.map_err(|error| match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) if state.ticks == 0 => HookError::Time(limits.time),
        _ if state.bounds.passed => HookError::Memory(limits.memory),
        _ => HookError::Trap(reason(&error)),
    })
}

/// `None` if it takes too long, its waiting included. Most calls never wait: no timer is armed for them.
pub(super) async fn bounded<T>(call: impl Future<Output = T>, meter: &Meter, wait: Duration) -> Option<T> {
    let mut call = pin!(call);
    let mut call = poll_fn(|cx| {
        let _runs = meter.polled();
        call.as_mut().poll(cx)
    });
    match poll_fn(|cx| Poll::Ready(call.poll_unpin(cx))).await {
        Poll::Ready(done) => Some(done),
        Poll::Pending => tokio::time::timeout(wait, call).await.ok(),
    }
}

/// Sets up what interrupts a guest that runs for too long, and what else bounds it beside its memory. Between two ticks it
/// gives way to other tasks.
pub(super) fn limit<T: AsMut<State> + 'static>(store: &mut Store<T>, limits: &Limits) {
    store.limiter(|data| &mut data.as_mut().bounds);
    store.epoch_deadline_callback(|mut context| {
        let late = context.data_mut().as_mut().tick();
        Ok(if late { UpdateDeadline::Interrupt } else { UpdateDeadline::Yield(1) })
    });
    // More than the host's own table takes, whose end is an error and not a trap.
    store.set_max_component_handles(2 * MAX_HANDLES);
    // What it hands over is copied; a list of empty things is larger here than there.
    store.set_hostcall_fuel(limits.memory);
}

/// The innermost cause: what a guest's author can act on. The whole chain has wasmtime's addresses in it.
fn reason(error: &wasmtime::Error) -> String {
    error.root_cause().to_string()
}
