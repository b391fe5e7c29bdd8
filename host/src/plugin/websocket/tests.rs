//! The wrapped duplex between an in-memory visitor and origin, with a listener whose answers the tests make up.
//!
//! The clock is paused: a timeout passes exactly when nothing else can happen any more.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::poll_fn, stream};
use tokio::{
    sync::{
        Semaphore,
        mpsc::{self, error::TrySendError},
    },
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::PollSender;

use super::*;
use crate::{
    exchange::{
        ErrorKind,
        websocket::{Duplex, Joined, join},
    },
    plugin::bindings::tunnel::plugin::types::{WsAction, WsInterest},
};

/// Longer than anything takes, also on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

type Answer = Result<WsVerdict, HookError>;

/// A listener that does as [`obey`] says, and remembers what it was asked.
pub(super) struct Fake {
    /// One permit for each call that may end.
    pub(super) turns: Semaphore,
    running: AtomicBool,
    asked: Mutex<Vec<(Side, String)>>,
    states: Mutex<Vec<Vec<u8>>>,
    rejected: AtomicBool,
    deny: bool,
    closed: mpsc::Sender<(Side, Close)>,
}

impl Listener for Fake {
    async fn message(&self, sender: Side, message: &WsMessage) -> Answer {
        assert!(!self.running.swap(true, SeqCst), "calls overlap");
        let text = match message {
            WsMessage::Text(text) => text.clone(),
            WsMessage::Binary(bytes) => format!("{} bytes", bytes.len()),
        };
        self.asked.lock().unwrap().push((sender, text.clone()));
        self.turns.acquire().await.expect("open").forget();
        self.running.store(false, SeqCst);
        obey(sender, &text)
    }

    fn keep(&self, state: Vec<u8>) -> Result<(), HookError> {
        if state.len() > 4 {
            return Err(HookError::Verdict("a state too large".to_owned()));
        }
        self.states.lock().unwrap().push(state);
        Ok(())
    }

    fn rejected(&self, _: &HookError) {
        self.rejected.store(true, SeqCst);
    }

    fn denies(&self) -> bool {
        self.deny
    }

    fn largest(&self) -> usize {
        1 << 20
    }

    fn closed(self: Arc<Self>, by: Side, close: Close) {
        // A test that has ended doesn't listen any more.
        assert!(!matches!(self.closed.try_send((by, close)), Err(TrySendError::Full(_))), "called twice");
    }
}

/// One end of a duplex in memory, as its peer sees it.
#[derive(Debug)]
pub(in crate::plugin) struct Peer {
    pub(in crate::plugin) send: Option<mpsc::Sender<Event>>,
    pub(in crate::plugin) receive: mpsc::Receiver<Event>,
}

pub(in crate::plugin) fn memory(capacity: usize) -> (Duplex, Peer) {
    let (send, mut incoming) = mpsc::channel(capacity);
    let (outgoing, receive) = mpsc::channel(capacity);
    let outgoing = PollSender::new(outgoing)
        .sink_map_err(|_| ForwardError::new(ErrorKind::OriginFailed, "the other end is gone"));
    let incoming = stream::poll_fn(move |cx| incoming.poll_recv(cx));
    let duplex = Duplex { incoming: Box::pin(incoming), outgoing: Box::pin(outgoing) };
    (duplex, Peer { send: Some(send), receive })
}

impl Peer {
    pub(in crate::plugin) async fn send(&mut self, event: Event) {
        let send = self.send.as_ref().expect("not hung up").send(event);
        timeout(PATIENCE, send).await.expect("it is taken").expect("somebody takes it");
    }

    /// Sends while it is taken, and says how many were.
    pub(super) async fn send_while_taken(&mut self, event: impl Fn(usize) -> Event) -> usize {
        let sender = self.send.as_ref().expect("not hung up");
        for at in 0.. {
            if timeout(PATIENCE, sender.send(event(at))).await.is_err() {
                return at;
            }
            assert!(at < 10_000, "nothing ever stops it");
        }
        unreachable!()
    }

    pub(in crate::plugin) async fn next(&mut self) -> Option<Event> {
        timeout(PATIENCE, self.receive.recv()).await.expect("something comes")
    }

    pub(in crate::plugin) async fn expect(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            assert_eq!(self.next().await, Some(event));
        }
    }

    pub(super) async fn expect_nothing(&mut self) {
        let next = timeout(PATIENCE, self.receive.recv()).await;
        assert!(next.is_err(), "{next:?}");
    }
}

pub(in crate::plugin) fn text(text: impl Into<String>) -> Event {
    Event::Text(text.into().into())
}

pub(in crate::plugin) fn binary(length: usize) -> Event {
    Event::Binary(Bytes::from(vec![7; length]))
}

fn message(text: impl Into<String>) -> WsMessage {
    WsMessage::Text(text.into())
}

fn verdict(action: WsAction) -> WsVerdict {
    WsVerdict { action, send: Vec::new(), state: None }
}

/// What most tests ask for: words that say what is to be done.
fn obey(sender: Side, order: &str) -> Answer {
    let far = if sender == Side::Visitor { Side::Origin } else { Side::Visitor };
    let with = |action, send| Ok(WsVerdict { action, send, state: None });
    match order.split_once(' ').unwrap_or((order, "")) {
        ("discard", _) => with(WsAction::Discard, Vec::new()),
        ("replace", by) => with(WsAction::Replace(message(by)), Vec::new()),
        ("both", _) => {
            with(WsAction::Keep, vec![(far, message("on")), (sender, message("back")), (far, message("2"))])
        }
        ("ack", number) => with(WsAction::Keep, vec![(sender, message(format!("ok {number}")))]),
        ("close", reason) => with(WsAction::Close((1008, reason.to_owned())), vec![(far, message("last"))]),
        ("bad", _) => with(WsAction::Close((1005, String::new())), Vec::new()),
        ("fault", _) => Err(HookError::Fault("a secret".to_owned())),
        ("busy", _) => Err(HookError::Busy(1)),
        ("state", value) => {
            Ok(WsVerdict { state: Some(value.as_bytes().to_vec()), ..verdict(WsAction::Keep) })
        }
        _ => Ok(verdict(WsAction::Keep)),
    }
}

/// A visitor and an origin, joined as a role joins them, with a listener in between.
pub(super) struct Between {
    pub(super) visitor: Peer,
    pub(super) origin: Peer,
    listener: Arc<Fake>,
    closed: mpsc::Receiver<(Side, Close)>,
    joined: JoinHandle<Joined>,
}

pub(super) struct Setup {
    pub(super) interest: WsInterest,
    pub(super) deny: bool,
    pub(super) turns: usize,
    pub(super) capacity: usize,
}

impl Default for Setup {
    fn default() -> Self {
        let interest = WsInterest::VISITOR_TEXT | WsInterest::ORIGIN_TEXT;
        Self { interest, deny: true, turns: Semaphore::MAX_PERMITS, capacity: 16 }
    }
}

impl Setup {
    pub(super) fn listener(&self) -> (Arc<Fake>, mpsc::Receiver<(Side, Close)>) {
        let (closed, closings) = mpsc::channel(1);
        let fake = Fake {
            turns: Semaphore::new(self.turns),
            running: AtomicBool::new(false),
            asked: Mutex::default(),
            states: Mutex::default(),
            rejected: AtomicBool::new(false),
            deny: self.deny,
            closed,
        };
        (Arc::new(fake), closings)
    }

    pub(super) fn between(self) -> Between {
        let (listener, closed) = self.listener();
        let (near, visitor) = memory(self.capacity);
        let (far, origin) = memory(self.capacity);
        let far = connection::wrap(far, self.interest, Arc::clone(&listener));
        Between { visitor, origin, listener, closed, joined: tokio::spawn(join(near, far)) }
    }
}

fn between() -> Between {
    Setup::default().between()
}

impl Fake {
    fn was_asked(&self) -> Vec<(Side, String)> {
        self.asked.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_of_no_interest_passes_in_order_and_without_a_call() {
    let mut b = between();
    let events = [binary(3), Event::Ping("p".into()), binary(0), Event::Pong("q".into())];
    for event in events.clone() {
        b.visitor.send(event.clone()).await;
        b.origin.send(event).await;
    }
    b.origin.expect(events.clone()).await;
    b.visitor.expect(events).await;
    assert_eq!(b.listener.was_asked(), []);
}

#[tokio::test(start_paused = true)]
async fn verdicts_and_extras_in_order_among_what_passes() {
    let mut b = between();
    for event in
        [text("a"), Event::Ping("p".into()), text("both"), text("discard"), binary(2), text("replace b")]
    {
        b.visitor.send(event).await;
    }
    let expected =
        [text("a"), Event::Ping("p".into()), text("both"), text("on"), text("2"), binary(2), text("b")];
    b.origin.expect(expected).await;
    b.visitor.expect([text("back")]).await;

    b.origin.send(text("both")).await;
    b.origin.send(binary(1)).await;
    b.visitor.expect([text("both"), text("on"), text("2"), binary(1)]).await;
    b.origin.expect([text("back")]).await;
}

#[tokio::test(start_paused = true)]
async fn calls_of_both_sides_never_overlap_and_keep_each_sides_order() {
    let mut b = Setup { turns: 0, capacity: 100, ..Setup::default() }.between();
    for at in 0..50 {
        b.visitor.send(text(format!("v{at}"))).await;
        b.origin.send(text(format!("o{at}"))).await;
    }
    b.visitor.expect_nothing().await;
    assert_eq!(b.listener.was_asked().len(), 1, "the second waits for the first");
    let (mut visitor, mut origin) = (0, 0);
    for _ in 0..100 {
        b.listener.turns.add_permits(1);
        tokio::select! {
            event = b.origin.next() => { assert_eq!(event, Some(text(format!("v{visitor}")))); visitor += 1; }
            event = b.visitor.next() => { assert_eq!(event, Some(text(format!("o{origin}")))); origin += 1; }
        }
        assert!(i32::abs_diff(visitor, origin) <= 1, "each side has its turn");
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_goes_to_both_sides_behind_what_came_before_it() {
    let mut b = between();
    for event in [text("a"), text("close not here"), text("b"), binary(1)] {
        b.visitor.send(event).await;
    }
    let close = Close::new(1008, "not here");
    b.origin.expect([text("a"), text("last"), Event::Close(close.clone())]).await;
    b.visitor.expect([Event::Close(close.clone())]).await;
    // What crosses it on the way is nobody's; both answer, and it is over.
    b.origin.send(text("crossing")).await;
    b.origin.send(Event::Close(close.clone())).await;
    b.visitor.send(Event::Close(close.clone())).await;
    b.joined.await.expect("no panic");
    assert_eq!(b.origin.next().await, None);
    assert_eq!(b.closed.recv().await, Some((Side::Visitor, close)));
    assert_eq!(b.listener.was_asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_was_told_to_close_is_listened_to_until_it_answers() {
    let (listener, _closed) = Setup::default().listener();
    let (far, mut origin) = memory(4);
    let mut duplex = connection::wrap(far, Setup::default().interest, listener);
    duplex.outgoing.send(text("close now")).await.expect("taken");
    origin.expect([text("last"), Event::Close(Close::new(1008, "now"))]).await;
    duplex.outgoing.send(Event::Close(Close::new(1008, "now"))).await.expect("taken");
    for at in 0..100 {
        // More than its channel holds: somebody takes what it sends.
        let closing = poll_fn(|cx| duplex.outgoing.as_mut().poll_close(cx));
        let sending = origin.send(text(format!("{at}")));
        tokio::select! {
            biased;
            _ = closing => panic!("it hasn't answered"),
            () = sending => {}
        }
    }
    origin.send(Event::Close(Close::new(1008, "now"))).await;
    duplex.outgoing.close().await.expect("it has answered");
    assert_eq!(duplex.incoming.next().await, Some(Event::Close(Close::new(1008, "now"))));
    assert_eq!(duplex.incoming.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_failure_closes_both_sides_in_our_words() {
    for (order, close) in [
        ("fault", Close::new(1011, "a plugin failed")),
        ("bad", Close::new(1011, "a plugin failed")),
        ("state 12345", Close::new(1011, "a plugin failed")),
        ("busy", Close::new(1013, "a plugin has too much to do")),
    ] {
        let mut b = between();
        b.origin.send(text(order)).await;
        b.visitor.expect([Event::Close(close.clone())]).await;
        b.origin.expect([Event::Close(close.clone())]).await;
        b.joined.abort();
        assert_eq!(b.closed.recv().await, Some((Side::Origin, close)), "{order}");
        assert_eq!(b.listener.rejected.load(SeqCst), matches!(order, "bad" | "state 12345"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_skipped_lets_all_pass_and_asks_no_more() {
    let mut b = Setup { deny: false, turns: 0, ..Setup::default() }.between();
    b.visitor.send(text("fault")).await;
    b.visitor.send(text("v")).await;
    b.origin.send(text("close")).await;
    b.origin.send(text("o")).await;
    b.origin.expect_nothing().await;
    b.listener.turns.add_permits(1);
    b.origin.expect([text("fault"), text("v")]).await;
    b.visitor.expect([text("close"), text("o")]).await;
    assert_eq!(b.listener.was_asked(), [(Side::Visitor, "fault".to_owned())]);
    b.joined.abort();
    let _ = b.joined.await;
    let listener = b.listener;
    drop(listener);
    assert_eq!(b.closed.recv().await, None, "nor about the end");
}

#[tokio::test(start_paused = true)]
async fn state_is_kept_when_the_verdict_says_so() {
    let mut b = between();
    for order in ["a", "state 1", "state", "state 2"] {
        b.visitor.send(text(order)).await;
        b.origin.expect([text(order)]).await;
    }
    assert_eq!(*b.listener.states.lock().unwrap(), [b"1".to_vec(), Vec::new(), b"2".to_vec()]);
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_once_with_who_and_how() {
    let close = |code| Event::Close(Close::new(code, "x"));
    // The visitor leaves, and the origin answers in kind.
    let mut b = between();
    b.visitor.send(close(4000)).await;
    b.origin.expect([close(4000)]).await;
    b.origin.send(close(1000)).await;
    b.joined.await.expect("no panic");
    assert_eq!(b.closed.recv().await, Some((Side::Visitor, Close::new(4000, "x"))));

    // The origin leaves.
    let mut b = between();
    b.origin.send(close(1001)).await;
    b.visitor.expect([close(1001)]).await;
    b.visitor.send(close(1001)).await;
    b.joined.await.expect("no panic");
    assert_eq!(b.closed.recv().await, Some((Side::Origin, Close::new(1001, "x"))));

    // One of them is gone without a word.
    let mut b = between();
    b.visitor.send = None;
    b.origin.expect([Event::Close(Close::abnormal())]).await;
    assert_eq!(b.closed.recv().await, Some((Side::Visitor, Close::abnormal())));
    let mut b = between();
    b.origin.send = None;
    b.visitor.expect([Event::Close(Close::abnormal())]).await;
    assert_eq!(b.closed.recv().await, Some((Side::Origin, Close::abnormal())));

    // The origin takes nothing any more.
    let mut b = between();
    b.origin.receive.close();
    b.visitor.send(binary(1)).await;
    b.visitor.send = None;
    assert_eq!(b.closed.recv().await, Some((Side::Origin, Close::abnormal())));

    // Everything is just dropped, in the middle of a call.
    let mut b = Setup { turns: 0, ..Setup::default() }.between();
    b.visitor.send(text("a")).await;
    b.origin.expect_nothing().await;
    b.joined.abort();
    assert_eq!(b.closed.recv().await, Some((Side::Visitor, Close::abnormal())));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_kept_is_not_copied_back() {
    let mut b = Setup { interest: WsInterest::VISITOR_BINARY, ..Setup::default() }.between();
    let payload = Bytes::from(vec![7; 1 << 20]);
    let at = payload.as_ptr() as usize;
    b.visitor.send(Event::Binary(payload)).await;
    let Some(Event::Binary(passed)) = b.origin.next().await else { panic!("no message") };
    assert_eq!((passed.len(), passed.as_ptr() as usize), (1 << 20, at));
}
