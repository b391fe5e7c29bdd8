//! The calls of one connection: one after the other, in the order in which their messages came.
//!
//! A call belongs to no half of the duplex. If it did, the half that began it would have to be polled on until the call
//! ends, and whoever polls it may well not: a stage further out that has something else for a slow visitor leaves its
//! inner halves alone. The call would never end, and the other direction, which waits for its turn, would stand still.
//! So whichever half is polled moves on whatever call there is.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::task::coop;

use super::{
    super::{
        bindings::tunnel::plugin::types::{Side, WsMessage},
        error::HookError,
    },
    Listener,
    verdict::{Checked, check},
};

pub(super) struct Calls<L> {
    listener: Arc<L>,
    /// At most one message of each side.
    waiting: VecDeque<(Side, WsMessage)>,
    current: Option<(Side, Call)>,
}

type Call = Pin<Box<dyn Future<Output = (WsMessage, Outcome)> + Send>>;
pub(super) type Outcome = Result<Checked, HookError>;

impl<L: Listener> Calls<L> {
    pub(super) fn new(listener: Arc<L>) -> Self {
        Self { listener, waiting: VecDeque::with_capacity(2), current: None }
    }

    pub(super) fn ask(&mut self, sender: Side, message: WsMessage) {
        self.waiting.push_back((sender, message));
    }

    /// Moves the calls on, and gives the next that has ended; `None` when there are no more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Side, WsMessage, Outcome)>> {
        if self.current.is_none() {
            if self.waiting.is_empty() {
                return Poll::Ready(None);
            }
            // Messages may lie ready by the thousand; other tasks have their turn in between.
            ready!(coop::poll_proceed(cx)).made_progress();
            let Some((sender, message)) = self.waiting.pop_front() else { return Poll::Ready(None) };
            let listener = Arc::clone(&self.listener);
            let call = async move {
                let outcome = ask(&*listener, sender, &message).await;
                (message, outcome)
            };
            self.current = Some((sender, Box::pin(call)));
        }
        let Some((sender, call)) = &mut self.current else { return Poll::Ready(None) };
        let (message, outcome) = ready!(call.as_mut().poll(cx));
        let sender = *sender;
        self.current = None;
        Poll::Ready(Some((sender, message, outcome)))
    }

    /// Asks nothing more; gives back what was to be asked.
    pub(super) fn stop(&mut self) -> impl Iterator<Item = (Side, WsMessage)> {
        self.current = None;
        std::mem::take(&mut self.waiting).into_iter()
    }
}

async fn ask<L: Listener>(listener: &L, sender: Side, message: &WsMessage) -> Outcome {
    let verdict = listener.message(sender, message).await?;
    let checked = check(verdict, listener.largest()).and_then(|(checked, state)| match state {
        Some(state) => listener.keep(state).map(|()| checked),
        None => Ok(checked),
    });
    if let Err(error) = &checked {
        listener.rejected(error);
    }
    checked
}
