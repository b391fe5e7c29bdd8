//! What one request of a visitor was, and what became of it: for metrics, the access log and the trace.
//!
//! Owns the facts of a request from its head to the last byte of its answer, and tells them once, when it is over: with the last
//! of its ends, however that comes. Must not know how they are written.

mod config;

pub use config::{Measured, Observe, Traces, Trust};

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::{StatusCode, Version};
use jiff::Timestamp;

use super::{
    Shared,
    access::{Head, Line},
    door::Arrived,
    metrics::Counted,
};
use crate::{
    exchange::{
        Asked, ErrorKind, ExchangeId, ForwardError, Request, VisitorAddress, Witness, hygiene, websocket::Way,
    },
    trace::{self, Span},
    wire::{Tls, TunnelName},
};

/// One request, until it is over.
pub(super) struct Observed {
    shared: Arc<Shared>,
    exchange: ExchangeId,
    began: Instant,
    version: Version,
    /// There is an answer from beyond the proxy.
    answered: AtomicBool,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    told: Mutex<Told>,
}

/// What is known so far.
struct Told {
    /// What only the access log wants to know.
    head: Option<Box<Head>>,
    visitor: SocketAddr,
    tunnel: Option<TunnelName>,
    status: Option<StatusCode>,
    error: Option<&'static str>,
    first_byte: Option<Duration>,
    plugin: Option<String>,
    session: Option<u64>,
    span: Option<Span>,
    websocket: Option<Counted>,
    /// All of the answer has passed.
    whole: bool,
}

impl Observed {
    /// A request has come.
    pub(super) fn begin<B>(
        shared: &Arc<Shared>,
        arrived: &Arrived,
        exchange: ExchangeId,
        request: &http::Request<B>,
    ) -> Arc<Self> {
        shared.metrics.visitors.came(request.version(), arrived.scheme());
        let log = &shared.config.observe.access_log;
        Arc::new(Self {
            shared: Arc::clone(shared),
            exchange,
            began: Instant::now(),
            version: request.version(),
            answered: AtomicBool::new(false),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            told: Mutex::new(Told {
                head: log.as_ref().map(|log| Box::new(log.head_of(request, arrived.tls.as_deref()))),
                visitor: arrived.peer,
                tunnel: None,
                status: None,
                error: None,
                first_byte: None,
                plugin: None,
                session: None,
                span: None,
                websocket: None,
                whole: false,
            }),
        })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It goes to a tunnel. From here on it is traced, if anything is.
    pub(super) fn forwarding(self: &Arc<Self>, peer: SocketAddr, request: &mut Request) {
        let observe = &self.shared.config.observe;
        let mut told = self.told();
        told.tunnel = Some(request.context.tunnel.clone());
        told.visitor = request.context.visitor.as_ref().map_or(told.visitor, VisitorAddress::get);
        if let Some(traces) = &observe.traces {
            let believed = match traces.trust {
                Trust::Nobody => false,
                Trust::TrustedProxies => hygiene::is_trusted(&self.shared.config.trusted_proxies, peer.ip()),
                Trust::Everybody => true,
            };
            let taken = if believed { trace::Taken::Believed } else { trace::Taken::Continued };
            told.span = Some(traces.tracer.serve(request, Some(self.version), taken));
        }
        drop(told);
        if observe.access_log.is_some() || observe.traces.is_some() || observe.metrics_per_tunnel > 0 {
            request.context.witness = Some(Arc::clone(self) as Arc<dyn Witness>);
        }
    }

    /// There is no answer from beyond the proxy.
    pub(super) fn failed(&self, error: &ForwardError) {
        let code = error.kind().code();
        self.shared.metrics.visitors.failed(code);
        self.told().error = Some(code);
    }

    /// There is an answer from beyond the proxy.
    pub(super) fn answered(&self) {
        self.answered.store(true, Relaxed);
    }

    /// Whether there is.
    pub(super) fn is_answered(&self) -> bool {
        self.answered.load(Relaxed)
    }

    /// The answer's head is there.
    pub(super) fn answering(&self, status: StatusCode) {
        let mut told = self.told();
        told.status = Some(status);
        told.first_byte = Some(self.began.elapsed());
        if status == StatusCode::SWITCHING_PROTOCOLS && told.tunnel.is_some() {
            told.websocket = Some(self.shared.metrics.visitors.websocket());
        }
    }

    /// The last byte of the answer has been given away.
    pub(super) fn whole(&self) {
        self.told().whole = true;
    }

    /// A piece of the request's body came.
    pub(super) fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
        self.shared.metrics.visitors.passing().received(bytes);
    }

    /// A piece of the answer's body goes out.
    pub(super) fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
        self.shared.metrics.visitors.passing().sent(bytes);
    }

    /// A message passed; the visitor is on the near side.
    pub(super) fn message(&self, way: Way, bytes: usize) {
        let sum = if way == Way::ToFar { &self.bytes_in } else { &self.bytes_out };
        sum.fetch_add(bytes as u64, Relaxed);
        self.shared.metrics.visitors.passing().message(way, bytes);
    }
}

impl Witness for Observed {
    fn asked(&self, asked: &Asked<'_>) {
        let mut told = self.told();
        if asked.ended_here() {
            told.plugin = Some(asked.plugin.to_owned());
        }
        if let Some(span) = &told.span {
            span.asked(asked);
        }
    }

    fn taken(&self, session: u64) {
        self.told().session = Some(session);
    }
}

impl Told {
    /// What became of it, in a word: `ok`, the code of an error, or that the answer broke off.
    fn outcome(&self) -> &'static str {
        match (self.error, self.status) {
            (Some(code), _) => code,
            (None, None) => ErrorKind::Cancelled.code(),
            (None, Some(StatusCode::SWITCHING_PROTOCOLS)) => "ok",
            (None, Some(_)) if self.whole => "ok",
            (None, Some(_)) => "broken-off",
        }
    }
}

/// A request whose head couldn't be read has got this answer, and is over: all that the access log knows of it.
pub(super) fn unreadable(
    shared: &Shared,
    peer: SocketAddr,
    tls: Option<&Tls>,
    exchange: ExchangeId,
    answer: &[u8],
) {
    let Some(log) = &shared.config.observe.access_log else { return };
    let status = answer.get(9..12).and_then(|status| StatusCode::from_bytes(status).ok());
    let outcome = match status.map(|status| status.as_u16()) {
        Some(408) => ErrorKind::RequestTimedOut.code(),
        Some(414 | 431) => ErrorKind::RequestHeadTooLarge.code(),
        Some(501) => ErrorKind::UnknownCoding.code(),
        _ => ErrorKind::BadRequest.code(),
    };
    log.write(&Line {
        time: Timestamp::now(),
        visitor: peer,
        head: &Head::unreadable(tls),
        tunnel: None,
        status,
        outcome,
        bytes_in: 0,
        bytes_out: 0,
        duration: Duration::ZERO,
        first_byte: None,
        exchange,
        session: None,
        node: shared.node,
        plugin: None,
    });
}

impl Drop for Observed {
    fn drop(&mut self) {
        let time = self.began.elapsed();
        let (bytes_in, bytes_out) = (*self.bytes_in.get_mut(), *self.bytes_out.get_mut());
        let shared = Arc::clone(&self.shared);
        let told = self.told.get_mut().unwrap_or_else(PoisonError::into_inner);
        if told.status != Some(StatusCode::SWITCHING_PROTOCOLS) {
            shared.metrics.visitors.ended(told.status, told.first_byte, time);
        }
        if let (Some(tunnel), Some(_)) = (&told.tunnel, told.session) {
            shared.metrics.tunnels.ended(tunnel, bytes_in, bytes_out);
        }
        let outcome = told.outcome();
        if let Some(span) = told.span.take() {
            span.end(told.status, Some(outcome).filter(|outcome| *outcome != "ok"), told.session);
        }
        let (Some(log), Some(head)) = (&shared.config.observe.access_log, told.head.take()) else { return };
        log.write(&Line {
            time: Timestamp::now(),
            visitor: told.visitor,
            head: &head,
            tunnel: told.tunnel.as_ref(),
            status: told.status,
            outcome,
            bytes_in,
            bytes_out,
            duration: time,
            first_byte: told.first_byte,
            exchange: self.exchange,
            session: told.session,
            node: shared.node,
            plugin: told.plugin.as_deref(),
        });
    }
}
