//! The cloneable end of a session: opens exchanges, and tells the driver what bodies and sockets need.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
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
use crate::exchange::{
    Accepted, Answer, Body, ErrorKind, Forward, ForwardError, ForwardFuture, Interim, Request, RequestKind,
    Response, hygiene, websocket::Duplex,
};

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
        let wanted = hygiene::expects_continue(&head.headers).then(|| Arc::new(Notify::new()));
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
