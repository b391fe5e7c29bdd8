//! Connections to an origin that speaks HTTP/2, each of which carries many exchanges at once.
//!
//! Owns how many there are: a further one is opened when all others carry as many exchanges as the origin allows, so
//! that a hundred visitors who wait for an event don't make the next one wait. Must not know what a request says.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{sync::oneshot, time::timeout};

use super::{
    connect::{ConnectError, Connector},
    listening::{Listener, Listening},
    origin_body::RequestBody,
};
use crate::wire;

/// Exchanges on one connection; many servers allow a hundred, or a few more.
const MAX_STREAMS: usize = 100;

/// Bytes of one answer that are taken in before its reader asks for them: what a session's exchange begins with.
const STREAM_WINDOW: u32 = wire::INITIAL_WINDOW;

/// So many that exchanges whose readers have stopped, however many, leave room for the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;

/// The connections to one origin.
#[derive(Clone)]
pub(super) struct Lines {
    connector: Connector,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    lines: Vec<Line>,
    /// The one connection that is being opened, and all who wait for it.
    dialing: Option<Dialing>,
}

type Io = TokioIo<Listening<FirstWords>>;

type Dialing = Shared<BoxFuture<'static, Result<(), Arc<ConnectError>>>>;

/// One connection.
struct Line {
    sender: SendRequest<RequestBody>,
    facts: Arc<Facts>,
    /// Counted by its clones: one for each exchange, and this.
    places: Arc<()>,
}

/// What is known of a connection.
struct Facts {
    /// Exchanges that the origin allows at once.
    max_streams: AtomicUsize,
    /// It takes WebSockets (RFC 8441 section 3).
    websockets: AtomicBool,
    /// It takes no more exchanges.
    leaving: AtomicBool,
    /// An exchange was answered on it.
    proven: AtomicBool,
}

/// A place for one exchange, which is free again when this is dropped.
pub(super) struct Place {
    pub(super) sender: SendRequest<RequestBody>,
    facts: Arc<Facts>,
    _place: Arc<()>,
}

impl Place {
    /// Whether the origin takes WebSockets here.
    pub(super) fn takes_websockets(&self) -> bool {
        self.facts.websockets.load(Relaxed)
    }

    /// Nothing further is to be sent on this connection.
    pub(super) fn leave(&self) {
        self.facts.leaving.store(true, Relaxed);
    }

    /// An answer came.
    pub(super) fn prove(&self) {
        self.facts.proven.store(true, Relaxed);
    }

    /// Whether an exchange was answered on this connection.
    pub(super) fn is_proven(&self) -> bool {
        self.facts.proven.load(Relaxed)
    }
}

impl Line {
    fn place(&self) -> Option<Place> {
        let most = self.facts.max_streams.load(Relaxed).min(MAX_STREAMS);
        (self.used() < most).then(|| Place {
            sender: self.sender.clone(),
            facts: Arc::clone(&self.facts),
            _place: Arc::clone(&self.places),
        })
    }

    fn used(&self) -> usize {
        Arc::strong_count(&self.places) - 1
    }

    fn is_over(&self) -> bool {
        self.sender.is_closed() || self.facts.leaving.load(Relaxed)
    }
}

impl Lines {
    /// None yet.
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, state: Arc::default() }
    }

    /// A place on a connection that is there, or on a new one.
    ///
    /// # Errors
    /// There is none, and no new one can be opened.
    pub(super) async fn place(&self) -> Result<Place, Arc<ConnectError>> {
        loop {
            let dialing = {
                let mut state = self.lock();
                if let Some(place) = state.place() {
                    return Ok(place);
                }
                state.dialing.get_or_insert_with(|| self.dial()).clone()
            };
            dialing.await?;
        }
    }

    // Never held across a call into foreign code, so a poisoned state is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a connection, to its end even if nobody waits any more.
    fn dial(&self) -> Dialing {
        let lines = self.clone();
        let opening = tokio::spawn(async move {
            let opened = lines.open().await;
            let mut state = lines.lock();
            state.dialing = None;
            opened.map(|line| state.lines.push(line)).map_err(Arc::new)
        });
        let connector = self.connector.clone();
        opening
            .map(move |done| done.unwrap_or_else(|_| Err(Arc::new(connector.not_http2()))))
            .boxed()
            .shared()
    }

    /// Opens a connection, and waits for the origin's first words (RFC 9113 section 3.4): they say that it is HTTP/2 what
    /// it speaks, and what it allows.
    async fn open(&self) -> Result<Line, ConnectError> {
        let (heard, mut welcome) = oneshot::channel();
        let io = self.connector.http2().await?;
        let io = TokioIo::new(Listening::new(io, FirstWords { read: false, heard: Some(heard) }));
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(wire::MAX_PART as u32)
            // What a request's body has ready waits in its session, not here.
            .max_send_buf_size(wire::MAX_PART);
        let handshake = builder.handshake::<_, RequestBody>(io).await;
        let (sender, mut connection) = handshake.map_err(|_| self.connector.not_http2())?;
        let facts = Arc::new(Facts {
            max_streams: AtomicUsize::new(MAX_STREAMS),
            websockets: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            proven: AtomicBool::new(false),
        });
        let (told, known_now) = oneshot::channel();
        let (mut told, known) = (Some(told), Arc::clone(&facts));
        tokio::spawn(async move {
            let ended = poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                known.learn(&connection);
                // What the origin said has been read into these, then.
                if told.is_some() && matches!(Pin::new(&mut welcome).poll(cx), Poll::Ready(Ok(()))) {
                    known.learn(&connection);
                    // Fails if nobody waits any more.
                    let _ = told.take().map(|told| told.send(()));
                }
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "a connection to the origin broke off");
            }
            known.leaving.store(true, Relaxed);
        });
        match timeout(self.connector.timeout(), known_now).await {
            Ok(Ok(())) => Ok(Line { sender, facts, places: Arc::default() }),
            _ => Err(self.connector.not_http2()),
        }
    }
}

impl Facts {
    fn learn(&self, connection: &http2::Connection<Io, RequestBody, TokioExecutor>) {
        self.max_streams.store(connection.current_max_send_streams(), Relaxed);
        self.websockets.store(connection.is_extended_connect_protocol_enabled(), Relaxed);
    }
}

/// Says when the first of what was read has been understood: the library reads on then.
struct FirstWords {
    read: bool,
    heard: Option<oneshot::Sender<()>>,
}

impl Listener for FirstWords {
    fn asked(&mut self) {
        if self.read
            && let Some(heard) = self.heard.take()
        {
            // Fails if nobody waits any more.
            let _ = heard.send(());
        }
    }

    fn heard(&mut self) {
        self.read = true;
    }
}

impl State {
    /// A place on the first connection that has one. Those after it that carry nothing are let go, so that few are kept
    /// of what a burst of visitors opened.
    fn place(&mut self) -> Option<Place> {
        self.lines.retain(|line| !line.is_over());
        let (at, place) = self.lines.iter().enumerate().find_map(|(at, line)| Some((at, line.place()?)))?;
        let mut index = 0;
        self.lines.retain(|line| {
            index += 1;
            index <= at + 1 || line.used() > 0
        });
        Some(place)
    }
}
