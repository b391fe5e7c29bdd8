//! The one task of a session: owns the transport, feeds the multiplexer, and hands out what comes.
//!
//! It is written as one poll function, so that many messages share one read, one write and one wake-up.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use http::StatusCode;
use tokio::{
    sync::{mpsc, watch},
    time::{Sleep, sleep_until},
};

use super::{
    Settings,
    command::{Command, Head, Refused, Signal},
    ended::Ended,
    guard::Guard,
    handle::Handle,
    inbox::{self, Growth, Inbound},
    lines::{Lengths, Lines, Standing, State},
    mux::{Mux, Received, Side},
    part::Part,
    serve::Serve,
    slot::Slot,
    translate::{error_of, never_sent},
    transport::{Arrival, Transport, send_last},
};
use crate::{
    exchange::{ErrorKind, Forward, ForwardError},
    wire::{
        Message,
        message::{CancelCode, RequestStart, ResponseStart},
    },
};

/// Commands that may wait for the driver: some for each core that sends, so that it finds a batch when it comes.
const WORK_QUEUE: usize = 256;

/// Messages taken from one source before the others have their turn.
const TURN: usize = 128;

/// Owns a session's transport. Run it with [`run`](Self::run).
pub struct Driver<T> {
    transport: T,
    mux: Mux<Option<Slot>>,
    work: mpsc::Receiver<Command>,
    signals: mpsc::Receiver<Signal>,
    lines: Arc<Lines>,
    serve: Option<Serve>,
    timer: Pin<Box<Sleep>>,
    ended: watch::Sender<Option<Ended>>,
    unflushed: bool,
    /// Others on this thread have had their turn since the first message that isn't flushed.
    gathered: bool,
    /// Messages given to the transport.
    sent: u64,
    /// Ends with the last exchange, and as this.
    leaving: Option<Ended>,
}

impl<T: Transport> Driver<T> {
    pub(super) fn new(transport: T, settings: Settings, forward: Option<Arc<dyn Forward>>) -> (Handle, Self) {
        let side = if forward.is_some() { Side::Acceptor } else { Side::Opener };
        let now = tokio::time::Instant::now();
        let mux = Mux::new(side, settings.max_exchanges, settings.ping_after, now.into_std());
        let (work, work_queue) = mpsc::channel(WORK_QUEUE);
        let (signals, signal_queue) = mpsc::channel(signal_capacity(settings.max_exchanges));
        let lines = Arc::new(Lines {
            work,
            signals,
            state: Standing::new(),
            busy: AtomicUsize::new(0),
            opened: AtomicU64::new(0),
            cut_off: AtomicUsize::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            growth: Growth::new(),
            lengths: Lengths::new(),
            settings,
        });
        let (ended, watch_end) = watch::channel(None);
        let driver = Self {
            transport,
            mux,
            work: work_queue,
            signals: signal_queue,
            serve: forward.map(|forward| Serve::new(forward, Arc::clone(&lines))),
            lines: Arc::clone(&lines),
            timer: Box::pin(sleep_until(now)),
            ended,
            unflushed: false,
            gathered: false,
            sent: 0,
            leaving: None,
        };
        (Handle::new(lines, watch_end), driver)
    }

    /// Sends a message before anything else.
    #[must_use]
    pub fn greet(mut self, message: Message) -> Self {
        self.mux.announce(message);
        self
    }

    /// Ends the session before it began: sends a message and closes.
    pub async fn refuse(mut self, message: Message) {
        if send_last(&mut self.transport, &message).await {
            self.transport.close(&Ended::Local).await;
        }
    }

    /// Runs the session to its end and says why it ended. Exchanges still open are told.
    pub async fn run(mut self) -> Ended {
        let ended = std::future::poll_fn(|cx| self.poll(cx)).await;
        self.lines.state.set(State::Ended);
        self.end_exchanges();
        self.transport.close(&ended).await;
        self.ended.send_replace(Some(ended.clone()));
        ended
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        for _ in 0..TURN {
            let mut busy = self.poll_signals(cx);
            busy |= self.poll_work(cx);
            match self.poll_read(cx) {
                Ok(read) => busy |= read,
                Err(ended) => return Poll::Ready(ended),
            }
            if let Some(ended) = &self.leaving
                && self.mux.open_streams() == 0
                && !self.mux.has_output()
                && !self.unflushed
            {
                return Poll::Ready(ended.clone());
            }
            match self.poll_put(cx) {
                Ok(put) => busy |= put,
                Err(ended) => return Poll::Ready(ended),
            }
            if let Err(ended) = self.poll_timer(cx) {
                return Poll::Ready(ended);
            }
            // A write to the socket costs more than all else that is done for a small message. Whoever has work on this thread
            // does it first, and what comes of that goes out with the same write.
            if self.unflushed && !std::mem::replace(&mut self.gathered, true) {
                break;
            }
            match self.poll_flush(cx) {
                Ok(flushed) => busy |= flushed,
                Err(ended) => return Poll::Ready(ended),
            }
            if !busy {
                return Poll::Pending;
            }
        }
        // Others have a turn on this thread too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_signals(&mut self, cx: &mut Context<'_>) -> bool {
        let mut busy = false;
        while let Poll::Ready(Some(signal)) = self.signals.poll_recv(cx) {
            busy = true;
            match signal {
                Signal::Credit(shared) => {
                    let granted = shared.take_granted();
                    if let Some(id) = shared.id() {
                        self.mux.grant(id, granted);
                    }
                }
                Signal::Cancel(id) => {
                    if let Some(Some(slot)) = self.mux.cancel(id, CancelCode::Gone, String::new()) {
                        slot.end(|| ForwardError::new(ErrorKind::Cancelled, "the exchange was given up"));
                    }
                }
                Signal::Continue(id) => {
                    self.mux.respond(ResponseStart::bare(id, StatusCode::CONTINUE), false)
                }
                Signal::GoAway(grace) => {
                    self.lines.state.set(State::Leaving);
                    self.mux.announce(Message::GoAway { grace });
                }
                Signal::Disconnect => {
                    // The proxy closes after the last exchange: a request may be on its way here.
                    self.lines.state.set(State::Draining);
                    self.mux.announce(Message::Disconnect);
                }
                Signal::Retire => {
                    self.leaving = Some(Ended::Local);
                    self.lines.state.set(State::Draining);
                }
                Signal::Close => self.end_now(Ended::Local),
                Signal::Dismiss(refusal) => {
                    self.end_now(Ended::Dismissed((*refusal).clone()));
                    self.mux.announce(Message::RegistrationResponse { id: 0, outcome: Err(*refusal) });
                }
            }
        }
        busy
    }

    fn poll_work(&mut self, cx: &mut Context<'_>) -> bool {
        for turn in 0..TURN {
            match self.work.poll_recv(cx) {
                Poll::Ready(Some(command)) => self.obey(command),
                _ => return turn > 0,
            }
        }
        true
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Open { start, websocket, shared, reply, interim } => {
                if !self.lines.takes_exchanges() {
                    let _ = reply.send(Err(Refused::Unsent(start)));
                    return;
                }
                // Counted here, where the order of messages is known: the client counts the same.
                if self.mux.open_streams() >= self.lines.settings.max_exchanges {
                    let _ = reply.send(Err(Refused::Full(start)));
                    return;
                }
                let slot = Slot {
                    shared: Arc::clone(&shared),
                    inbox: None,
                    reply: Some(reply),
                    interim,
                    task: None,
                    websocket,
                    sent_as: None,
                };
                // The id is given before the head is queued: an exchange given up by now is never sent.
                if shared.opened(self.mux.next_id()) {
                    let id = self.mux.open(start, websocket, Some(slot));
                    match shared.take_granted() {
                        0 => {}
                        ahead => self.mux.grant(id, ahead),
                    }
                }
            }
            Command::Respond { response, websocket } => {
                if websocket
                    && response.status == StatusCode::SWITCHING_PROTOCOLS
                    && let Some(Some(slot)) = self.mux.get(response.id)
                {
                    // From now on the socket's own end is told when the session ends.
                    slot.task = None;
                }
                self.mux.respond(response, websocket);
            }
            Command::Part { shared, part } => {
                if let Some(id) = shared.id() {
                    self.mux.part(id, part);
                }
            }
            Command::Cancel { id, code, detail } => {
                if let Some(Some(slot)) = self.mux.cancel(id, code, detail) {
                    slot.shared.close();
                }
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let mut read = None;
        for turn in 0..TURN {
            let arrival = match self.transport.poll_receive(cx) {
                Poll::Pending => return Ok(turn > 0),
                Poll::Ready(arrival) => arrival?,
            };
            // What was read at once came at once.
            let now = *read.get_or_insert_with(|| tokio::time::Instant::now().into_std());
            match arrival {
                Arrival::Message(message) => self.receive(message, now)?,
                Arrival::Life => self.mux.heard(now),
            }
        }
        Ok(true)
    }

    fn receive(&mut self, message: Message, now: Instant) -> Result<(), Ended> {
        self.lines.received.fetch_add(message.payload() as u64, Ordering::Relaxed);
        match self.mux.receive(message, || None, now).map_err(Ended::Violation)? {
            Received::Nothing => {}
            Received::Request(start, websocket) => self.start_exchange(start, websocket),
            Received::Interim(id, response) => {
                if let Some(Some(Slot { interim: Some(interim), .. })) = self.mux.get(id) {
                    interim(response.status, response.headers);
                }
            }
            Received::Response(id, start) => self.deliver_head(id, start),
            Received::Part(id, part) => self.deliver(id, part),
            Received::Cancelled(slot, code, detail) => match slot {
                Some(slot) if never_sent(code) => slot.not_taken(|| error_of(code, &detail)),
                Some(slot) => slot.end(|| error_of(code, &detail)),
                None => {}
            },
            Received::Dismissed(refusal) => return Err(Ended::Dismissed(refusal)),
            Received::GoAway(grace) => {
                tracing::debug!(?grace, "the proxy drains");
                self.lines.state.set(State::Draining);
            }
            Received::Disconnect => {
                self.lines.state.set(State::Draining);
                // One that was dismissed stays so.
                self.leaving.get_or_insert(Ended::Local);
            }
        }
        Ok(())
    }

    fn start_exchange(&mut self, start: Box<RequestStart>, websocket: bool) {
        let Some(serve) = &self.serve else { unreachable!("only an acceptor receives requests") };
        let id = start.id;
        let guard = Guard::acceptor(&self.lines, id);
        let shared = Arc::clone(guard.shared());
        let (inbox, parts) = if start.end && !websocket { (None, None) } else { both(inbox::channel()) };
        let task = serve.start(start, websocket, parts, guard);
        let slot =
            Slot { shared, inbox, reply: None, interim: None, task: Some(task), websocket, sent_as: None };
        self.mux.accept(id, Some(slot));
    }

    fn deliver_head(&mut self, id: u64, start: Box<ResponseStart>) {
        let ended = start.end;
        if let Some(Some(slot)) = self.mux.get(id) {
            let (inbox, parts) = if ended { (None, None) } else { both(inbox::channel()) };
            slot.inbox = inbox;
            slot.interim = None;
            let head = Head { start, parts, websocket: slot.websocket };
            if let Some(reply) = slot.reply.take() {
                // Whoever waited may be gone: its guard sends a cancel then.
                let _ = reply.send(Ok(head));
            }
        }
        if ended {
            self.finish_response(id);
        }
    }

    fn deliver(&mut self, id: u64, part: Part) {
        let last = matches!(part, Part::Body { end: true, .. } | Part::Teardown { .. });
        let teardown = matches!(part, Part::Teardown { .. });
        if let Some(Some(slot)) = self.mux.get(id)
            && let Some(inbox) = &slot.inbox
        {
            // Credit bounds what is in it, so that a failure means that nobody reads any more.
            let _ = inbox.try_send(Inbound::Part(part));
        }
        match (last, teardown) {
            (true, false) => self.finish_response(id),
            (true, true) => self.forget(id),
            _ => {}
        }
    }

    /// The peer's last part of a body is here. When it was a response, the rest of the request is not needed.
    fn finish_response(&mut self, id: u64) {
        if self.serve.is_none()
            && self.mux.only_ours_left(id)
            && let Some(Some(slot)) = self.mux.cancel(id, CancelCode::Gone, String::new())
        {
            slot.shared.close();
        }
        self.forget(id);
    }

    fn forget(&mut self, id: u64) {
        if let Some(Some(slot)) = self.mux.close_if_done(id) {
            slot.shared.close();
        }
    }

    fn poll_put(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let mut busy = false;
        while self.mux.has_output() {
            match self.transport.poll_ready(cx)? {
                Poll::Pending => return Ok(busy),
                Poll::Ready(()) => {}
            }
            let Some((message, sent)) = self.mux.transmit() else { break };
            if let Some(sent) = sent
                && let Some(slot) = sent.user.get()
            {
                slot.shared.sent(sent.weight);
            }
            self.note_head(&message);
            self.lines.sent.fetch_add(message.payload() as u64, Ordering::Relaxed);
            self.transport.put(&message)?;
            self.sent += 1;
            self.unflushed = true;
            busy = true;
        }
        Ok(busy)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        if self.unflushed
            && let Poll::Ready(flushed) = self.transport.poll_flush(cx)
        {
            flushed?;
            (self.unflushed, self.gathered) = (false, false);
            return Ok(true);
        }
        Ok(false)
    }

    /// Between nodes it matters how far a request's head came.
    fn note_head(&mut self, message: &Message) {
        if self.lines.settings.between_nodes()
            && let Message::HttpRequest(start) | Message::WsRequest(start) = message
            && let Some(Some(slot)) = self.mux.get(start.id)
        {
            slot.sent_as = Some(self.sent);
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        loop {
            let deadline = tokio::time::Instant::from_std(self.mux.deadline());
            if self.timer.deadline() > deadline || self.timer.is_elapsed() {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            let now = tokio::time::Instant::now().into_std();
            if !self.mux.tick(now) {
                return Err(Ended::Silent(self.lines.settings.ping_after * 2));
            }
            if self.mux.has_output() {
                cx.waker().wake_by_ref();
            }
        }
    }

    fn end_now(&mut self, ended: Ended) {
        self.leaving = Some(ended);
        self.lines.state.set(State::Draining);
        self.end_exchanges();
    }

    fn end_exchanges(&mut self) {
        let gone = || ForwardError::new(ErrorKind::TunnelGone, "the tunnel's session ended");
        let never_arrived = u64::try_from(self.transport.never_arrived()).unwrap_or(0);
        let arrived = self.sent.saturating_sub(never_arrived);
        for slot in self.mux.close().flatten() {
            self.lines.cut_off.fetch_add(1, Ordering::Relaxed);
            let on_the_way = slot.sent_as.is_some_and(|number| number < arrived);
            if self.lines.settings.between_nodes() && !on_the_way {
                slot.not_taken(gone);
            } else {
                slot.end(gone);
            }
        }
        self.work.close();
        while let Ok(command) = self.work.try_recv() {
            if let Command::Open { start, reply, .. } = command {
                let _ = reply.send(Err(Refused::Unsent(start)));
            }
        }
    }
}

/// An exchange has at most one credit, one cancel and one continue under way. An ended one may have left as many,
/// which the driver takes out before it opens another turn's worth.
fn signal_capacity(max_exchanges: usize) -> usize {
    3 * max_exchanges + 8 * TURN
}

fn both<A, B>((a, b): (A, B)) -> (Option<A>, Option<B>) {
    (Some(a), Some(b))
}
