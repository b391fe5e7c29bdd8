//! Two duplexes made one WebSocket: events pass both ways until it is over.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use futures_util::{
    Sink, SinkExt, Stream,
    future::{Either, select},
};

use tokio::time::timeout;

use super::{Close, Duplex, Event};
use crate::exchange::ForwardError;

/// How long the second direction may go on after the first has ended. The far side of a close has only to answer
/// it; one that doesn't would hold the connection for ever.
const CLOSING: Duration = Duration::from_secs(5);

type Incoming = Pin<Box<dyn Stream<Item = Event> + Send>>;
type Outgoing = Pin<Box<dyn Sink<Event, Error = ForwardError> + Send>>;

/// What passed over a WebSocket, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Bytes of text and binary messages that the far side sent.
    pub to_near_bytes: u64,
    /// Bytes of text and binary messages that the near side sent.
    pub to_far_bytes: u64,
    /// How the near side ended; [`Close::ABNORMAL`] when it didn't say.
    pub near: Close,
    /// How the far side ended; [`Close::ABNORMAL`] when it didn't say.
    pub far: Close,
}

/// Carries events between two duplexes until both have ended, or one has and the other didn't follow in time.
///
/// What is ready is passed on together and flushed once. A side that ends without a close is told to the other as
/// [`Close::abnormal`]. Dropping the future breaks both off.
pub async fn join(near: Duplex, far: Duplex) -> Joined {
    join_telling(near, far, &|_, _| ()).await
}

/// Which way an event passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the near side to the far one.
    ToFar,
    /// From the far side to the near one.
    ToNear,
}

/// As [`join`], and tells of each text and binary message with its length in bytes.
pub async fn join_telling(near: Duplex, far: Duplex, tell: &(dyn Fn(Way, usize) + Sync)) -> Joined {
    let (to_near_bytes, to_far_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let count = |sum: &AtomicU64, way, bytes: usize| {
        sum.fetch_add(bytes as u64, Relaxed);
        tell(way, bytes);
    };
    let (near_end, far_end) = {
        // Named, because they are borrowed for as long as the directions live.
        let (far_count, near_count) =
            (|n| count(&to_far_bytes, Way::ToFar, n), |n| count(&to_near_bytes, Way::ToNear, n));
        let to_far = pin!(pass(near.incoming, far.outgoing, &far_count));
        let to_near = pin!(pass(far.incoming, near.outgoing, &near_count));
        match select(to_far, to_near).await {
            Either::Left((near, to_near)) => (near, in_time(to_near).await),
            Either::Right((far, to_far)) => (in_time(to_far).await, far),
        }
    };
    Joined {
        to_near_bytes: to_near_bytes.into_inner(),
        to_far_bytes: to_far_bytes.into_inner(),
        near: near_end,
        far: far_end,
    }
}

async fn in_time(direction: impl Future<Output = Close>) -> Close {
    timeout(CLOSING, direction).await.unwrap_or_else(|_| Close::abnormal())
}

/// One direction. Returns how its source ended.
async fn pass(mut from: Incoming, mut to: Outgoing, message: &(dyn Fn(usize) + Sync)) -> Close {
    loop {
        // Taking an event only when there is room for it is the backpressure.
        if poll_fn(|cx| to.poll_ready_unpin(cx)).await.is_err() {
            return Close::abnormal();
        }
        let next = poll_fn(|cx| match from.as_mut().poll_next(cx) {
            Poll::Ready(event) => Poll::Ready(Ok(event)),
            // Nothing more at once: what was passed on has to leave now.
            Poll::Pending => match to.poll_flush_unpin(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Pending,
            },
        });
        let event = match next.await {
            Ok(event) => event.unwrap_or_else(|| Event::Close(Close::abnormal())),
            Err(_) => return Close::abnormal(),
        };
        let end = match &event {
            Event::Text(payload) | Event::Binary(payload) => {
                message(payload.len());
                None
            }
            Event::Close(close) => Some(close.clone()),
            _ => None,
        };
        let sent = to.start_send_unpin(event);
        if let Some(end) = end {
            // How the source ended counts, also when the other side can't be told any more.
            let _ = timeout(CLOSING, to.close()).await;
            return end;
        }
        if sent.is_err() {
            return Close::abnormal();
        }
    }
}
