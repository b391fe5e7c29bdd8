//! The cloneable end of a session: opens exchanges, and tells the driver what bodies and sockets need.

use std::{
    future::poll_fn,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::StatusCode;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{
    command::{Command, Head, Refused, Signal},
    ended::Ended,
    guard::Guard,
    inbox::{InboundBody, InboundSocket, Inbox},
    lines::{Lines, State},
    outbox::{OutboundSocket, PartSender, Pieces},
    translate::{head_of, start_of},
};
use crate::{
    exchange::{
        Accepted, Answer, Body, ErrorKind, Forward, ForwardError, ForwardFuture, Interim, Request,
        RequestKind, Response, hygiene, websocket::Duplex,
    },
    wire::{INITIAL_WINDOW, MAX_TEXT, message::Refusal},
};

/// Bytes that an answer may have beyond its initial window without having been asked for, where answers are often long.
const AHEAD: u32 = 7 * INITIAL_WINDOW;

/// A session's handle. Cloning is cheap; the session goes on without any.
#[derive(Clone)]
pub struct Handle {
    lines: Arc<Lines>,
    ended: watch::Receiver<Option<Ended>>,
}

impl Handle {
    pub(super) fn new(lines: Arc<Lines>, ended: watch::Receiver<Option<Ended>>) -> Self {
        Self { lines, ended }
    }

    #[cfg(test)]
    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Exchanges open now.
    pub fn busy(&self) -> usize {
        self.lines.busy.load(Ordering::Relaxed)
    }

    /// Exchanges that were opened here, since the session began.
    pub fn opened(&self) -> u64 {
        self.lines.opened.load(Ordering::Relaxed)
    }

    /// Bytes of bodies and WebSocket messages since the session began: from the peer, and to it.
    pub fn carried(&self) -> (u64, u64) {
        (self.lines.received.load(Ordering::Relaxed), self.lines.sent.load(Ordering::Relaxed))
    }

    /// Exchanges that were under way when the session ended.
    pub fn cut_off(&self) -> usize {
        self.lines.cut_off.load(Ordering::Relaxed)
    }

    /// What the session is doing.
    pub fn state(&self) -> State {
        self.lines.state.get()
    }

    /// Waits until the session takes no new exchanges any more.
    pub async fn draining(&self) {
        self.lines.state.wait_for(|state| matches!(state, State::Draining | State::Ended)).await;
    }

    /// Waits for the session's end.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(Ended::Dropped),
            Err(_) => Ended::Dropped,
        }
    }

    /// Tells the client to open a replacement. Until it takes its leave, exchanges still find an answer here. For the
    /// proxy's side.
    pub fn go_away(&self, grace: Duration) {
        self.lines.signal(Signal::GoAway(grace));
    }

    /// Takes leave: no new exchanges, and the session ends with the last one under way. For the client's side.
    pub fn disconnect(&self) {
        self.lines.signal(Signal::Disconnect);
    }

    /// Ends the session with the last exchange under way; those that come later are handed back. For the side that opens
    /// exchanges.
    pub fn retire(&self) {
        self.lines.signal(Signal::Retire);
    }

    /// Ends the session now, whatever is under way.
    pub fn close(&self) {
        self.lines.signal(Signal::Close);
    }

    /// Ends the session now, and tells the client that its registration holds no more, and why. For the proxy's side.
    pub fn dismiss(&self, refusal: Refusal) {
        self.lines.signal(Signal::Dismiss(Box::new(refusal)));
    }

    // An async function would have room for its argument twice, and this one is made for each exchange.
    #[expect(clippy::manual_async_fn)]
    fn exchange(&self, mut request: Request) -> impl Future<Output = Result<Answer, ForwardError>> + Send {
        async move {
            if !self.lines.takes_exchanges() {
                return Err(ForwardError::new(ErrorKind::TunnelGone, "the tunnel's session is ending")
                    .unsent(request));
            }
            let guard = Guard::opener(&self.lines);
            if self.busy() > self.lines.settings.max_exchanges {
                return Err(self.full().unsent(request));
            }
            if request.head.authority.len() > MAX_TEXT {
                return Err(ForwardError::new(ErrorKind::BadRequest, "the request's Host is too long"));
            }
            let kind = request.head.kind;
            if kind == RequestKind::Http && self.lines.lengths.are_long() {
                guard.grant_ahead(AHEAD);
            }
            let out = PartSender::new(Arc::clone(guard.shared()), &self.lines);
            let between_nodes = self.lines.settings.between_nodes();
            let pieces =
                if between_nodes { Pieces::keeping(request.body) } else { Pieces::new(request.body) };
            let mut upload = Upload { pieces, out, wanted: None };
            let (first, end) =
                if hygiene::expects_continue(&request.head.headers) && !upload.pieces.is_ended() {
                    // Touching the body would make the server ask the visitor for it.
                    let wanted = Arc::new(Notify::new());
                    request.context.interim =
                        Some(on_continue(Arc::clone(&wanted), request.context.interim.take()));
                    upload.wanted = Some(wanted);
                    (Bytes::new(), false)
                } else {
                    upload.pieces.first().await?
                };
            let start = Box::new(start_of(request.head, &request.context, first, end, between_nodes));
            let kept = between_nodes.then(|| start.clone());
            let (reply, answer) = oneshot::channel();
            let open = Command::Open {
                start,
                websocket: kind == RequestKind::WebSocket,
                shared: Arc::clone(guard.shared()),
                reply,
                interim: request.context.interim.clone(),
            };
            let sent = self.lines.ask(open).await;
            let refused = match sent {
                Err(Command::Open { start, .. }) => Refused::Unsent(start),
                Err(_) => unreachable!("that is what was sent"),
                Ok(()) => match upload.until_answered(answer, end).await? {
                    Ok(head) => {
                        upload.pieces.forget();
                        if !end && upload.goes_on() {
                            guard.keep(tokio::spawn(report_failure(upload, Arc::downgrade(&guard))));
                        }
                        return self.answer(head, guard);
                    }
                    Err(refused) => refused,
                },
            };
            // Of its body no more was touched than was kept: another session may have it.
            let (error, start) = match refused {
                Refused::Failed(error) => return Err(*error),
                Refused::Unsent(start) => (session_ended(), start),
                Refused::Full(start) => (self.full(), start),
                Refused::NotTaken(error) => match kept {
                    Some(start) => (*error, start),
                    None => return Err(*error),
                },
            };
            let (head, first) = head_of(*start, kind);
            Err(match upload.pieces.restore(first) {
                Some(body) => error.unsent(Request { head, body, context: request.context }),
                None => error,
            })
        }
    }

    fn full(&self) -> ForwardError {
        let limit = self.lines.settings.max_exchanges;
        let detail = format!("{limit} exchanges are open on this session, as many as allowed");
        ForwardError::new(ErrorKind::TooManyExchanges, detail)
    }

    fn answer(&self, head: Head, guard: Arc<Guard>) -> Result<Answer, ForwardError> {
        let Head { start, parts, websocket } = head;
        if websocket && start.status == StatusCode::SWITCHING_PROTOCOLS {
            let Some(parts) = parts else {
                return Err(ForwardError::new(ErrorKind::PeerBrokeProtocol, "accepted and ended at once"));
            };
            let duplex = duplex(parts, &guard, &self.lines);
            return Ok(Answer::WebSocket(Accepted { headers: start.headers, duplex }));
        }
        let body = match parts {
            None => {
                guard.received_all();
                self.lines.lengths.note(false);
                Body::full(start.body)
            }
            Some(parts) => {
                let length = hygiene::length(&start.headers);
                self.lines.lengths.note(length.is_some_and(|length| length > INITIAL_WINDOW.into()));
                let inbox = Inbox::expecting(parts, guard, length);
                Body::stream(InboundBody::new(inbox, start.body))
            }
        };
        Ok(Answer::Http(Response { status: start.status, headers: start.headers, body }))
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
        outgoing: Box::pin(OutboundSocket::new(Arc::clone(guard), lines)),
    }
}

fn session_ended() -> ForwardError {
    ForwardError::new(ErrorKind::TunnelGone, "the tunnel's session ended before the answer")
}

/// Wakes the body's pump when the far end asks for the body. All goes on to the visitor: where another session lies
/// between, its pump sleeps too.
fn on_continue(wanted: Arc<Notify>, next: Option<Interim>) -> Interim {
    Arc::new(move |status, headers| {
        if status == StatusCode::CONTINUE {
            wanted.notify_one();
        }
        if let Some(next) = &next {
            next(status, headers);
        }
    })
}

/// A request's body on its way to the driver.
struct Upload {
    pieces: Pieces,
    out: PartSender,
    /// Present until the far end has asked for a body that waits for that.
    wanted: Option<Arc<Notify>>,
}

impl Upload {
    /// Waits for the answer's head, and sends the body meanwhile if there is one.
    async fn until_answered(
        &mut self,
        answer: oneshot::Receiver<Result<Head, Refused>>,
        end: bool,
    ) -> Result<Result<Head, Refused>, ForwardError> {
        if end {
            return answer.await.map_err(|_| session_ended());
        }
        Box::pin(self.while_waiting(answer)).await
    }

    /// Sends the body while waiting for the answer; what is left of it then goes on afterwards.
    async fn while_waiting(
        &mut self,
        mut answer: oneshot::Receiver<Result<Head, Refused>>,
    ) -> Result<Result<Head, Refused>, ForwardError> {
        let mut sent = false;
        loop {
            tokio::select! {
                biased;
                head = &mut answer => return head.map_err(|_| session_ended()),
                done = self.send(), if !sent => match done {
                    Ok(()) => sent = true,
                    // The session's end is told by the answer; the visitor's failure is told here.
                    Err(error) if error.kind() == ErrorKind::TunnelGone => sent = true,
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// Sends what is left. May be given up and taken up again.
    async fn send(&mut self) -> Result<(), ForwardError> {
        if let Some(wanted) = &self.wanted {
            wanted.notified().await;
            self.wanted = None;
        }
        poll_fn(|cx| self.pieces.poll_pump(cx, &mut self.out)).await
    }

    /// Whether something is left to send after the answer's head. A body that nobody asked for is not.
    fn goes_on(&mut self) -> bool {
        if let Some(wanted) = &self.wanted
            && wanted.notified().now_or_never().is_none()
        {
            return false;
        }
        self.wanted = None;
        !self.pieces.is_sent() || !self.out.is_flushed()
    }
}

/// Goes on with a request's body after the answer has begun. When the visitor fails, so does the exchange.
async fn report_failure(mut upload: Upload, guard: Weak<Guard>) {
    if let Err(error) = upload.send().await
        && let Some(guard) = guard.upgrade()
    {
        tracing::debug!(%error, "a request's body broke off after the answer had begun");
        guard.cancel();
    }
}
