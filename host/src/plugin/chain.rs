//! The stage that asks plugins: each request first to last, each answer last to first.

use std::sync::Arc;

use super::{
    bindings::tunnel::plugin::types::{BodyMode, Forward as Onward, HeadVerdict},
    body::{self, Way},
    edit,
    error::HookError,
    hand::Hand,
    load::Plugin,
    visit::Visit,
    websocket,
};
use crate::exchange::{
    Answer, Body, ErrorKind, Forward, ForwardError, ForwardFuture, Request, RequestKind, Response,
};

/// Plugins in order, and the stage behind them.
pub struct Chain {
    plugins: Vec<Arc<Plugin>>,
    next: Arc<dyn Forward>,
}

impl Chain {
    /// A stage that takes exchanges through `plugins` before `next`, and back. Their ticks begin: on the runtime in whose
    /// context this is called.
    pub fn new(plugins: Vec<Arc<Plugin>>, next: Arc<dyn Forward>) -> Self {
        plugins.iter().for_each(Plugin::put_to_use);
        Self { plugins, next }
    }

    async fn run(&self, request: Request) -> Result<Answer, ForwardError> {
        let Request { head, mut body, context } = request;
        let (exchange, witness) = (context.exchange, context.witness.clone());
        let mut hand = Some(Hand::new(head, context));
        let mut visits = Vec::with_capacity(self.plugins.len());
        for plugin in &self.plugins {
            let visit = Arc::new(Visit::new(plugin, exchange, witness.clone()));
            if plugin.hooks.request {
                match on_request(&visit, &mut hand, body).await? {
                    Passed::On(onward) => body = onward,
                    Passed::Without(onward) => {
                        body = onward;
                        continue;
                    }
                    Passed::Answered(response) => {
                        let hand = hand.ok_or_else(lost)?;
                        return way_back(visits, hand, Answer::Http(response)).await;
                    }
                }
            }
            visits.push(visit);
        }
        let hand = hand.ok_or_else(lost)?;
        // Who looks at answers looks at what was asked, too.
        let asked = visits.iter().any(|visit| visit.plugin.hooks.response || visit.plugin.hooks.websocket);
        let kept = asked.then(|| Hand::new(hand.head.clone(), hand.context.clone()));
        let answer = self.next.forward(Request { head: hand.head, body, context: hand.context }).await?;
        match kept {
            Some(hand) => way_back(visits, hand, answer).await,
            None => Ok(answer),
        }
    }
}

impl Forward for Chain {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        Box::pin(self.run(request))
    }
}

/// The exchange didn't come back from a call: the call was cut off, and with it the exchange.
pub(super) fn lost() -> ForwardError {
    ForwardError::new(ErrorKind::PluginFailed, "a plugin was cut off")
}

/// How a request left a plugin.
enum Passed {
    On(Body),
    /// The plugin failed, and the exchange goes on without it.
    Without(Body),
    Answered(Response),
}

async fn on_request(visit: &Arc<Visit>, hand: &mut Option<Hand>, body: Body) -> Result<Passed, ForwardError> {
    const HOOK: &str = "on-request";
    let verdict = visit.on_request(hand).await;
    let held = hand.as_mut().ok_or_else(lost)?;
    let exchange = held.context.exchange;
    let mode = match verdict {
        Err(error) => {
            visit.failed(error)?;
            held.noted.clear();
            return Ok(Passed::Without(body));
        }
        Ok(HeadVerdict::Abort(reason)) => return Err(aborted(visit, &reason)),
        Ok(HeadVerdict::Respond(answer)) => match edit::answer(answer, visit.plugin.limits.body) {
            Ok(response) => {
                held.keep_notes();
                return Ok(Passed::Answered(response));
            }
            Err(error) => Err(error),
        },
        Ok(HeadVerdict::Forward(onward)) => accept(visit, held, onward),
    };
    match mode {
        Err(error) => {
            visit.rejected(HOOK, exchange, error)?;
            held.noted.clear();
            Ok(Passed::Without(body))
        }
        Ok(_) if held.head.kind == RequestKind::WebSocket => Ok(Passed::On(body)),
        Ok(BodyMode::Pass) => Ok(Passed::On(body)),
        Ok(BodyMode::Chunks) => Ok(Passed::On(body::chunks(visit, held, body, Way::Request))),
        Ok(BodyMode::Whole) => match body::whole(visit, hand, body, Way::Request).await? {
            body::Whole::On(body) => Ok(Passed::On(body)),
            body::Whole::Answered(response) => Ok(Passed::Answered(response)),
        },
    }
}

/// Takes on what a head's verdict says.
fn accept(visit: &Visit, hand: &mut Hand, onward: Onward) -> Result<BodyMode, HookError> {
    visit.set_state(onward.state)?;
    edit::apply(hand, onward.edits)?;
    hand.keep_notes();
    Ok(onward.body)
}

pub(super) fn aborted(visit: &Visit, reason: &str) -> ForwardError {
    let name = visit.plugin.name();
    ForwardError::new(ErrorKind::RefusedByPlugin, format!("the plugin {name} refused this exchange"))
        .because(reason)
}

async fn way_back(visits: Vec<Arc<Visit>>, hand: Hand, mut answer: Answer) -> Result<Answer, ForwardError> {
    let mut hand = Some(hand);
    for visit in visits.into_iter().rev() {
        answer = match answer {
            Answer::Http(response) if visit.plugin.hooks.response => {
                Answer::Http(on_response(&visit, &mut hand, response).await?)
            }
            Answer::WebSocket(accepted) if visit.plugin.hooks.websocket => {
                Answer::WebSocket(websocket::on_open(&visit, &mut hand, accepted).await?)
            }
            answer => answer,
        };
    }
    Ok(answer)
}

async fn on_response(
    visit: &Arc<Visit>,
    hand: &mut Option<Hand>,
    response: Response,
) -> Result<Response, ForwardError> {
    const HOOK: &str = "on-response";
    let (head, body) = edit::split(response);
    hand.as_mut().ok_or_else(lost)?.response = Some(head);
    let verdict = visit.on_response(hand).await;
    let held = hand.as_mut().ok_or_else(lost)?;
    let exchange = held.context.exchange;
    let mode = match verdict {
        Err(error) => {
            visit.failed(error)?;
            held.noted.clear();
            return body::joined(hand, body);
        }
        Ok(HeadVerdict::Abort(reason)) => return Err(aborted(visit, &reason)),
        Ok(HeadVerdict::Respond(answer)) => match edit::answer(answer, visit.plugin.limits.body) {
            Ok(response) => {
                held.keep_notes();
                return Ok(response);
            }
            Err(error) => Err(error),
        },
        Ok(HeadVerdict::Forward(onward)) => accept(visit, held, onward),
    };
    match mode {
        Err(error) => {
            visit.rejected(HOOK, exchange, error)?;
            held.noted.clear();
            body::joined(hand, body)
        }
        Ok(_) if body::has_none(held) => body::joined(hand, body),
        Ok(BodyMode::Pass) => body::joined(hand, body),
        Ok(BodyMode::Chunks) => {
            let body = body::chunks(visit, held, body, Way::Response);
            body::joined(hand, body)
        }
        Ok(BodyMode::Whole) => match body::whole(visit, hand, body, Way::Response).await? {
            body::Whole::On(body) => body::joined(hand, body),
            body::Whole::Answered(response) => Ok(response),
        },
    }
}
