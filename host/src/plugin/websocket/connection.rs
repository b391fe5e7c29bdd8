//! A duplex whose messages meet a plugin: its two halves, and what they share.
//!
//! ```text
//!            visitor                                   origin
//!   start_send ──▶ held ──▶ (call) ──▶ to_origin ──▶ the inner sink
//!                               ╳                        extras may go either way
//!    poll_next ◀── to_visitor ◀── (call) ◀── held ◀── the inner stream
//! ```
//!
//! Each direction holds one message that is being asked about; what follows it waits outside, and that is the
//! backpressure. What a call adds towards the far side of its own direction lies in the queue of that direction, which
//! is empty before the next message is taken. What it adds towards the sender goes into the queue of the other
//! direction, and that one may stand still while its reader does. So a message is only asked about while that queue
//! isn't full: a visitor who doesn't read stops what goes to it, and what would make more go to it, and nothing else.
//! No direction ever waits for the other in any other way.
//!
//! One lock holds everything, for the length of one poll and never across a wait. Both halves poll with a waker that
//! wakes both, because either may have begun what the other waits for.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker, ready},
};

use futures_util::{Sink, Stream, task::AtomicWaker};

use super::{
    super::{
        bindings::tunnel::plugin::types::{Side, WsInterest, WsMessage},
        error::HookError,
    },
    Listener,
    calls::{Calls, Outcome},
    failed,
    queue::Queue,
    verdict::{Action, event, interesting},
};
use crate::exchange::{
    ForwardError,
    websocket::{Close, Duplex, Event},
};

/// Events that are thrown away in one poll, before others have their turn.
const DRAINED_AT_ONCE: usize = 32;

/// Lets `listener` see the messages of `inner` that are of interest.
pub(super) fn wrap<L: Listener>(inner: Duplex, interest: WsInterest, listener: Arc<L>) -> Duplex {
    let wakers = Arc::new(Wakers::default());
    let connection = Arc::new(Mutex::new(Connection {
        inner,
        interest,
        asks: true,
        calls: Calls::new(Arc::clone(&listener)),
        held: [Held::Nothing, Held::Nothing],
        to_visitor: Queue::default(),
        to_origin: Queue::default(),
        unflushed: false,
        broken: None,
        incoming_ended: false,
        shut: false,
        end: None,
        waker: Waker::from(Arc::clone(&wakers)),
        listener,
    }));
    Duplex {
        incoming: Box::pin(Incoming { connection: Arc::clone(&connection), wakers: Arc::clone(&wakers) }),
        outgoing: Box::pin(Outgoing { connection, wakers }),
    }
}

type Polled = Poll<Result<(), ForwardError>>;

/// Whoever waits in either half.
#[derive(Default)]
struct Wakers {
    incoming: AtomicWaker,
    outgoing: AtomicWaker,
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.incoming.wake();
        self.outgoing.wake();
    }
}

/// The message of one direction that is on its way through the plugin.
enum Held {
    Nothing,
    /// It is asked about once there is room for what may come of it.
    Waiting(WsMessage),
    Asked,
}

impl Held {
    fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

struct Connection<L: Listener> {
    inner: Duplex,
    interest: WsInterest,
    /// Not any more once the plugin has failed and is skipped.
    asks: bool,
    calls: Calls<L>,
    /// By the side that sent it.
    held: [Held; 2],
    /// What the incoming half gives next.
    to_visitor: Queue,
    /// What goes into the inner sink next.
    to_origin: Queue,
    /// The incoming half has put something into the inner sink, which nobody else may flush.
    unflushed: bool,
    /// The inner sink failed while the incoming half used it.
    broken: Option<ForwardError>,
    /// The inner stream gives nothing more.
    incoming_ended: bool,
    /// The plugin, or its failure, has closed the connection; what either side still sends is dropped.
    shut: bool,
    /// Who ended it first, and how.
    end: Option<(Side, Close)>,
    waker: Waker,
    listener: Arc<L>,
}

impl<L: Listener> Drop for Connection<L> {
    fn drop(&mut self) {
        // An instance that is dropped in the middle of a call is dropped before the next one.
        let _ = self.calls.stop();
        if self.asks {
            // Nobody said anything: whoever had the duplex, which is the visitor's side, let go of it.
            let (by, close) = self.end.take().unwrap_or((Side::Visitor, Close::abnormal()));
            Arc::clone(&self.listener).closed(by, close);
        }
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Visitor => Side::Origin,
        Side::Origin => Side::Visitor,
    }
}

impl<L: Listener> Connection<L> {
    fn queue(&mut self, towards: Side) -> &mut Queue {
        match towards {
            Side::Visitor => &mut self.to_visitor,
            Side::Origin => &mut self.to_origin,
        }
    }

    fn held(&mut self, sender: Side) -> &mut Held {
        &mut self.held[sender as usize]
    }

    fn ended(&mut self, by: Side, close: &Close) {
        if self.end.is_none() {
            self.end = Some((by, close.clone()));
        }
    }

    /// Takes in what a side sends.
    fn admit(&mut self, sender: Side, event: Event) {
        if self.shut {
            return;
        }
        if let Event::Close(close) = &event {
            self.ended(sender, close);
        }
        let interest = if self.asks { self.interest } else { WsInterest::empty() };
        match interesting(event, sender, interest) {
            Ok(message) => *self.held(sender) = Held::Waiting(message),
            Err(event) => self.queue(other(sender)).push(event),
        }
    }

    /// Whether a message waits to be asked about, and there is room for what may go back to its sender.
    fn may_ask(&mut self, sender: Side) -> bool {
        matches!(self.held(sender), Held::Waiting(_)) && !self.queue(sender).is_full()
    }

    /// Something was taken out of the queue towards `side`, and a message may have waited for that.
    fn made_room(&mut self, side: Side) {
        if self.may_ask(side) {
            self.waker.wake_by_ref();
        }
    }

    /// Asks about what is held if there is room for the answer, and applies the verdicts that have come. The half that
    /// polls, which is the one that gives to `serves`, wakes the other if there is something for it.
    fn drive(&mut self, serves: Side, cx: &mut Context<'_>) {
        let mut for_other_half = false;
        loop {
            for sender in [Side::Visitor, Side::Origin] {
                if self.may_ask(sender)
                    && let Held::Waiting(message) = std::mem::replace(self.held(sender), Held::Asked)
                {
                    self.calls.ask(sender, message);
                }
            }
            match self.calls.poll(cx) {
                Poll::Ready(Some((sender, message, outcome))) => {
                    for_other_half |= sender == serves || self.answers(sender, &outcome);
                    self.settle(sender, message, outcome);
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if for_other_half {
            self.waker.wake_by_ref();
        }
    }

    /// Whether a verdict has something for both halves.
    fn answers(&self, sender: Side, outcome: &Outcome) -> bool {
        match outcome {
            Ok(checked) => {
                matches!(checked.action, Action::Close(_))
                    || checked.send.iter().any(|(side, _)| *side == sender)
            }
            Err(_) => true,
        }
    }

    /// Applies a verdict.
    fn settle(&mut self, sender: Side, message: WsMessage, outcome: Outcome) {
        *self.held(sender) = Held::Nothing;
        let far = other(sender);
        let checked = match outcome {
            Ok(checked) => checked,
            Err(error) if self.listener.denies() => return self.close(sender, &closing(&error)),
            Err(_) => return self.skip(sender, message),
        };
        let mut close = None;
        match checked.action {
            Action::Keep => self.queue(far).push(event(message)),
            Action::Replace(event) => self.queue(far).push(event),
            Action::Discard => {}
            Action::Close(with) => close = Some(with),
        }
        for (side, event) in checked.send {
            self.queue(side).push(event);
        }
        if let Some(close) = close {
            self.close(sender, &close);
        }
    }

    /// Closes towards both sides, behind what waits for them already.
    fn close(&mut self, by: Side, close: &Close) {
        self.ended(by, close);
        self.shut = true;
        self.held = [Held::Nothing, Held::Nothing];
        let _ = self.calls.stop();
        self.to_visitor.push(Event::Close(close.clone()));
        self.to_origin.push(Event::Close(close.clone()));
    }

    /// Goes on without the plugin.
    fn skip(&mut self, sender: Side, message: WsMessage) {
        self.asks = false;
        self.queue(other(sender)).push(event(message));
        let asked: Vec<_> = self.calls.stop().collect();
        for (sender, message) in asked {
            *self.held(sender) = Held::Nothing;
            self.queue(other(sender)).push(event(message));
        }
        for sender in [Side::Visitor, Side::Origin] {
            if let Held::Waiting(message) = std::mem::replace(self.held(sender), Held::Nothing) {
                self.queue(other(sender)).push(event(message));
            }
        }
    }

    /// Puts what waits for the origin into the inner sink.
    fn poll_to_origin(&mut self, cx: &mut Context<'_>) -> Polled {
        while !self.to_origin.is_empty() {
            let sent = ready!(self.inner.outgoing.as_mut().poll_ready(cx)).and_then(|()| {
                let event = self.to_origin.pop();
                event.map_or(Ok(()), |event| self.inner.outgoing.as_mut().start_send(event))
            });
            let sent = self.inner_sink(Poll::Ready(sent));
            self.made_room(Side::Origin);
            ready!(sent)?;
        }
        Poll::Ready(Ok(()))
    }

    /// What the inner sink says of itself. When it has failed, nothing more goes there; what the origin has sent before
    /// still goes to the visitor.
    fn inner_sink(&mut self, polled: Polled) -> Polled {
        if matches!(polled, Poll::Ready(Err(_))) {
            self.ended(Side::Origin, &Close::abnormal());
            self.to_origin.abandon();
        }
        polled
    }

    /// As [`Self::poll_to_origin`] from the incoming half, which has nobody to tell of a failure.
    fn push_to_origin(&mut self, cx: &mut Context<'_>) {
        if !self.to_origin.is_empty() {
            self.unflushed = true;
            if let Poll::Ready(Err(error)) = self.poll_to_origin(cx) {
                self.unflushed = false;
                self.broken = Some(error);
                self.waker.wake_by_ref();
            }
        }
        // An error shows in the outgoing half.
        if self.unflushed && self.inner.outgoing.as_mut().poll_flush(cx).is_ready() {
            self.unflushed = false;
        }
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            self.drive(Side::Visitor, cx);
            self.push_to_origin(cx);
            if let Some(event) = self.to_visitor.pop() {
                self.made_room(Side::Visitor);
                return Poll::Ready(Some(event));
            }
            if self.to_visitor.is_closed() || self.incoming_ended {
                return Poll::Ready(None);
            }
            if !self.held(Side::Origin).is_nothing() {
                return Poll::Pending;
            }
            match ready!(self.inner.incoming.as_mut().poll_next(cx)) {
                Some(event) => self.admit(Side::Origin, event),
                None => {
                    self.incoming_ended = true;
                    self.ended(Side::Origin, &Close::abnormal());
                }
            }
        }
    }

    /// Ready when the outgoing half holds nothing back.
    fn poll_passed(&mut self, cx: &mut Context<'_>) -> Polled {
        self.drive(Side::Origin, cx);
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        ready!(self.poll_to_origin(cx))?;
        if self.held(Side::Visitor).is_nothing() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Polled {
        ready!(self.poll_passed(cx))?;
        if self.to_origin.is_closed() {
            // What follows is dropped; see `Queue::push`.
            return Poll::Ready(Ok(()));
        }
        let ready = self.inner.outgoing.as_mut().poll_ready(cx);
        self.inner_sink(ready)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Polled {
        let passed = self.poll_passed(cx)?;
        let flushed = self.inner.outgoing.as_mut().poll_flush(cx);
        ready!(self.inner_sink(flushed))?;
        self.unflushed = false;
        passed.map(Ok)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Polled {
        ready!(self.poll_passed(cx))?;
        let closed = self.inner.outgoing.as_mut().poll_close(cx);
        ready!(self.inner_sink(closed))?;
        self.poll_drain(cx).map(Ok)
    }

    /// After a close that the origin didn't ask for: takes what it still sends until it has answered. Letting go of the
    /// duplex before that could break the connection off, and overtake the close.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.shut {
            return Poll::Ready(());
        }
        for _ in 0..DRAINED_AT_ONCE {
            if self.incoming_ended {
                return Poll::Ready(());
            }
            let event = ready!(self.inner.incoming.as_mut().poll_next(cx));
            self.incoming_ended = matches!(event, None | Some(Event::Close(_)));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What both ends hear of a plugin's failure.
fn closing(error: &HookError) -> Close {
    match error {
        // The registry of RFC 6455 section 11.7: try again later.
        HookError::Busy(_) => Close::new(1013, "a plugin has too much to do"),
        _ => failed(),
    }
}

fn lock<L: Listener>(connection: &Mutex<Connection<L>>) -> MutexGuard<'_, Connection<L>> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Incoming<L: Listener> {
    connection: Arc<Mutex<Connection<L>>>,
    wakers: Arc<Wakers>,
}

impl<L: Listener> Stream for Incoming<L> {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.wakers.incoming.register(cx.waker());
        let mut connection = lock(&self.connection);
        let waker = connection.waker.clone();
        connection.poll_incoming(&mut Context::from_waker(&waker))
    }
}

struct Outgoing<L: Listener> {
    connection: Arc<Mutex<Connection<L>>>,
    wakers: Arc<Wakers>,
}

impl<L: Listener> Outgoing<L> {
    fn poll(
        &self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Connection<L>, &mut Context<'_>) -> Polled,
    ) -> Polled {
        self.wakers.outgoing.register(cx.waker());
        let mut connection = lock(&self.connection);
        let waker = connection.waker.clone();
        poll(&mut connection, &mut Context::from_waker(&waker))
    }
}

impl<L: Listener> Sink<Event> for Outgoing<L> {
    type Error = ForwardError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        self.poll(cx, Connection::poll_ready)
    }

    fn start_send(self: Pin<&mut Self>, event: Event) -> Result<(), ForwardError> {
        lock(&self.connection).admit(Side::Visitor, event);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        self.poll(cx, Connection::poll_flush)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        self.poll(cx, Connection::poll_close)
    }
}
