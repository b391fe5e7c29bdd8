//! How many requests and WebSocket messages a tunnel may get: one token bucket for each.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures_util::{Sink, SinkExt};
use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, state::keyed::DashMapStateStore,
};
use tokio::time::Sleep;

use crate::{
    exchange::{
        Answer, ErrorKind, Forward, ForwardError, ForwardFuture, Request,
        websocket::{Duplex, Event},
    },
    proxy::Rate,
    wire::TunnelName,
};

/// After so many tokens the buckets that are full again are dropped: a full one is the same as none. Until then, and
/// as long as it takes a bucket to fill, names that nobody registered take room too, about 100 bytes each.
const HOUSEKEEPING: usize = 4096;

/// Refuses requests over a tunnel's rate, and slows its WebSockets down to it.
pub(crate) struct RateLimit {
    next: Arc<dyn Forward>,
    buckets: Option<Arc<Buckets>>,
}

impl RateLimit {
    /// The buckets to take from; `None` lets everything pass.
    pub(crate) fn new(buckets: Option<Arc<Buckets>>, next: Arc<dyn Forward>) -> Self {
        Self { next, buckets }
    }
}

impl Forward for RateLimit {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        let Some(buckets) = &self.buckets else { return self.next.forward(request) };
        let name = request.context.tunnel.clone();
        if let Err(retry_after) = buckets.try_take(&name) {
            let detail = format!(
                "this tunnel gets at most {} requests a second, and {} at once",
                buckets.rate.per_second, buckets.rate.burst
            );
            let kind = ErrorKind::TooManyRequests { retry_after };
            return Box::pin(std::future::ready(Err(ForwardError::new(kind, detail))));
        }
        Box::pin(async move {
            let mut answer = self.next.forward(request).await?;
            if let Answer::WebSocket(accepted) = &mut answer {
                pace(&mut accepted.duplex, buckets.clone(), name);
            }
            Ok(answer)
        })
    }
}

/// All tunnels' buckets.
pub(crate) struct Buckets {
    rate: Rate,
    limiter: RateLimiter<TunnelName, DashMapStateStore<TunnelName>, RuntimeClock, NoOpMiddleware<Instant>>,
    taken: AtomicUsize,
}

impl Buckets {
    pub(crate) fn new(rate: Rate) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let limiter = RateLimiter::dashmap_with_clock(quota, RuntimeClock);
        Self { rate, limiter, taken: AtomicUsize::new(0) }
    }

    /// Takes a token, or says how long it takes until there is one.
    fn try_take(&self, name: &TunnelName) -> Result<(), Duration> {
        if self.taken.fetch_add(1, Ordering::Relaxed) % HOUSEKEEPING == HOUSEKEEPING - 1 {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(name).map_err(|refused| refused.wait_time_from(RuntimeClock.now()))
    }
}

/// The runtime's clock, so that tests can pause it.
struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// Makes each message of the visitor take a token, and wait for it if there is none.
fn pace(duplex: &mut Duplex, buckets: Arc<Buckets>, name: TunnelName) {
    let nothing = Box::pin(futures_util::sink::drain().sink_map_err(|never| match never {}));
    let inner = std::mem::replace(&mut duplex.outgoing, nothing);
    duplex.outgoing = Box::pin(Paced { inner, buckets, name, owes: None });
}

struct Paced {
    inner: Pin<Box<dyn Sink<Event, Error = ForwardError> + Send>>,
    buckets: Arc<Buckets>,
    name: TunnelName,
    /// A message went ahead of its token; the next one waits until this time and takes the token first.
    owes: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    fn take(&mut self) {
        let wait = self.buckets.try_take(&self.name).err();
        self.owes = wait.map(|wait| Box::pin(tokio::time::sleep(wait)));
    }
}

impl Sink<Event> for Paced {
    type Error = ForwardError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        while let Some(sleep) = &mut self.owes {
            ready!(sleep.as_mut().poll(cx));
            self.take();
        }
        self.inner.as_mut().poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, event: Event) -> Result<(), ForwardError> {
        if !matches!(event, Event::Close(_)) {
            self.take();
        }
        self.inner.as_mut().start_send(event)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        self.inner.as_mut().poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        self.inner.as_mut().poll_close(cx)
    }
}
