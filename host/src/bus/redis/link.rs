//! One end of a link between two nodes: a session's messages in numbered envelopes, published to the other's inbox.
//!
//! While one envelope is on its way to Redis, the next one fills: the busier the link, the fewer envelopes it takes for a
//! message. Redis says how many heard an envelope. So an envelope that nobody heard is known not to have arrived, and
//! with it the requests that it opened; those may be tried elsewhere. One that got lost later leaves a gap in the
//! numbers, and a gap ends the link: never is a body put together from what is left.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::sync::mpsc;

use super::metrics::Metrics;
use crate::{
    redis::{Redis, RedisError, cmd},
    session::{Arrival, Ended, Transport},
    wire::{
        Message,
        envelope::{Batch, Content, Envelope, Messages, Sender},
    },
};

/// Longest wait for Redis to take an envelope. The other end has given up by then.
const PUBLISH: Duration = Duration::from_secs(5);

/// For the last word.
const FAREWELL: Duration = Duration::from_millis(500);

/// Envelopes that may wait for the link's task. Credit bounds the bytes in them; a link that overruns has broken.
pub(super) const ARRIVALS: usize = 1024;

type Publishing = Pin<Box<dyn Future<Output = Result<u64, RedisError>> + Send>>;

/// The way to another node.
pub(super) struct Link {
    redis: Redis,
    /// The other's inbox.
    inbox: String,
    own: Sender,
    arrivals: mpsc::Receiver<Content>,
    /// The number of the next envelope that should come.
    expected: u64,
    /// What is left of the last one that came.
    unread: Messages,
    batch: Batch,
    /// An envelope on its way to Redis, and how many messages it holds.
    publishing: Option<(Publishing, usize)>,
    never_arrived: usize,
    metrics: Metrics,
}

impl Link {
    pub(super) fn new(
        redis: Redis,
        inbox: String,
        own: Sender,
        arrivals: mpsc::Receiver<Content>,
        metrics: Metrics,
    ) -> Self {
        Self {
            redis,
            inbox,
            own,
            arrivals,
            expected: 0,
            unread: Messages::default(),
            batch: Batch::new(own),
            publishing: None,
            never_arrived: 0,
            metrics,
        }
    }

    fn publish(&mut self) {
        let messages = self.batch.messages();
        let envelope = self.batch.close();
        let mut command = cmd("PUBLISH");
        command.arg(&self.inbox).arg(envelope);
        let redis = self.redis.clone();
        self.metrics.envelopes.inc();
        let publishing = Box::pin(async move { redis.call_within(PUBLISH, &command).await });
        self.publishing = Some((publishing, messages));
    }

    /// Waits until no envelope is on its way to Redis.
    fn poll_published(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        let Some((publishing, messages)) = &mut self.publishing else { return Poll::Ready(Ok(())) };
        let (outcome, messages) = (ready!(publishing.as_mut().poll(cx)), *messages);
        self.publishing = None;
        let (why, heard) = match outcome {
            Ok(1..) => return Poll::Ready(Ok(())),
            Ok(0) => ("the other node doesn't listen".to_owned(), false),
            // Redis may have passed it on before the connection broke.
            Err(error @ RedisError::Lost(_)) => (error.to_string(), true),
            Err(error) => (error.to_string(), false),
        };
        self.never_arrived = self.batch.messages() + if heard { 0 } else { messages };
        Poll::Ready(Err(Ended::Broken(why)))
    }

    fn opened(&mut self, content: Content) -> Result<(), Ended> {
        match content {
            Content::Reset => Err(Ended::ClosedByPeer),
            Content::Messages(number, messages) if number == self.expected => {
                self.expected += 1;
                self.unread = messages;
                Ok(())
            }
            // It came before.
            Content::Messages(number, _) if number < self.expected => Ok(()),
            Content::Messages(number, _) => {
                let lost = number - self.expected;
                self.metrics.lost.inc_by(lost);
                Err(Ended::Lost(lost))
            }
        }
    }
}

impl Transport for Link {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arrival, Ended>> {
        loop {
            match self.unread.next() {
                Some(Ok(message)) => return Poll::Ready(Arrival::decode(message)),
                Some(Err(error)) => return Poll::Ready(Err(Ended::Broken(error.to_string()))),
                None => {}
            }
            match ready!(self.arrivals.poll_recv(cx)) {
                Some(content) => self.opened(content)?,
                // Its place among the routes was taken away.
                None => return Poll::Ready(Err(Ended::Broken("the link's inbox overran".to_owned()))),
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while self.batch.is_full() {
            ready!(self.poll_published(cx))?;
            self.publish();
        }
        Poll::Ready(Ok(()))
    }

    fn put(&mut self, message: &Message) -> Result<(), Ended> {
        self.batch.push(&message.encode());
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        loop {
            ready!(self.poll_published(cx))?;
            if self.batch.messages() == 0 {
                return Poll::Ready(Ok(()));
            }
            self.publish();
        }
    }

    async fn close(&mut self, ended: &Ended) {
        if matches!(ended, Ended::ClosedByPeer | Ended::Dropped) {
            return;
        }
        let mut command = cmd("PUBLISH");
        command.arg(&self.inbox).arg(Envelope::reset(self.own));
        // A node that doesn't hear it finds out by silence.
        let _ = self.redis.call_within::<u64>(FAREWELL, &command).await;
    }

    fn never_arrived(&self) -> usize {
        self.never_arrived
    }
}
