//! The wrapped duplex between an in-memory visitor and origin, with a listener whose answers the tests make up.
//!
//! The clock is paused: a timeout passes exactly when nothing else can happen any more.

use std::{
    collections::VecDeque,
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

type Answer = Result<WsVerdict, HookError>;

/// A listener that answers as told, and says what it was asked.
struct Fake {
    answer: Box<dyn Fn(Side, &str) -> Answer + Send + Sync>,
    /// One permit for each call that may end.
    turns: Semaphore,
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
        (self.answer)(sender, &text)
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
struct Peer {
    send: Option<mpsc::Sender<Event>>,
    receive: mpsc::Receiver<Event>,
}

fn memory(capacity: usize) -> (Duplex, Peer) {
    let (send, mut incoming) = mpsc::channel(capacity);
    let (outgoing, receive) = mpsc::channel(capacity);
    let outgoing = PollSender::new(outgoing)
        .sink_map_err(|_| ForwardError::new(ErrorKind::OriginFailed, "the other end is gone"));
    let incoming = stream::poll_fn(move |cx| incoming.poll_recv(cx));
    let duplex = Duplex { incoming: Box::pin(incoming), outgoing: Box::pin(outgoing) };
    (duplex, Peer { send: Some(send), receive })
}

impl Peer {
    async fn send(&mut self, event: Event) {
        let send = self.send.as_ref().expect("not hung up").send(event);
        timeout(Duration::from_secs(1), send).await.expect("it is taken").expect("somebody takes it");
    }

    /// Sends while it is taken, and says how many were.
    async fn send_while_taken(&mut self, event: impl Fn(usize) -> Event) -> usize {
        let sender = self.send.as_ref().expect("not hung up");
        for at in 0.. {
            if timeout(Duration::from_secs(1), sender.send(event(at))).await.is_err() {
                return at;
            }
            assert!(at < 10_000, "nothing ever stops it");
        }
        unreachable!()
    }

    async fn next(&mut self) -> Option<Event> {
        timeout(Duration::from_secs(1), self.receive.recv()).await.expect("something comes")
    }

    async fn expect(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            assert_eq!(self.next().await, Some(event));
        }
    }

    async fn expect_nothing(&mut self) {
        let next = timeout(Duration::from_secs(1), self.receive.recv()).await;
        assert!(next.is_err(), "{next:?}");
    }
}

fn text(text: impl Into<String>) -> Event {
    Event::Text(text.into().into())
}

fn binary(length: usize) -> Event {
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
struct Between {
    visitor: Peer,
    origin: Peer,
    listener: Arc<Fake>,
    closed: mpsc::Receiver<(Side, Close)>,
    joined: JoinHandle<Joined>,
}

struct Setup {
    interest: WsInterest,
    deny: bool,
    turns: usize,
    capacity: usize,
}

impl Default for Setup {
    fn default() -> Self {
        let interest = WsInterest::VISITOR_TEXT | WsInterest::ORIGIN_TEXT;
        Self { interest, deny: true, turns: Semaphore::MAX_PERMITS, capacity: 16 }
    }
}

impl Setup {
    fn listener(&self) -> (Arc<Fake>, mpsc::Receiver<(Side, Close)>) {
        let (closed, closings) = mpsc::channel(1);
        let fake = Fake {
            answer: Box::new(obey),
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

    fn between(self) -> Between {
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
async fn a_visitor_who_does_not_read_stops_only_what_goes_to_it() {
    let mut b = Setup { capacity: 1, ..Setup::default() }.between();
    // Nothing is read at the visitor: the origin's side fills up.
    b.origin.send_while_taken(|_| text("filler")).await;
    let taken = b.origin.send.is_some();
    assert!(taken);
    // What makes nothing for the visitor still reaches the origin, calls and all.
    for at in 0..1000 {
        b.visitor.send(text(format!("m{at}"))).await;
        b.visitor.send(binary(at)).await;
        b.origin.expect([text(format!("m{at}")), binary(at)]).await;
    }
    // What does is bounded.
    let mut origin = VecDeque::new();
    let sender = b.visitor.send.take().expect("not hung up");
    let mut sent = 0;
    loop {
        let send = async {
            tokio::select! {
                biased;
                event = b.origin.receive.recv() => { origin.push_back(event.expect("open")); false }
                permit = sender.reserve() => { permit.expect("open").send(text(format!("ack {sent}"))); true }
            }
        };
        match timeout(Duration::from_secs(1), send).await {
            Ok(true) => sent += 1,
            Ok(false) => {}
            Err(_) => break,
        }
        assert!(sent < 1000, "nothing bounds it");
    }
    assert!(origin.len() >= 64, "{}", origin.len());
    // Once the visitor reads, everything comes, each side's part in its order.
    b.visitor.send = Some(sender);
    let (mut acks, mut seen) = (0, 0);
    while acks < sent {
        match b.visitor.next().await {
            Some(event) if event == text("filler") => seen += 1,
            Some(event) => {
                assert_eq!(event, text(format!("ok {acks}")));
                acks += 1;
            }
            None => panic!("it ended"),
        }
        while let Ok(event) = b.origin.receive.try_recv() {
            origin.push_back(event);
        }
    }
    assert!(seen > 0);
    while origin.len() < sent {
        origin.push_back(b.origin.next().await.expect("open"));
    }
    assert!(origin.iter().enumerate().all(|(at, event)| *event == text(format!("ack {at}"))));
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_does_not_read_stops_only_what_goes_to_it() {
    let mut b = Setup { capacity: 1, ..Setup::default() }.between();
    b.visitor.send_while_taken(|_| binary(1)).await;
    for at in 0..1000 {
        b.origin.send(text(format!("m{at}"))).await;
        b.origin.send(binary(at)).await;
        b.visitor.expect([text(format!("m{at}")), binary(at)]).await;
    }
    let mut sent = 0;
    let sender = b.origin.send.take().expect("not hung up");
    loop {
        let send = async {
            tokio::select! {
                biased;
                event = b.visitor.receive.recv() => { event.expect("open"); false }
                permit = sender.reserve() => { permit.expect("open").send(text(format!("ack {sent}"))); true }
            }
        };
        match timeout(Duration::from_secs(1), send).await {
            Ok(true) => sent += 1,
            Ok(false) => {}
            Err(_) => break,
        }
        assert!(sent < 1000, "nothing bounds it");
    }
    let mut acks = 0;
    while acks < sent {
        match b.origin.next().await.expect("open") {
            Event::Binary(_) => {}
            event => {
                assert_eq!(event, text(format!("ok {acks}")));
                acks += 1;
            }
        }
        while b.visitor.receive.try_recv().is_ok() {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_when_only_the_other_half_is_polled() {
    let (listener, _closed) = Setup { turns: 0, ..Setup::default() }.listener();
    let (far, mut origin) = memory(4);
    let mut duplex = connection::wrap(far, Setup::default().interest, Arc::clone(&listener));
    origin.send(text("o")).await;
    assert!(duplex.incoming.next().now_or_never().is_none(), "its call has begun");
    listener.turns.add_permits(2);
    // A stage further out has something else for its visitor, and leaves the incoming half alone.
    timeout(Duration::from_secs(1), duplex.outgoing.send(text("v")))
        .await
        .expect("no deadlock")
        .expect("sent");
    origin.expect([text("v")]).await;
    assert_eq!(duplex.incoming.next().await, Some(text("o")));
}

#[tokio::test(start_paused = true)]
async fn a_half_that_waits_in_another_task_is_woken() {
    let (listener, _closed) = Setup { turns: 0, ..Setup::default() }.listener();
    let (far, mut origin) = memory(16);
    let Duplex { mut incoming, mut outgoing } =
        connection::wrap(far, Setup::default().interest, Arc::clone(&listener));
    let reads = tokio::spawn(async move { incoming.by_ref().take(5).collect::<Vec<_>>().await });
    let writes = tokio::spawn(async move {
        for order in ["ack 1", "both"] {
            outgoing.send(text(order)).await.expect("taken");
        }
        outgoing
    });
    origin.send(text("both")).await;
    origin.expect_nothing().await;
    listener.turns.add_permits(3);
    let mut read = reads.await.expect("no panic");
    let _outgoing = writes.await.expect("no panic");
    read.retain(|event| matches!(event, Event::Text(bytes) if bytes.starts_with(b"ok")));
    assert_eq!(read, [text("ok 1")]);
    let mut got = Vec::new();
    for _ in 0..5 {
        got.push(origin.next().await.expect("open"));
    }
    assert!(got.contains(&text("back")), "what the origin's own message sent back: {got:?}");
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
