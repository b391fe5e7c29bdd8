//! How many requests and WebSocket messages a tunnel may get.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Sink, SinkExt};

use super::bucket::{Buckets, Take};
use crate::{
    exchange::{
        Answer, ErrorKind, Forward, ForwardError, ForwardFuture, Request,
        websocket::{Duplex, Event},
    },
    proxy::Rate,
    wire::TunnelName,
};

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

    async fn pass(&self, request: Request, buckets: &Arc<Buckets>) -> Result<Answer, ForwardError> {
        let name = request.context.tunnel.clone();
        let mut answer = self.next.forward(request).await?;
        if let Answer::WebSocket(accepted) = &mut answer {
            pace(&mut accepted.duplex, Arc::clone(buckets), name);
        }
        Ok(answer)
    }
}

impl Forward for RateLimit {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        let Some(buckets) = &self.buckets else { return self.next.forward(request) };
        match buckets.take(&request.context.tunnel) {
            Take::Taken => Box::pin(self.pass(request, buckets)),
            Take::Refused(wait) => Box::pin(std::future::ready(Err(too_many(buckets.rate, wait)))),
            Take::Asking(asking) => Box::pin(async move {
                asking.await.map_err(|wait| too_many(buckets.rate, wait))?;
                self.pass(request, buckets).await
            }),
        }
    }
}

fn too_many(rate: Rate, retry_after: Duration) -> ForwardError {
    let Rate { tokens, burst, .. } = rate;
    let detail = format!("this tunnel gets at most {tokens} requests {}, and {burst} at once", rate.period());
    ForwardError::new(ErrorKind::TooManyRequests { retry_after }, detail)
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
    /// A message went ahead of its token; the next one waits until it is taken.
    owes: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Paced {
    fn take(&mut self) {
        self.owes = match self.buckets.take(&self.name) {
            Take::Taken => None,
            later => Some(Box::pin(in_time(later, Arc::clone(&self.buckets), self.name.clone()))),
        };
    }

    fn poll_owed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(owed) = &mut self.owes {
            ready!(owed.as_mut().poll(cx));
            self.owes = None;
        }
        Poll::Ready(())
    }
}

/// Takes a token as soon as there is one.
async fn in_time(mut take: Take, buckets: Arc<Buckets>, name: TunnelName) {
    loop {
        let taken = match take {
            Take::Taken => Ok(()),
            Take::Refused(wait) => Err(wait),
            Take::Asking(asking) => asking.await,
        };
        let Err(wait) = taken else { return };
        tokio::time::sleep(wait).await;
        take = buckets.take(&name);
    }
}

impl Sink<Event> for Paced {
    type Error = ForwardError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        ready!(self.poll_owed(cx));
        self.inner.as_mut().poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, event: Event) -> Result<(), ForwardError> {
        if !matches!(event, Event::Close(_)) {
            self.take();
        }
        self.inner.as_mut().start_send(event)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        // A token that has to be asked for is asked for now, also if no message follows that would wait for it.
        let _ = self.poll_owed(cx);
        self.inner.as_mut().poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        self.inner.as_mut().poll_close(cx)
    }
}
