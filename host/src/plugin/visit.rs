//! One exchange's visit at one plugin: its state, its instance if it has one of its own, and the calls of its hooks.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    bindings::tunnel::plugin::types::{BodyVerdict, HeadVerdict, Side, WsAccept, WsMessage, WsVerdict},
    config::{Isolation, OnFailure},
    error::HookError,
    hand::Hand,
    load::{Lease, Plugin},
    measured::Word,
};
use crate::exchange::{Asked, ExchangeId, ForwardError, Witness};

pub(super) struct Visit {
    pub(super) plugin: Arc<Plugin>,
    pub(super) exchange: ExchangeId,
    /// What the plugin's hooks hand each other.
    state: Mutex<Arc<[u8]>>,
    /// With isolation by exchange: the instance between two calls.
    own: tokio::sync::Mutex<Option<Lease>>,
    witness: Option<Arc<dyn Witness>>,
}

/// Calls `$hook` of an instance with the exchange in hand, and takes the exchange back however the call ends.
macro_rules! call {
    ($visit:ident, $name:literal, $hand:expr, $hook:ident($($argument:expr),*)) => {{
        let hand: &mut Option<Hand> = $hand;
        let began = Instant::now();
        let mut own = $visit.own().await;
        let lease = match own.as_mut().and_then(|own| own.take()) {
            Some(lease) => Ok(lease),
            None => $visit.plugin.lease().await,
        };
        let outcome = match lease {
            Err(error) => Err(error),
            Ok(mut lease) => {
                lease.guest().begin($name, hand.take());
                lease.guest().on_behalf_of($name, $visit.exchange);
                let outcome = lease.guest().$hook($($argument),*).await;
                *hand = lease.guest().end();
                if outcome.is_ok() {
                    match own.as_mut() {
                        Some(own) => **own = Some(lease),
                        None => lease.end(),
                    }
                }
                outcome
            }
        };
        $visit.called($name, began.elapsed(), &outcome);
        outcome
    }};
}

impl Visit {
    pub(super) fn new(plugin: &Arc<Plugin>, exchange: ExchangeId, witness: Option<Arc<dyn Witness>>) -> Self {
        Self {
            plugin: Arc::clone(plugin),
            exchange,
            state: Mutex::new(Arc::from([])),
            own: tokio::sync::Mutex::new(None),
            witness,
        }
    }

    /// A call has ended: it is noted, measured, and told of if it was for a head. Calls for pieces of bodies and for messages
    /// are too many to be told one by one.
    fn called<T: Word>(&self, hook: &'static str, time: Duration, outcome: &Result<T, HookError>) {
        self.plugin.note(hook, Some(self.exchange), outcome);
        let verdict = outcome.as_ref().map_or_else(HookError::word, Word::word);
        self.plugin.measured.called(&self.plugin.name_shared(), hook, verdict, time);
        if let Some(witness) = &self.witness
            && matches!(hook, "on-request" | "on-response" | "on-open")
        {
            witness.asked(&Asked { plugin: self.plugin.name(), hook, verdict, time });
        }
    }

    /// The exchange's own instance, if the plugin wants that. Holding it keeps calls of one exchange apart.
    async fn own(&self) -> Option<tokio::sync::MutexGuard<'_, Option<Lease>>> {
        if self.plugin.isolation == Isolation::Exchange { Some(self.own.lock().await) } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<[u8]>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> Arc<[u8]> {
        Arc::clone(&self.lock())
    }

    /// # Errors
    /// It is over the limit.
    pub(super) fn set_state(&self, state: Vec<u8>) -> Result<(), HookError> {
        let limit = self.plugin.limits.state;
        if state.len() > limit {
            let detail = format!("a state of {} bytes, and the limit is {limit} (limits.state)", state.len());
            return Err(HookError::Verdict(detail));
        }
        *self.lock() = state.into();
        Ok(())
    }

    pub(super) async fn on_request(&self, hand: &mut Option<Hand>) -> Result<HeadVerdict, HookError> {
        call!(self, "on-request", hand, on_request())
    }

    pub(super) async fn on_request_body(
        &self,
        hand: &mut Option<Hand>,
        bytes: &[u8],
        last: bool,
    ) -> Result<BodyVerdict, HookError> {
        let state = self.state();
        call!(self, "on-request-body", hand, on_request_body(&state, bytes, last))
    }

    pub(super) async fn on_response(&self, hand: &mut Option<Hand>) -> Result<HeadVerdict, HookError> {
        let state = self.state();
        call!(self, "on-response", hand, on_response(&state))
    }

    pub(super) async fn on_response_body(
        &self,
        hand: &mut Option<Hand>,
        bytes: &[u8],
        last: bool,
    ) -> Result<BodyVerdict, HookError> {
        let state = self.state();
        call!(self, "on-response-body", hand, on_response_body(&state, bytes, last))
    }

    pub(super) async fn on_open(&self, hand: &mut Option<Hand>) -> Result<WsAccept, HookError> {
        let state = self.state();
        call!(self, "on-open", hand, on_open(&state))
    }

    pub(super) async fn on_message(&self, sender: Side, message: &WsMessage) -> Result<WsVerdict, HookError> {
        let state = self.state();
        call!(self, "on-message", &mut None, on_message(sender, message, &state))
    }

    pub(super) async fn on_close(&self, by: Side, code: u16, reason: &str) -> Result<(), HookError> {
        let state = self.state();
        call!(self, "on-close", &mut None, on_close(by, code, reason, &state))
    }

    /// What a failure means for the exchange: it fails too, or goes on without this plugin.
    ///
    /// # Errors
    /// The plugin's policy is to deny.
    pub(super) fn failed(&self, error: HookError) -> Result<(), ForwardError> {
        match self.plugin.on_failure {
            OnFailure::Skip => Ok(()),
            OnFailure::Deny => Err(error.into_forward_error(self.plugin.name())),
        }
    }

    /// What a plugin gave back isn't allowed: logged and counted as a failure of the hook.
    pub(super) fn rejected(
        &self,
        hook: &'static str,
        exchange: ExchangeId,
        error: HookError,
    ) -> Result<(), ForwardError> {
        self.plugin.measured.refused(&self.plugin.name_shared(), hook);
        let end = Err::<(), _>(error);
        self.plugin.note(hook, Some(exchange), &end);
        end.or_else(|error| self.failed(error))
    }
}
