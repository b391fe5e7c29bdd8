//! HTTP/1.1 over a visitor's connection: one request after another, and letting the connection go.
//!
//! Must not know what a request means.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use http::{
    HeaderValue, StatusCode,
    header::{CONNECTION, UPGRADE},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;

use super::{
    Limits, Shared,
    door::{Arrived, Stream},
    interim::{InterimIo, Interims, Turn},
    linger::{Lingering, Unread},
    observe,
    outgoing::Outgoing,
    pace::{PacedIo, Slow},
    recall::Recall,
    strict::{self, Bounds, StrictIo, asks_for_another},
    unreadable, upgrade, visitor,
};
use crate::{exchange::VisitorAddress, wire};

/// How long a draining node keeps connections that are unused: a balancer's next request may be on its way on each of them, and
/// if it is met by a close, nobody knows whether it was acted on. Those that are used are told to be the last by the answer.
const LET_GO: Duration = Duration::from_secs(1);

/// How often a draining node looks whether a head that was under way has arrived.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The number of headers for which hyper needs no allocation; asking for the same number explicitly costs one.
const HYPERS_MAX_HEADERS: usize = 100;

/// What is read of a visitor at once, and what may wait to be written, in bytes: as much as one part holds.
const MAX_BUFFER: usize = wire::MAX_PART;

/// A visitor's socket, with all that watches what goes over it.
type VisitorIo = InterimIo<StrictIo<PacedIo<Lingering>>>;

/// One visitor's connection, as its exchanges see it.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) arrived: Arrived,
    /// Where interim responses go, if they can go anywhere.
    pub(super) interims: Option<Interims>,
    pub(super) unread: Unread,
    /// The other end, as it is told if nobody vouches for another.
    pub(super) peer: VisitorAddress,
    pub(super) recall: Recall,
}

impl Connection {
    pub(super) fn new(
        shared: Arc<Shared>,
        arrived: Arrived,
        interims: Option<Interims>,
        unread: Unread,
    ) -> Self {
        let peer = VisitorAddress::written(arrived.peer);
        Self { shared, arrived, interims, unread, peer, recall: Recall::default() }
    }
}

/// One connection, from its first request to its last answer.
pub(super) async fn serve(shared: Arc<Shared>, stream: Stream, arrived: Arrived) {
    let (peer, place) = (arrived.peer, arrived.place.clone());
    let (io, watch) = watched(&shared, stream, &arrived);
    let Watch { unread, interims, door } = watch;
    let connection = Arc::new(Connection::new(shared.clone(), arrived, Some(interims.clone()), unread));
    let service = {
        let (interims, door) = (interims.clone(), door.clone());
        service_fn(move |request| answer(connection.clone(), interims.turn(), door.clone(), request))
    };
    let limits = &shared.config.limits;
    let mut http = builder(limits).serve_connection(TokioIo::new(io), service).with_upgrades();

    let needed = place.needed();
    // Each request wakes this task some times; these are looked at only when it is one of them that woke it.
    let mut apart: FuturesUnordered<BoxFuture<'_, Apart>> = FuturesUnordered::new();
    // Sessions die first, so that visitors who still wait hear what became of their request.
    apart.push(shared.killed_and_told().map(|()| Apart::Killed).boxed());
    apart.push(needed.cancelled().map(|()| Apart::Needed).boxed());
    let overdue = place.is_overdue(limits.idle_timeout, limits.header_timeout);
    apart.push(overdue.map(|()| Apart::Overdue).boxed());
    let leaving = async {
        let_go(&shared).await;
        // It isn't idle; nor does it stay so for longer than a head may take.
        while door.is_mid_head() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Apart::Leaving
    };
    apart.push(leaving.boxed());
    let mut given_up = false;
    let end = loop {
        tokio::select! {
            biased;
            ended = &mut http => break End::Served(ended),
            // Half a head isn't idle for hyper, nor does it become a request soon.
            () = std::future::ready(()), if given_up && place.is_idle() && interims.is_hypers() => break End::Needed,
            Some(apart) = apart.next() => match apart {
                // Ends an idle connection now, and a busy one after its exchange.
                Apart::Leaving => Pin::new(&mut http).graceful_shutdown(),
                Apart::Needed => {
                    given_up = true;
                    Pin::new(&mut http).graceful_shutdown();
                }
                Apart::Overdue => break End::Overdue,
                Apart::Killed => break End::Killed,
            },
        }
    };
    drop(apart);
    if let End::Served(Err(error)) = &end {
        tracing::debug!(%peer, %error, "a connection broke off");
    }
    if !matches!(end, End::Served(Ok(())))
        && let Some(parts) = http.into_parts()
    {
        finish(&shared, end, parts.io.into_inner(), &door).await;
    }
}

/// What watches a connection, as those see it who serve it.
struct Watch {
    unread: Unread,
    interims: Interims,
    door: strict::Door,
}

/// The connection with all that watches what goes over it.
fn watched(shared: &Arc<Shared>, stream: Stream, arrived: &Arrived) -> (VisitorIo, Watch) {
    let limits = &shared.config.limits;
    let (io, unread) = Lingering::new(stream, Some(arrived.place.ear()));
    let io = PacedIo::new(io, limits.pace, shared.slow_visitors.clone());
    let bounds = Bounds { head: limits.max_header_bytes, fields: limits.max_headers };
    let counted = shared.bad_requests.clone();
    let (io, door) = StrictIo::new(io, bounds, Box::new(move |violation| counted.count(violation)));
    let replace = {
        let (shared, unread, door) = (shared.clone(), unread.clone(), door.clone());
        let (peer, tls) = (arrived.peer, arrived.tls.clone());
        move |hypers: &[u8]| {
            let exchange = shared.ids.next();
            let answer = unreadable::instead(hypers, door.refusal(), exchange)?;
            observe::unreadable(&shared, peer, tls.as_deref(), exchange, &answer);
            // The rest of what the visitor sends is never read.
            unread.mark();
            Some(answer)
        }
    };
    let (io, interims) = InterimIo::new(io, Box::new(replace));
    (io, Watch { unread, interims, door })
}

/// Answers one request, and says what comes of the connection with it.
// An async function would have room for its arguments twice.
#[expect(clippy::manual_async_fn)]
fn answer(
    connection: Arc<Connection>,
    turn: Turn,
    door: strict::Door,
    request: http::Request<Incoming>,
) -> impl Future<Output = Result<http::Response<Outgoing>, Infallible>> {
    async move {
        let busy = connection.arrived.place.busy();
        let upgrade = request.extensions().get::<OnUpgrade>().cloned();
        let waits = asks_for_another(request.headers().get_all(UPGRADE).iter().map(HeaderValue::as_bytes));
        // What the HTTP library keeps of this for each connection, and moves for each request, stays small.
        let mut response = Box::pin(visitor::answer(&connection, request)).await;
        // Whatever goes on from here is an exchange, and holds the place by itself.
        drop(busy);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            door.grant();
            turn.for_ever();
            return Ok(response);
        }
        if let Some(upgrade) = upgrade {
            connection.shared.visitors.spawn(upgrade::refused(upgrade));
        }
        if waits {
            // What follows was meant for another protocol, and is never read (RFC 9931).
            connection.unread.mark();
        }
        if waits || connection.shared.drain.is_cancelled() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|body| body.during(turn)))
    }
}

/// Lets go of a connection that didn't end by itself.
async fn finish(shared: &Shared, end: End, io: VisitorIo, door: &strict::Door) {
    match end {
        // Between two requests nothing is cut short by a plain close.
        End::Served(Err(error)) if error.is_parse() => {}
        // A body that broke off must not look like one that ended; to an HTTP/1.0 visitor a plain close would.
        End::Served(Err(_)) | End::Killed => io.get_ref().get_ref().get_ref().reset(),
        // Nothing is said to a connection that was merely unused: its next request may be on the way, and would be
        // taken for what this answers.
        End::Overdue if door.is_mid_head() => {
            shared.slow_visitors.count(Slow::Head);
            say_late(io).await;
        }
        End::Overdue | End::Needed => close(io).await,
        End::Served(Ok(())) => {}
    }
}

/// Ends when a draining node keeps no connection any longer that is unused.
pub(super) async fn let_go(shared: &Shared) {
    shared.drain.cancelled().await;
    tokio::time::sleep(LET_GO.min(shared.config.grace_period)).await;
}

/// What may happen beside requests.
enum Apart {
    /// A draining node lets go of what is unused.
    Leaving,
    /// Another connection needs the place.
    Needed,
    /// No request came in time.
    Overdue,
    /// The node ends.
    Killed,
}

/// How a connection ended.
enum End {
    /// By itself.
    Served(hyper::Result<()>),
    /// With the node.
    Killed,
    /// Another needs its place, and it has nothing to do.
    Needed,
    /// No request came in time, or not all of its head.
    Overdue,
}

/// Ends an unused connection, TLS too, so that nobody takes it for one that was cut.
async fn close(mut io: VisitorIo) {
    // Where it fails the visitor is gone already.
    let _ = tokio::time::timeout(super::LAST_WORDS, io.shutdown()).await;
}

/// Tells a visitor who doesn't come to the end of a head.
async fn say_late(mut io: VisitorIo) {
    if !io.is_hypers() {
        return;
    }
    let saying = async {
        io.write_all(unreadable::late().as_bytes()).await?;
        io.shutdown().await
    };
    // Where it fails the visitor is gone already.
    let _ = tokio::time::timeout(2 * super::LAST_WORDS, saying).await;
}

fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The connection's place has this clock, and that of the time between requests.
        .header_read_timeout(None)
        .max_header_size(limits.max_header_bytes)
        .max_buf_size(limits.max_header_bytes.max(MAX_BUFFER));
    if limits.max_headers != HYPERS_MAX_HEADERS {
        builder.max_headers(limits.max_headers);
    }
    builder
}
