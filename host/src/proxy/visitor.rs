//! One request of a visitor: from hyper's hands into the pipeline, and the answer back.
//!
//! Owns the order of things: route, read the upgrade, clean the headers, forward. Must not know statuses of failures
//! (`answer`) or sockets (`connection`).

use std::{
    borrow::Cow,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, StatusCode, Version, header, uri::PathAndQuery};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tracing::{Instrument, instrument::Instrumented};

use super::{
    OpenExchange, answer, attach,
    door::Listener,
    grpc,
    http1::Connection,
    interim::{Gate, Interims},
    linger::Unread,
    metrics::Untold,
    observe::Observed,
    outgoing::{self, Outgoing},
    own,
    pace::{Patience, Slow, SlowVisitors},
    page::Form,
    plain,
    recall::Host,
    route::{self, Own, Route, Target},
    strict::Violation,
    upgrade::{self, BadOffer, Offer},
};
use crate::{
    exchange::{
        Answer, Body, Context, ErrorKind, ExchangeId, Forward, ForwardError, ForwardFuture, Request,
        RequestHead, RequestKind, hygiene,
    },
    wire::TunnelName,
};

/// Answers one request, whatever comes of it. All is done at once that can be, so that what waits is small.
pub(super) fn answer(
    connection: &Arc<Connection>,
    request: http::Request<Incoming>,
) -> impl Future<Output = http::Response<Outgoing>> {
    let exchange = connection.shared.ids.next();
    let form = Form::of(request.headers());
    let head_only = request.method() == Method::HEAD;
    let call = grpc::is_call(request.headers());
    // From here on: whoever answers without having read the body has to say so.
    let observed = Observed::begin(&connection.shared, &connection.arrived, exchange, &request);
    let request = request.map(|inner| VisitorBody::new(inner, connection, &observed));
    let onward = dispatch(connection, exchange, form, request, &observed);
    async move {
        let answered = match onward {
            Ok(Onward::Tunnel(forwarding)) => forwarding.answered().await,
            Ok(Onward::Client(answer)) => Ok(answer.await),
            Ok(Onward::Plain(answer)) => Err(Failure::Answered(Box::new(answer.await))),
            Err(failure) => Err(failure),
        };
        let response = match answered {
            Ok(response) => {
                observed.answered();
                response
            }
            Err(Failure::Forward(error)) => {
                observed.failed(&error);
                let mut response = answer::failure(&error, exchange, form);
                if call {
                    let status = response.status();
                    grpc::tell(response.headers_mut(), status, error.detail());
                }
                without_body(response, head_only).map(Outgoing::from)
            }
            Err(Failure::Answered(response)) => without_body(*response, head_only).map(Outgoing::from),
        };
        observed.answering(status(&response));
        secured(connection, response.map(|body| body.observed(observed)))
    }
}

/// What the visitor was told: a WebSocket that was granted is 101, also where HTTP/2 says 200.
fn status(response: &http::Response<Outgoing>) -> StatusCode {
    match response.extensions().get::<upgrade::Granted>() {
        Some(_) => StatusCode::SWITCHING_PROTOCOLS,
        None => response.status(),
    }
}

/// RFC 6797 section 7.1 and 7.2: by https alone, and what the service says of itself stays.
fn secured(connection: &Connection, mut response: http::Response<Outgoing>) -> http::Response<Outgoing> {
    if connection.arrived.tls.is_some()
        && let Some(hsts) = connection.shared.hsts()
    {
        response.headers_mut().entry(header::STRICT_TRANSPORT_SECURITY).or_insert(hsts);
    }
    response
}

/// Why a request is refused before it is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unfit {
    /// It has more header fields than are taken.
    TooManyFields,
    /// It announces the length of its body more than once.
    Lengths,
}

/// Answers a request that nobody looks at.
pub(super) fn unfit<B>(
    connection: &Connection,
    request: &http::Request<B>,
    reason: Unfit,
) -> http::Response<Outgoing> {
    let error = match reason {
        Unfit::TooManyFields => {
            ForwardError::new(ErrorKind::RequestHeadTooLarge, "the request has too many header fields")
        }
        Unfit::Lengths => {
            ForwardError::new(ErrorKind::BadRequest, "the request announces the length of its body twice")
        }
    };
    let form = Form::of(request.headers());
    let response = answer::failure(&error, connection.shared.ids.next(), form);
    without_body(response, request.method() == Method::HEAD).map(Outgoing::from)
}

/// Why there is no answer from beyond the proxy.
enum Failure {
    Forward(ForwardError),
    Answered(Box<http::Response<Body>>),
}

impl Failure {
    /// The same failure, of which is told.
    fn count(self, outcome: Untold<'_>) -> Self {
        match &self {
            Self::Answered(response) => outcome.answered(response.status()),
            Self::Forward(error) => outcome.failed(error.kind().code()),
        }
        self
    }
}

impl From<ForwardError> for Failure {
    fn from(error: ForwardError) -> Self {
        Self::Forward(error)
    }
}

/// Where a request goes on. What is needed no longer than until then takes up no room while its answer is waited for.
enum Onward<'a> {
    Tunnel(Forwarding<'a>),
    Client(BoxFuture<'a, http::Response<Outgoing>>),
    Plain(BoxFuture<'a, http::Response<Body>>),
}

fn dispatch<'a>(
    connection: &'a Arc<Connection>,
    exchange: ExchangeId,
    form: Form,
    request: http::Request<VisitorBody>,
    observed: &Arc<Observed>,
) -> Result<Onward<'a>, Failure> {
    let shared = &connection.shared;
    let (method, uri) = (request.method(), request.uri());
    let target = route::target(method, request.version(), uri, request.headers())
        .inspect_err(|&reason| shared.bad_requests.count(reason.into()))
        .map_err(|reason| Failure::Answered(answer::bad_target(reason, exchange, form).into()))?;
    if !in_chunks_at_most(request.headers()) {
        let detail =
            "the request's body has a transfer coding that this proxy doesn't know; it knows chunked only";
        return Err(ForwardError::new(ErrorKind::UnknownCoding, detail).into());
    }
    let own = |response| Err(Failure::Answered(Box::new(response)));
    if connection.arrived.listener == Listener::Plain {
        let answer = async move { plain::answer(shared, &target, exchange, form).await };
        return Ok(Onward::Plain(Box::pin(answer)));
    }
    let host = connection.recall.host(&target.authority, || named(connection, &target.authority));
    let route = match host.tunnel.clone() {
        Some(name) => Route::Tunnel { name, target: target.path.clone() },
        None => shared.names.route(&target),
    };
    if connection.arrived.place.is_spare() && !route.is_for_clients() {
        return own(own::full(exchange, form));
    }
    match route {
        Route::Tunnel { .. } if connection.shared.lacks_certificate(&connection.arrived) => {
            own(own::certificate_required(exchange, form))
        }
        Route::Tunnel { name, target: path } => {
            let outcome = shared.metrics.outcome();
            let destination = Destination { name, path, target, host };
            match forward(connection, exchange, form, request, destination, observed) {
                Ok(forwarded) => Ok(Onward::Tunnel(Forwarding { outcome, forwarded })),
                Err(failure) => Err(failure.count(outcome)),
            }
        }
        Route::Own(Own::Subscribe) => Ok(Onward::Client(Box::pin(attach::subscribe(
            shared,
            request,
            connection.arrived.peer,
            exchange,
        )))),
        Route::Own(Own::Greeting) => own(own::greeting(shared, method, exchange, form)),
        Route::Own(Own::Health) => own(own::health(shared)),
        Route::Own(Own::Ready) => own(own::ready(shared)),
        Route::Own(Own::Other) => own(own::other(exchange, form)),
        Route::NotAName => Err(no_such("this address doesn't contain the name of a tunnel")),
        Route::UnknownHost if request.version() == Version::HTTP_2 => {
            own(answer::misdirected(exchange, form))
        }
        Route::UnknownHost => Err(no_such("this proxy doesn't serve the host that the request names")),
    }
}

/// RFC 9112 section 6.1: a recipient answers 501 to codings that it doesn't know. Hyper sees to it that chunked is the
/// last, and takes it off; anything below it would go to the origin without its name.
fn in_chunks_at_most(headers: &HeaderMap) -> bool {
    let mut codings = hygiene::tokens(headers, &header::TRANSFER_ENCODING);
    codings.next().is_none_or(|coding| coding.eq_ignore_ascii_case(b"chunked")) && codings.next().is_none()
}

fn no_such(detail: &'static str) -> Failure {
    ForwardError::new(ErrorKind::NoSuchTunnel, detail).into()
}

struct Destination {
    name: TunnelName,
    /// Path and query for the origin.
    path: PathAndQuery,
    /// What the visitor named.
    target: Target,
    host: Arc<Host>,
}

/// An exchange with a tunnel that is under way.
struct Forwarding<'a> {
    outcome: Untold<'a>,
    forwarded: Forwarded<'a>,
}

/// What is left to do when its answer comes.
struct Forwarded<'a> {
    answer: Instrumented<ForwardFuture<'a>>,
    gate: Option<Gate>,
    offer: Option<Offer>,
    method: Method,
    open: OpenExchange,
}

impl Forwarding<'_> {
    async fn answered(self) -> Result<http::Response<Outgoing>, Failure> {
        let Self { outcome, forwarded: Forwarded { mut answer, gate, offer, method, open } } = self;
        let answer = (&mut answer).await;
        drop(gate);
        match answer.and_then(|answer| finish(answer, offer, &method, open)) {
            Ok(response) => {
                outcome.answered(status(&response));
                Ok(response)
            }
            Err(error) => Err(Failure::from(error).count(outcome)),
        }
    }
}

fn forward<'a>(
    connection: &'a Connection,
    exchange: ExchangeId,
    form: Form,
    mut request: http::Request<VisitorBody>,
    destination: Destination,
    observed: &Arc<Observed>,
) -> Result<Forwarded<'a>, Failure> {
    let busy = connection.arrived.place.busy();
    let open = OpenExchange::new(connection.shared.clone(), observed.clone(), busy);
    let offer = match upgrade::offer(&mut request) {
        None => None,
        Some(Ok(offer)) => Some(offer),
        Some(Err(reason)) => return Err(refuse(reason, exchange, form)),
    };
    let method = request.method().clone();
    // HTTP/1.0 knows no interim responses (RFC 9110 section 15.2), and an upgrade has one answer.
    let interim = request.version() == Version::HTTP_11 && offer.is_none();
    let interims = connection.interims.as_ref().filter(|_| interim);
    let (interim, gate) = interims.map(Interims::begin).unzip();
    let mut request = build(connection, exchange, request, destination, offer.is_some());
    request.context.interim = interim;
    observed.forwarding(connection.arrived.peer, &mut request);
    let span = tracing::debug_span!("exchange", tunnel = %request.context.tunnel, %exchange);
    let answer = connection.shared.pipeline.forward(request).instrument(span);
    Ok(Forwarded { answer, gate, offer, method, open })
}

fn refuse(reason: BadOffer, exchange: ExchangeId, form: Form) -> Failure {
    let detail = match reason {
        BadOffer::Version => {
            return Failure::Answered(answer::wrong_websocket_version(exchange, form).into());
        }
        BadOffer::Key => "the request to upgrade to WebSocket has no valid Sec-WebSocket-Key",
        BadOffer::Body => "a request to upgrade to WebSocket has no body",
    };
    ForwardError::new(ErrorKind::BadRequest, detail).into()
}

fn arrival<'a>(connection: &'a Connection, authority: &'a str) -> hygiene::Arrival<'a> {
    hygiene::Arrival {
        peer: connection.arrived.peer,
        scheme: connection.arrived.scheme(),
        authority,
        trusted: &connection.shared.config.trusted_proxies,
    }
}

/// A host that this connection hasn't just asked for.
fn named(connection: &Connection, authority: &str) -> Host {
    Host {
        tunnel: connection.shared.names.lasting(authority),
        description: hygiene::Description::of(&arrival(connection, authority)),
        authority: authority.to_owned(),
    }
}

fn build(
    connection: &Connection,
    exchange: ExchangeId,
    request: http::Request<VisitorBody>,
    destination: Destination,
    websocket: bool,
) -> Request {
    let Destination { name, path, target, host } = destination;
    let (mut parts, body) = request.into_parts();
    let kind = if websocket { RequestKind::WebSocket } else { RequestKind::Http };
    let arrival = arrival(connection, &target.authority);
    let visitor = hygiene::request(&mut parts.headers, kind, &arrival, &host.description);
    let is_peer = visitor.address == connection.arrived.peer;
    // Nobody may look into the body before the far end asks for it: hyper sends `100 Continue` on the first look.
    let body = if body.is_end_stream() { Body::empty() } else { Body::stream(body) };
    Request {
        head: RequestHead {
            kind,
            method: parts.method,
            scheme: visitor.scheme,
            authority: target.authority,
            target: path,
            headers: parts.headers,
        },
        body,
        context: Context {
            exchange,
            tunnel: name,
            visitor: Some(if is_peer { connection.peer.clone() } else { visitor.address.into() }),
            // What a web server in front agreed on with us says nothing of its visitor.
            tls: connection.arrived.tls.clone().filter(|_| is_peer),
            notes: Default::default(),
            interim: None,
            witness: None,
        },
    }
}

fn finish(
    answer: Answer,
    offer: Option<Offer>,
    method: &Method,
    open: OpenExchange,
) -> Result<http::Response<Outgoing>, ForwardError> {
    match (answer, offer) {
        (Answer::Http(response), _) => outgoing::response(response, method, open),
        (Answer::WebSocket(accepted), Some(offer)) => Ok(upgrade::accept(offer, accepted, open)),
        (Answer::WebSocket(_), None) => Err(ForwardError::new(
            ErrorKind::PeerBrokeProtocol,
            "the client accepted an upgrade that nobody had asked for",
        )),
    }
}

/// An answer to HEAD: the length stays, the body goes.
fn without_body(mut response: http::Response<Body>, head_only: bool) -> http::Response<Body> {
    if head_only {
        if let Some(length) = response.body().size_hint().exact() {
            response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        *response.body_mut() = Body::empty();
    }
    response
}

/// A visitor's request body, which tells the connection when it is dropped before its end. It is an error if it comes too
/// slowly, until the answer begins: from then on it is the service that lets it take its time, as in a call that streams both
/// ways.
struct VisitorBody {
    inner: Incoming,
    ended: bool,
    unread: Unread,
    patience: Patience,
    slow: SlowVisitors,
    observed: Arc<Observed>,
}

impl VisitorBody {
    fn new(inner: Incoming, connection: &Connection, observed: &Arc<Observed>) -> Self {
        Self {
            inner,
            ended: false,
            unread: connection.unread.clone(),
            observed: Arc::clone(observed),
            patience: Patience::new(connection.shared.config.limits.pace),
            slow: connection.shared.slow_visitors.clone(),
        }
    }

    fn is_too_slow(&mut self, cx: &mut TaskContext<'_>) -> bool {
        !self.observed.is_answered() && self.patience.poll_end(cx).is_ready()
    }
}

impl HttpBody for VisitorBody {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        Poll::Ready(match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending if self.is_too_slow(cx) => {
                self.slow.count(Slow::Body);
                let detail = "the request's body comes too slowly";
                Some(Err(ForwardError::new(ErrorKind::RequestTimedOut, detail)))
            }
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(mut frame))) => {
                self.patience.moved(frame.data_ref().map_or(0, Bytes::len));
                if let Some(trailers) = frame.trailers_mut() {
                    hygiene::trailers(trailers);
                }
                self.observed.received(frame.data_ref().map_or(0, Bytes::len));
                Some(Ok(frame))
            }
            Poll::Ready(Some(Err(error))) => Some(Err(broken(error))),
            Poll::Ready(None) => {
                self.ended = true;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for VisitorBody {
    fn drop(&mut self) {
        if !self.ended && !self.inner.is_end_stream() {
            self.unread.mark();
        }
    }
}

fn broken(error: hyper::Error) -> ForwardError {
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
    let violation = source.and_then(|source| source.get_ref()?.downcast_ref::<Violation>());
    let (kind, detail) = match (violation, source.map(io::Error::kind)) {
        (Some(violation), _) => (ErrorKind::BadRequest, violation.to_string().into()),
        (None, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)) => {
            (ErrorKind::BadRequest, Cow::from("the request's body isn't framed as HTTP demands"))
        }
        _ => (ErrorKind::Cancelled, "the visitor hung up before the request's end".into()),
    };
    ForwardError::new(kind, detail).because(error)
}
