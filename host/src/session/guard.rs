//! What holds an exchange open: state shared with the driver, and the guard that cancels what nobody wants any more.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

use super::{command::Signal, lines::Lines};

/// Bytes of one exchange after which no further part is put into the driver's queue: the next is there when one has
/// gone out, and a slow exchange holds two parts at most.
const ROOM: u32 = crate::wire::MAX_PART as u32;

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
        let opened = self.id.compare_exchange(0, id, Ordering::AcqRel, Ordering::Acquire).is_ok();
        self.room.wake();
        opened
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
            // A body isn't touched before its head is taken: an exchange that is handed back has it whole.
            if self.id.load(Ordering::Acquire) == 0 {
                return Poll::Pending;
            }
            if self.queued.load(Ordering::Acquire) < ROOM { Poll::Ready(Ok(())) } else { Poll::Pending }
        };
        if check().is_ready() {
            return check();
        }
        self.room.register(cx.waker());
        check()
    }

    /// Ready while the exchange goes on; wakes the caller when it is over.
    pub(super) fn poll_open(&self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.room.register(cx.waker());
        Poll::Ready(if self.closed.load(Ordering::Acquire) { Err(()) } else { Ok(()) })
    }

    /// Waits until every part has gone out to the peer.
    pub(super) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.room.register(cx.waker());
        match (self.closed.load(Ordering::Acquire), self.queued.load(Ordering::Acquire)) {
            (true, _) => Poll::Ready(Err(())),
            (false, 0) => Poll::Ready(Ok(())),
            (false, _) => Poll::Pending,
        }
    }

    pub(super) fn queue(&self, weight: u32) {
        self.queued.fetch_add(weight, Ordering::AcqRel);
    }

    /// A part went out.
    pub(super) fn sent(&self, weight: u32) {
        // A part that was split weighs more than it was queued with, by at most one minimum.
        let _ =
            self.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| Some(n.saturating_sub(weight)));
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
    /// Room that was taken for a larger window.
    grown: AtomicU64,
    /// As much of it the peer got with the head of the request.
    ahead: AtomicU32,
    pump: OnceLock<tokio::task::AbortHandle>,
}

impl Guard {
    pub(super) fn opener(lines: &Arc<Lines>) -> Arc<Self> {
        lines.busy.fetch_add(1, Ordering::Relaxed);
        lines.opened.fetch_add(1, Ordering::Relaxed);
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
            ahead: AtomicU32::new(0),
            pump: OnceLock::new(),
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

    /// Lets the peer send this much more, with the head of the request that isn't sent yet; if there is room for it.
    pub(super) fn grant_ahead(&self, bytes: u32) {
        if self.grow_ahead(bytes) {
            self.ahead.store(bytes, Ordering::Relaxed);
            self.shared.granted.store(bytes, Ordering::Release);
        }
    }

    /// What the peer got with the head of the request, beyond what every exchange has.
    pub(super) fn ahead(&self) -> u32 {
        self.ahead.load(Ordering::Relaxed)
    }

    /// Takes room for a larger window from what the session has.
    pub(super) fn grow(&self, bytes: u64) -> bool {
        self.grown(bytes, self.lines.growth.take(bytes))
    }

    /// The same for a window that nobody has filled yet.
    pub(super) fn grow_ahead(&self, bytes: u32) -> bool {
        let bytes = bytes.into();
        self.grown(bytes, self.lines.growth.take_ahead(bytes))
    }

    fn grown(&self, bytes: u64, taken: bool) -> bool {
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
    pub(super) fn keep(&self, pump: tokio::task::JoinHandle<()>) {
        // Called once for an exchange.
        let _ = self.pump.set(pump.abort_handle());
    }

    /// Cuts the exchange off, once.
    pub(super) fn cancel(&self) {
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
