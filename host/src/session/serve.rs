//! The answering side: one task for each exchange, from the request's head to the answer's last part.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use tokio::{sync::mpsc, task::AbortHandle};

use super::{
    command::{Command, Signal},
    guard::Guard,
    handle::duplex,
    inbox::{Inbound, InboundBody, Inbox},
    lines::Lines,
    outbox::{PartSender, Pieces},
    translate::{cancel_between_nodes, cancel_of, context_of, head_of},
};
use crate::{
    exchange::{
        Accepted, Answer, Body, ErrorKind, Forward, ForwardError, Interim, Request, RequestKind, Response,
        hygiene, websocket::join,
    },
    wire::message::{RequestStart, ResponseStart},
};

/// Starts exchanges.
pub(super) struct Serve {
    forward: Arc<dyn Forward>,
    lines: Arc<Lines>,
}

impl Serve {
    pub(super) fn new(forward: Arc<dyn Forward>, lines: Arc<Lines>) -> Self {
        Self { forward, lines }
    }

    /// Starts an exchange in a task of its own; the handle ends it early.
    pub(super) fn start(
        &self,
        start: Box<RequestStart>,
        websocket: bool,
        parts: Option<mpsc::Receiver<Inbound>>,
        guard: Arc<Guard>,
    ) -> AbortHandle {
        let exchange = Exchange { id: start.id, websocket, lines: Arc::clone(&self.lines), guard };
        let forward = Arc::clone(&self.forward);
        // A task's future is moved a few times on its way in and out.
        tokio::spawn(Box::pin(exchange.run(start, parts, forward))).abort_handle()
    }
}

struct Exchange {
    id: u64,
    websocket: bool,
    lines: Arc<Lines>,
    guard: Arc<Guard>,
}

impl Exchange {
    async fn run(
        self,
        start: Box<RequestStart>,
        parts: Option<mpsc::Receiver<Inbound>>,
        forward: Arc<dyn Forward>,
    ) {
        // The request isn't kept beside the stages that have it now.
        let (answering, socket) = match self.request(start, parts) {
            Ok((request, socket)) => (forward.forward(request), socket),
            Err(error) => return self.cancel(error).await,
        };
        let done = match answering.await {
            Ok(Answer::Http(response)) => {
                let sent = self.send_response(response).await;
                if sent.is_ok() {
                    self.guard.finish();
                }
                sent
            }
            // A socket's future has room of its own: few exchanges need it.
            Ok(Answer::WebSocket(accepted)) => Box::pin(self.join_socket(accepted, socket)).await,
            Err(error) => Err(error),
        };
        match done {
            // A WebSocket's guard knows by itself whether both directions were closed.
            Ok(()) => {}
            Err(error) => self.cancel(error).await,
        }
    }

    /// The request as the stages get it, and what comes from the visitor of a WebSocket.
    fn request(
        &self,
        mut start: Box<RequestStart>,
        parts: Option<mpsc::Receiver<Inbound>>,
    ) -> Result<(Request, Option<mpsc::Receiver<Inbound>>), ForwardError> {
        let settings = &self.lines.settings;
        let Some(tunnel) = settings.tunnel.clone().or_else(|| start.tunnel.clone()) else {
            let detail = "the request doesn't say for which tunnel";
            return Err(ForwardError::new(ErrorKind::PeerBrokeProtocol, detail));
        };
        let mut context = context_of(&mut start, tunnel);
        context.interim = Some(self.interim());
        let kind = if self.websocket { RequestKind::WebSocket } else { RequestKind::Http };
        let (head, first) = head_of(*start, kind);
        let (body, socket) = match parts {
            None => (Body::full(first), None),
            Some(parts) if self.websocket => (Body::empty(), Some(parts)),
            Some(parts) => {
                // Another node keeps what it sends before this one has found a place for it, and has room for a window and its
                // first growth alone.
                let ahead = !self.lines.settings.between_nodes();
                let length = hygiene::length(&head.headers).filter(|_| ahead);
                let inbox = Inbox::expecting(parts, Arc::clone(&self.guard), length);
                (Body::stream(InboundBody::new(inbox, first)), None)
            }
        };
        Ok((Request { head, body, context }, socket))
    }

    // No `async fn`, here and below: it keeps its arguments twice.
    fn send_response(&self, response: Response) -> impl Future<Output = Result<(), ForwardError>> {
        let Response { status, headers, body } = response;
        let mut pieces = Pieces::new(body);
        async move {
            let (first, end) = pieces.first().await?;
            // A driver that is gone has ended this exchange too.
            let _ = self.respond(status, headers, first, end).await;
            if end {
                Ok(())
            } else {
                let out = PartSender::new(Arc::clone(self.guard.shared()), &self.lines);
                Box::pin(pieces.pump(out)).await
            }
        }
    }

    async fn join_socket(
        &self,
        accepted: Accepted,
        parts: Option<mpsc::Receiver<Inbound>>,
    ) -> Result<(), ForwardError> {
        let Some(parts) = parts else {
            return Err(ForwardError::new(
                ErrorKind::OriginFailed,
                "a WebSocket for a request that wanted none",
            ));
        };
        let _ = self.respond(StatusCode::SWITCHING_PROTOCOLS, accepted.headers, Bytes::new(), false).await;
        join(duplex(parts, &self.guard, &self.lines), accepted.duplex).await;
        Ok(())
    }

    fn respond(
        &self,
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
        end: bool,
    ) -> impl Future<Output = Result<(), Command>> {
        let response = Box::new(ResponseStart { id: self.id, status, headers, body, end });
        self.lines.ask(Command::Respond { response, websocket: self.websocket })
    }

    /// Seldom, and large.
    fn cancel(&self, error: ForwardError) -> BoxFuture<'_, ()> {
        tracing::debug!(%error, cause = error.cause().map(tracing::field::display), "an exchange failed");
        let (code, detail) = match self.lines.settings.between_nodes() {
            true => cancel_between_nodes(error),
            false => cancel_of(&error),
        };
        Box::pin(async move {
            let _ = self.lines.ask(Command::Cancel { id: self.id, code, detail }).await;
            self.guard.finish();
        })
    }

    /// Sends interim responses. They are advice, so that one that finds the queue full is dropped; only the wish for
    /// the body always arrives.
    fn interim(&self) -> Interim {
        let (id, websocket) = (self.id, self.websocket);
        let lines = Arc::clone(&self.lines);
        Arc::new(move |status, headers| {
            if status == StatusCode::CONTINUE {
                lines.signal(Signal::Continue(id));
            } else if status.is_informational() && !websocket {
                let response =
                    Box::new(ResponseStart { id, status, headers, body: Bytes::new(), end: false });
                let _ = lines.work.try_send(Command::Respond { response, websocket: false });
            }
        })
    }
}
