//! The cloneable end of a session: opens exchanges, and tells the driver what bodies and sockets need.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::StatusCode;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{
    Settings,
    driver::{Command, Ended, Head, Refused, Signal},
    inbox::{Growth, InboundBody, InboundSocket, Inbox},
    outbox::{OutboundSocket, PartSender, Pieces},
    translate::{expects_continue, head_of, start_of},
};
use crate::exchange::{
    Accepted, Answer, Body, ErrorKind, Forward, ForwardError, ForwardFuture, Interim, Request, RequestKind,
    Response, websocket::Duplex,
};

/// Bytes of one exchange after which no further part is put into the driver's queue: the next is there when one has
/// gone out, and a slow exchange holds two parts at most.
const ROOM: u32 = crate::wire::MAX_PART as u32;

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It takes new exchanges.
    Open,
    /// It takes no new ones; those under way may end.
    Draining,
    /// It is over.
    Ended,
}

/// A session's handle. Cloning is cheap; the session goes on without any.
#[derive(Clone)]
pub struct Handle {
    lines: Arc<Lines>,
    ended: watch::Receiver<Option<Ended>>,
}

/// The ways to a session's driver.
pub(super) struct Lines {
    pub(super) work: mpsc::Sender<Command>,
    /// Never full: its capacity is what all exchanges together can have under way (see `driver::signal_capacity`).
    pub(super) signals: mpsc::Sender<Signal>,
    pub(super) state: watch::Sender<State>,
    pub(super) busy: AtomicUsize,
    pub(super) growth: Growth,
    pub(super) settings: Settings,
}

impl Handle {
    pub(super) fn new(lines: Arc<Lines>, ended: watch::Receiver<Option<Ended>>) -> Self {
        Self { lines, ended }
    }

    /// Exchanges open now.
    pub fn busy(&self) -> usize {
        self.lines.busy.load(Ordering::Relaxed)
    }

    /// What the session is doing.
    pub fn state(&self) -> State {
        *self.lines.state.borrow()
    }

    /// Waits until the session takes no new exchanges any more.
    pub async fn draining(&self) {
        let mut state = self.lines.state.subscribe();
        // The sender is in `lines`, which this handle holds.
        let _ = state.wait_for(|state| *state != State::Open).await;
    }

    /// Waits for the session's end.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(Ended::Dropped),
            Err(_) => Ended::Dropped,
        }
    }

    /// Tells the client to open a replacement; from then on no exchange is opened here. For the proxy's side.
    pub fn go_away(&self, grace: Duration) {
        self.lines.signal(Signal::GoAway(grace));
    }

    /// Takes leave: no new exchanges, and the session ends with the last one under way. For the client's side.
    pub fn disconnect(&self) {
        self.lines.signal(Signal::Disconnect);
    }

    /// Ends the session now, whatever is under way.
    pub fn close(&self) {
        self.lines.signal(Signal::Close);
    }

    async fn exchange(&self, request: Request) -> Result<Answer, ForwardError> {
        if self.state() != State::Open {
            return Err(
                ForwardError::new(ErrorKind::TunnelGone, "the tunnel's session is ending").unsent(request)
            );
        }
        let guard = Guard::opener(&self.lines);
        if self.busy() > self.lines.settings.max_exchanges {
            let limit = self.lines.settings.max_exchanges;
            let detail = format!("{limit} exchanges are open on this session, as many as allowed");
            return Err(ForwardError::new(ErrorKind::TooManyExchanges, detail).unsent(request));
        }
        let Request { head, body, mut context } = request;
        let kind = head.kind;
        let wanted = expects_continue(&head.headers).then(|| Arc::new(Notify::new()));
        let mut pieces = Pieces::new(body);
        let (first, end) = match &wanted {
            // Touching the body would make the server ask the visitor for it.
            Some(_) => (Bytes::new(), false),
            None => pieces.first().await?,
        };
        if let Some(wanted) = &wanted {
            context.interim = Some(on_continue(Arc::clone(wanted), context.interim.take()));
        }
        let start = Box::new(start_of(head, &context, first, end));
        let (reply, answer) = oneshot::channel();
        let open = Command::Open {
            start,
            websocket: kind == RequestKind::WebSocket,
            shared: Arc::clone(guard.shared()),
            reply,
            interim: context.interim.clone(),
        };
        let unsent = |start, pieces: Pieces, context| {
            let (head, first) = head_of(start, kind);
            let request = Request { head, body: pieces.restore(first), context };
            ForwardError::new(ErrorKind::TunnelGone, "the tunnel's session ended").unsent(request)
        };
        if let Err(mpsc::error::SendError(command)) = self.lines.work.send(open).await {
            let Command::Open { start, .. } = command else { unreachable!("that is what was sent") };
            return Err(unsent(*start, pieces, context));
        }
        if end {
            return match answer.await {
                Ok(Ok(head)) => Ok(self.answer(head, guard)),
                Ok(Err(Refused::Unsent(start))) => Err(unsent(*start, pieces, context)),
                Ok(Err(Refused::Failed(error))) => Err(*error),
                Err(_) => Err(session_ended()),
            };
        }
        self.exchange_with_body(pieces, wanted, answer, guard).await
    }

    /// Sends the body while waiting for the answer, and after it.
    async fn exchange_with_body(
        &self,
        pieces: Pieces,
        wanted: Option<Arc<Notify>>,
        mut answer: oneshot::Receiver<Result<Head, Refused>>,
        guard: Arc<Guard>,
    ) -> Result<Answer, ForwardError> {
        let out = PartSender::new(Arc::clone(&guard), &self.lines);
        let mut pump = Box::pin(async move {
            if let Some(wanted) = wanted {
                wanted.notified().await;
            }
            pieces.pump(out).await
        });
        let mut pumped = false;
        loop {
            tokio::select! {
                biased;
                head = &mut answer => return match head {
                    Ok(Ok(head)) => {
                        if !pumped {
                            guard.keep(tokio::spawn(report_failure(pump, Arc::downgrade(&guard))));
                        }
                        Ok(self.answer(head, guard))
                    }
                    Ok(Err(Refused::Unsent(_))) => Err(session_ended()),
                    Ok(Err(Refused::Failed(error))) => Err(*error),
                    Err(_) => Err(session_ended()),
                },
                sent = &mut pump, if !pumped => match sent {
                    Ok(()) => pumped = true,
                    // The session's end is told by the answer; the visitor's failure is told here.
                    Err(error) if error.kind() == ErrorKind::TunnelGone => pumped = true,
                    Err(error) => return Err(error),
                },
            }
        }
    }

    fn answer(&self, head: Head, guard: Arc<Guard>) -> Answer {
        let Head { start, parts, websocket } = head;
        if websocket && start.status == StatusCode::SWITCHING_PROTOCOLS {
            let Some(parts) = parts else { unreachable!("an accepted WebSocket has an inbox") };
            let duplex = duplex(parts, &guard, &self.lines);
            return Answer::WebSocket(Accepted { headers: start.headers, duplex });
        }
        let body = match parts {
            None => {
                guard.received_all();
                Body::full(start.body)
            }
            Some(parts) => Body::stream(InboundBody::new(Inbox::new(parts, guard), start.body)),
        };
        Answer::Http(Response { status: start.status, headers: start.headers, body })
    }
}

impl Forward for Handle {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        Box::pin(self.exchange(request))
    }
}

/// One end of a WebSocket that runs over the session.
pub(super) fn duplex(
    parts: mpsc::Receiver<super::inbox::Inbound>,
    guard: &Arc<Guard>,
    lines: &Lines,
) -> Duplex {
    let inbox = Inbox::new(parts, Arc::clone(guard));
    Duplex {
        incoming: Box::pin(InboundSocket::new(inbox, lines.settings.max_websocket_message)),
        outgoing: Box::pin(OutboundSocket::new(PartSender::new(Arc::clone(guard), lines))),
    }
}

fn session_ended() -> ForwardError {
    ForwardError::new(ErrorKind::TunnelGone, "the tunnel's session ended before the answer")
}

/// Wakes the body's pump when the far end asks for the body; everything else goes on to the visitor.
fn on_continue(wanted: Arc<Notify>, next: Option<Interim>) -> Interim {
    Arc::new(move |status, headers| {
        if status == StatusCode::CONTINUE {
            wanted.notify_one();
        } else if let Some(next) = &next {
            next(status, headers);
        }
    })
}

/// Goes on with a request's body after the answer has begun. When the visitor fails, so does the exchange.
async fn report_failure(pump: impl Future<Output = Result<(), ForwardError>>, guard: std::sync::Weak<Guard>) {
    if let Err(error) = pump.await
        && let Some(guard) = guard.upgrade()
    {
        tracing::debug!(%error, "a request's body broke off after the answer had begun");
        guard.cancel();
    }
}

/// What the driver and the ends of one exchange share.
pub(super) struct Shared {
    /// 0 until the driver gives it one; [`GIVEN_UP`](Self::GIVEN_UP) when nobody waits any more.
    id: AtomicU64,
    /// Credit to grant, collected until the driver comes by.
    granted: AtomicU32,
    /// A signal for it is under way.
    signalled: AtomicBool,
    /// Bytes of parts in the driver's queue.
    queued: AtomicU32,
    closed: AtomicBool,
    room: AtomicWaker,
}

impl Shared {
    const GIVEN_UP: u64 = u64::MAX;

    fn new(id: u64) -> Self {
        Self {
            id: AtomicU64::new(id),
            granted: AtomicU32::new(0),
            signalled: AtomicBool::new(false),
            queued: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            room: AtomicWaker::new(),
        }
    }

    /// The exchange's id; `None` before it is opened and after it was given up.
    pub(super) fn id(&self) -> Option<u64> {
        Some(self.id.load(Ordering::Acquire)).filter(|id| *id != 0 && *id != Self::GIVEN_UP)
    }

    /// Gives the exchange its id; false when it was given up before it was opened.
    pub(super) fn opened(&self, id: u64) -> bool {
        self.id.compare_exchange(0, id, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Takes the credit that was collected.
    pub(super) fn take_granted(&self) -> u32 {
        self.signalled.store(false, Ordering::Release);
        self.granted.swap(0, Ordering::AcqRel)
    }

    /// Waits for room in the driver's queue; an error when the exchange is over.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        let check = || {
            if self.closed.load(Ordering::Acquire) {
                return Poll::Ready(Err(()));
            }
            if self.queued.load(Ordering::Acquire) < ROOM { Poll::Ready(Ok(())) } else { Poll::Pending }
        };
        if check().is_ready() {
            return check();
        }
        self.room.register(cx.waker());
        check()
    }

    pub(super) fn queue(&self, cost: u32) {
        self.queued.fetch_add(cost, Ordering::AcqRel);
    }

    /// A part went out.
    pub(super) fn sent(&self, cost: u32) {
        // A part that was split costs more than it was queued with, by at most one minimum.
        let _ =
            self.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| Some(n.saturating_sub(cost)));
        self.room.wake();
    }

    /// The exchange is over: nothing more goes out.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.room.wake();
    }
}

/// A direction of a WebSocket, seen from here.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    In = 1,
    Out = 2,
}

/// Cancels an exchange when the last of its ends is dropped before it was done.
pub(super) struct Guard {
    shared: Arc<Shared>,
    lines: Arc<Lines>,
    opener: bool,
    done: AtomicBool,
    /// Which directions of a WebSocket have had their close.
    closes: AtomicU8,
    grown: AtomicU64,
    pump: std::sync::OnceLock<tokio::task::AbortHandle>,
}

impl Guard {
    fn opener(lines: &Arc<Lines>) -> Arc<Self> {
        lines.busy.fetch_add(1, Ordering::Relaxed);
        Self::new(lines, 0, true)
    }

    pub(super) fn acceptor(lines: &Arc<Lines>, id: u64) -> Arc<Self> {
        lines.busy.fetch_add(1, Ordering::Relaxed);
        Self::new(lines, id, false)
    }

    fn new(lines: &Arc<Lines>, id: u64, opener: bool) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::new(Shared::new(id)),
            lines: Arc::clone(lines),
            opener,
            done: AtomicBool::new(false),
            closes: AtomicU8::new(0),
            grown: AtomicU64::new(0),
            pump: std::sync::OnceLock::new(),
        })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Lets the peer send this much more.
    pub(super) fn grant(&self, bytes: u32) {
        self.shared.granted.fetch_add(bytes, Ordering::AcqRel);
        if !self.shared.signalled.swap(true, Ordering::AcqRel) {
            self.lines.signal(Signal::Credit(Arc::clone(&self.shared)));
        }
    }

    /// Takes room for a larger window from what the session has.
    pub(super) fn grow(&self, bytes: u64) -> bool {
        let taken = self.lines.growth.take(bytes);
        if taken {
            self.grown.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }

    /// The peer's last part is here. For the opener that is the end of the exchange.
    pub(super) fn received_all(&self) {
        if self.opener {
            self.finish();
        }
    }

    /// A WebSocket's close has passed in one direction. With both, nothing is left to cancel: a cancel would overtake
    /// the close.
    pub(super) fn closed(&self, direction: Direction) {
        if self.closes.fetch_or(direction as u8, Ordering::AcqRel) | direction as u8 == 3 {
            self.finish();
        }
    }

    /// Nothing is left to cancel.
    pub(super) fn finish(&self) {
        self.done.store(true, Ordering::Release);
    }

    /// Ends the task with the exchange.
    fn keep(&self, pump: tokio::task::JoinHandle<()>) {
        // Called once for an exchange.
        let _ = self.pump.set(pump.abort_handle());
    }

    /// Cuts the exchange off, once.
    fn cancel(&self) {
        let id = self.shared.id.swap(Shared::GIVEN_UP, Ordering::AcqRel);
        if id != 0 && id != Shared::GIVEN_UP {
            self.lines.signal(Signal::Cancel(id));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.lines.busy.fetch_sub(1, Ordering::Relaxed);
        self.lines.growth.put_back(self.grown.load(Ordering::Relaxed));
        if let Some(pump) = self.pump.get() {
            pump.abort();
        }
        if !self.done.load(Ordering::Acquire) {
            self.cancel();
        }
    }
}

impl Lines {
    /// Leaves word for the driver, from wherever it is.
    pub(super) fn signal(&self, signal: Signal) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.signals.try_send(signal) {
            tracing::warn!("a session's signals overran: an exchange may hang until the session ends");
        }
    }
}
