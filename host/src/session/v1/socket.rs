//! A client's WebSocket with documents in it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{Sink, Stream};
use jiff::Timestamp;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{Instant, Sleep, sleep_until},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message as Frame, protocol::CloseFrame},
};

use super::{
    super::{
        ended::Ended,
        transport::{Arrival, FAREWELL, Transport, close_of},
    },
    Losses,
    translator::{Outgoing, Translator},
};
use crate::wire::{
    Message, TunnelName,
    v1::{self, DocumentError, RegistrationRequest},
};

/// Documents that may wait for a client that doesn't read; then nothing more is read of it either.
const MOST_WAITING: usize = 1024;

/// Registrations that may wait to be looked at.
const REGISTRATIONS: usize = 16;

/// The way to a client of the original's dialect.
pub struct Socket<S> {
    inner: WebSocketStream<S>,
    translator: Translator,
    wishes: mpsc::Sender<RegistrationRequest>,
    answers: mpsc::Receiver<Answer>,
    /// When a ping is due.
    silence: Pin<Box<Sleep>>,
}

/// The other end of a client's wishes for further names.
pub struct Registrar {
    wishes: mpsc::Receiver<RegistrationRequest>,
    answers: mpsc::Sender<Answer>,
}

enum Answer {
    Document(String),
    /// In words; the connection ends with it.
    Refused(String),
}

/// A session's transport over a WebSocket whose first registration was read. What can't be carried is counted in `losses`, under
/// the tunnel's name.
pub fn over<S>(inner: WebSocketStream<S>, tunnel: TunnelName, losses: &Losses) -> (Socket<S>, Registrar) {
    let (wishes, wanted) = mpsc::channel(REGISTRATIONS);
    let (answers, answered) = mpsc::channel(REGISTRATIONS);
    let translator = Translator::new(losses.of_session(tunnel));
    let silence = Box::pin(sleep_until(Instant::now() + v1::PING_AFTER));
    let socket = Socket { inner, translator, wishes, answers: answered, silence };
    (socket, Registrar { wishes: wanted, answers })
}

impl Registrar {
    /// The next wish; `None` when the session has ended.
    pub async fn next(&mut self) -> Option<RegistrationRequest> {
        self.wishes.recv().await
    }

    /// Tells the client that it has the name.
    pub async fn accept(&self, request: &RegistrationRequest, name: &TunnelName, hostname: Option<&str>) {
        let document = v1::registration_response(&request.id, Timestamp::now(), name, hostname);
        // A session that has ended has nobody to tell.
        let _ = self.answers.send(Answer::Document(document)).await;
    }

    /// Tells the client why it doesn't get the name, and ends the session, as clients expect.
    pub async fn refuse(&self, text: String) {
        let _ = self.answers.send(Answer::Refused(text)).await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket<S> {
    /// Gives the WebSocket all frames that it has room for; ready when none is left.
    fn poll_speak(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while !self.translator.outgoing.is_empty() {
            ready!(Sink::poll_ready(Pin::new(&mut self.inner), cx)).map_err(|error| Ended::broken(&error))?;
            let frame = match self.translator.outgoing.pop_front() {
                Some(Outgoing::Document(document)) => {
                    self.silence.as_mut().reset(Instant::now() + v1::PING_AFTER);
                    Frame::Text(document.into())
                }
                Some(Outgoing::Ping) => Frame::Ping(Default::default()),
                None => break,
            };
            Sink::start_send(Pin::new(&mut self.inner), frame).map_err(|error| Ended::broken(&error))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Says what is due without having been asked: answers to registrations, and pings.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        while let Poll::Ready(Some(answer)) = self.answers.poll_recv(cx) {
            match answer {
                Answer::Document(document) => self.translator.say(document),
                Answer::Refused(text) => {
                    self.translator.say(text.clone());
                    return Err(Ended::Refused(text));
                }
            }
        }
        // Clients listen for frames of text; what keeps libraries awake doesn't keep them.
        while self.silence.as_mut().poll(cx).is_ready() {
            self.silence.as_mut().reset(Instant::now() + v1::PING_AFTER);
            self.translator.say(v1::ping());
        }
        if self.poll_speak(cx)?.is_ready() {
            // Nobody else flushes what isn't a message of the session's.
            let _ = Sink::poll_flush(Pin::new(&mut self.inner), cx).map_err(|error| Ended::broken(&error))?;
        }
        Ok(())
    }

    fn received(&mut self, text: &str) -> Result<(), Ended> {
        if let Err(ended) = self.translator.receive(text, Timestamp::now()) {
            if let Ended::Refused(text) = &ended {
                self.translator.say(text.clone());
            }
            return Err(ended);
        }
        while let Some(request) = self.translator.registration() {
            if self.wishes.try_send(request).is_err() {
                let text = "too many registrations at once on one connection";
                self.translator.say(text.to_owned());
                return Err(Ended::Refused(text.to_owned()));
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for Socket<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arrival, Ended>> {
        self.poll_due(cx)?;
        if let Some(message) = self.translator.arrivals.pop_front() {
            return Poll::Ready(Ok(Arrival::Message(message)));
        }
        if self.translator.outgoing.len() > MOST_WAITING {
            return Poll::Pending;
        }
        match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
            None | Some(Ok(Frame::Close(_))) => return Poll::Ready(Err(Ended::ClosedByPeer)),
            Some(Err(error)) => return Poll::Ready(Err(Ended::broken(&error))),
            Some(Ok(Frame::Text(text))) => self.received(&text)?,
            Some(Ok(Frame::Binary(_))) => {
                return Poll::Ready(Err(Ended::NotADocument(DocumentError::Binary)));
            }
            Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => {}
        }
        // What it means comes with the next call.
        Poll::Ready(Ok(Arrival::Life))
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        ready!(self.poll_speak(cx))?;
        Sink::poll_ready(Pin::new(&mut self.inner), cx).map_err(|error| Ended::broken(&error))
    }

    fn put(&mut self, message: &Message) -> Result<(), Ended> {
        self.translator.send(message, Timestamp::now());
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        ready!(self.poll_speak(cx))?;
        Sink::poll_flush(Pin::new(&mut self.inner), cx).map_err(|error| Ended::broken(&error))
    }

    async fn close(&mut self, ended: &Ended) {
        let Some(close) = close_of(ended, self.translator.draining) else { return };
        let reason = &close.reason[..close.reason.floor_char_boundary(120)];
        let frame = CloseFrame { code: close.code.into(), reason: reason.into() };
        let closing = async {
            std::future::poll_fn(|cx| self.poll_flush(cx)).await?;
            self.inner.close(Some(frame)).await.map_err(|error| Ended::broken(&error))
        };
        let _ = tokio::time::timeout(FAREWELL, closing).await;
    }
}
