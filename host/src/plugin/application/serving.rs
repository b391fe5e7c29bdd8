//! One request: the call, the answer's head, and its body for as long as somebody reads it.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderValue, Uri, header};
use http_body::{Body as HttpBody, Frame};
use tokio::{
    sync::oneshot,
    time::{sleep_until, timeout},
};
use wasmtime_wasi_http::{
    WasiHttpView,
    p2::{
        bindings::http::types::{ErrorCode, Scheme as WasiScheme},
        body::HyperOutgoingBody,
    },
};

use super::{
    super::{error::HookError, guest, meter::Meter},
    HOOK, Instance, Place, Shared, head,
    upload::{Progress, Upload},
};
use crate::exchange::{Asked, Body, ExchangeId, ForwardError, Request, Response, Scheme, hygiene};

type Outcome = Result<(), HookError>;
type Head = Result<http::Response<HyperOutgoingBody>, ErrorCode>;

/// Asks an application, and gives its answer as soon as its head is there.
pub(super) async fn answer(application: &Arc<Shared>, request: Request) -> Result<Response, ForwardError> {
    let (exchange, witness) = (request.context.exchange, request.context.witness.clone());
    let began = Instant::now();
    let answered = try_answer(application, request).await;
    let (verdict, time) = (answered.as_ref().map_or_else(HookError::word, |_| "respond"), began.elapsed());
    application.measured.called(&application.name, HOOK, verdict, time);
    if let Some(witness) = witness {
        witness.asked(&Asked { plugin: &application.name, hook: HOOK, verdict, time });
    }
    answered.map_err(|error| {
        application.note(exchange, Err(&error));
        application.failed(error)
    })
}

async fn try_answer(application: &Arc<Shared>, request: Request) -> Result<Response, HookError> {
    let (instance, place) = application.instance().await?;
    let (exchange, method) = (request.context.exchange, request.head.method.clone());
    let progress = Progress::new();
    let (mut call, answered) = Call::begin(application, instance, place, request, progress.clone())?;
    let response = call.head(answered, &progress).await?;
    let (mut head, body) = response.into_parts();
    let follows = head::check(&mut head, &body, &method).map_err(HookError::Verdict)?;
    let mut pieces = Pieces { call: Some(call), body, exchange, discarded: !follows };
    let body = if follows {
        Body::stream(pieces)
    } else {
        // It may write one all the same, which nobody gets.
        let wait = application.wait();
        application.after.spawn(async move {
            let _ = timeout(wait, poll_fn(|cx| pieces.poll_discard(cx))).await;
        });
        Body::empty()
    };
    Ok(Response { status: head.status, headers: head.headers, body })
}

/// A call of the guest, under way or ended. Whoever polls it runs the guest.
struct Call {
    application: Arc<Shared>,
    runs: Option<Runs>,
    /// How it ended. The instance stays until the answer's body has been read, also if it failed: without it, a body
    /// that was never finished would look like one that was.
    ended: Option<(Instance, Outcome)>,
    meter: Arc<Meter>,
    /// Given up last.
    _place: Place,
}

type Runs = Pin<Box<dyn Future<Output = (Instance, Outcome)> + Send>>;

impl Call {
    fn begin(
        application: &Arc<Shared>,
        mut instance: Instance,
        place: Place,
        request: Request,
        progress: Progress,
    ) -> Result<(Self, oneshot::Receiver<Head>), HookError> {
        let broken = |error: wasmtime::Error| HookError::Trap(format!("{error:#}"));
        let Request { head, body, context } = request;
        let wanted = context.interim.filter(|_| hygiene::expects_continue(&head.headers));
        let mut incoming = http::Request::new(Upload::new(body, progress, wanted));
        *incoming.method_mut() = head.method;
        *incoming.uri_mut() = Uri::from(head.target);
        *incoming.headers_mut() = head.headers;
        // Not for the guest, which asks for the authority.
        let host = HeaderValue::try_from(head.authority).unwrap_or_else(|_| HeaderValue::from_static(""));
        incoming.headers_mut().insert(header::HOST, host);
        let scheme = match head.scheme {
            Scheme::Http => WasiScheme::Http,
            Scheme::Https => WasiScheme::Https,
        };
        instance.requests += 1;
        let data = instance.store.data_mut();
        data.state.begin(HOOK, application.config.limits.time, None);
        data.state.lent.begin(HOOK, Some(context.exchange));
        let meter = Arc::clone(&data.state.meter);
        let (answers, answered) = oneshot::channel();
        let incoming = data.http().new_incoming_request(scheme, incoming).map_err(broken)?;
        let outparam = data.http().new_response_outparam(answers).map_err(broken)?;
        instance.store.set_epoch_deadline(1);
        let limits = application.config.limits.clone();
        let runs = async move {
            let handler = instance.proxy.wasi_http_incoming_handler();
            let called = handler.call_handle(&mut instance.store, incoming, outparam).await;
            let outcome = guest::judge(Some(called), &instance.store.data().state, &limits);
            (instance, outcome)
        };
        let runs: Runs = Box::pin(runs);
        let application = Arc::clone(application);
        Ok((Self { application, runs: Some(runs), ended: None, meter, _place: place }, answered))
    }

    /// Runs the guest as far as it goes. Ready when it has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(runs) = &mut self.runs else { return Poll::Ready(()) };
        let ended = {
            let _runs = self.meter.polled();
            ready!(runs.as_mut().poll(cx))
        };
        self.runs = None;
        self.ended = Some(ended);
        Poll::Ready(())
    }

    /// How it failed, if it has.
    fn failure(&self) -> Option<HookError> {
        self.ended.as_ref().and_then(|(_, outcome)| outcome.as_ref().err().cloned())
    }

    async fn head(
        &mut self,
        mut answered: oneshot::Receiver<Head>,
        progress: &Progress,
    ) -> Result<http::Response<HyperOutgoingBody>, HookError> {
        let wait = self.application.wait();
        let head = poll_fn(|cx| {
            let ended = self.poll(cx).is_ready();
            match Pin::new(&mut answered).poll(cx) {
                Poll::Ready(Ok(Ok(response))) => Poll::Ready(Ok(response)),
                Poll::Ready(Ok(Err(code))) => Poll::Ready(Err(HookError::Fault(format!("{code:?}")))),
                // It let go of what it answers through.
                Poll::Ready(Err(_)) => Poll::Ready(Err(self.failure().unwrap_or_else(unanswered))),
                // Whoever could answer is done.
                Poll::Pending if ended => Poll::Ready(Err(self.failure().unwrap_or_else(unanswered))),
                Poll::Pending => Poll::Pending,
            }
        });
        let mut head = std::pin::pin!(head);
        loop {
            let deadline = progress.deadline(wait);
            tokio::select! {
                biased;
                head = &mut head => return head,
                () = sleep_until(deadline) => {
                    if progress.deadline(wait) == deadline {
                        return Err(HookError::Wait(wait));
                    }
                }
            }
        }
    }

    /// The answer is complete. What the guest still does, it does on its own, for a while.
    fn finish(mut self, exchange: ExchangeId) {
        if self.runs.is_none() {
            return self.settle(exchange);
        }
        let application = Arc::clone(&self.application);
        application.after.clone().spawn(async move {
            let wait = application.wait();
            match timeout(wait, poll_fn(|cx| self.poll(cx))).await {
                Ok(()) => self.settle(exchange),
                Err(_) => application.note(exchange, Err(&HookError::Wait(wait))),
            }
        });
    }

    /// The guest has ended: its end is noted, and its instance kept.
    fn settle(mut self, exchange: ExchangeId) {
        let Some((instance, outcome)) = self.ended.take() else { return };
        self.application.note(exchange, outcome.as_ref().copied());
        if outcome.is_ok() {
            self.application.keep(instance);
        }
    }
}

fn unanswered() -> HookError {
    HookError::Answer("it ended without an answer")
}

/// An answer's body. Dropped before its end, it ends the call.
struct Pieces {
    /// Until the body has ended.
    call: Option<Call>,
    body: HyperOutgoingBody,
    exchange: ExchangeId,
    /// Nobody gets it.
    discarded: bool,
}

impl Pieces {
    fn failed(&mut self, error: HookError) -> Option<Result<Frame<Bytes>, ForwardError>> {
        let call = self.call.take()?;
        if self.discarded {
            // As to a HEAD, whose answer has a length and no body: a guest may well stumble over that.
            tracing::debug!(target: "plugin", plugin = &*call.application.name, "failed after its answer: {error}");
            return None;
        }
        call.application.note(self.exchange, Err(&error));
        Some(Err(call.application.failed(error)))
    }

    /// Reads on, and throws away.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while ready!(Pin::new(&mut *self).poll_frame(cx)).is_some() {}
        Poll::Ready(())
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        let this = &mut *self;
        let Some(call) = &mut this.call else { return Poll::Ready(None) };
        let ended = call.poll(cx).is_ready();
        let failure = call.failure();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(match frame.into_trailers() {
                Ok(mut trailers) => {
                    hygiene::trailers(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(frame) => frame,
            }))),
            Poll::Ready(None) => {
                if let Some(call) = this.call.take() {
                    call.finish(this.exchange);
                }
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => {
                let unfinished = || HookError::Answer("it broke its answer's body off");
                Poll::Ready(this.failed(failure.unwrap_or_else(unfinished)))
            }
            // Whoever could go on with it is done.
            Poll::Pending if ended => {
                let unfinished = || HookError::Answer("it ended without finishing its answer's body");
                Poll::Ready(this.failed(failure.unwrap_or_else(unfinished)))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
