//! HTTP/2 over a visitor's connection: many requests at once, and letting the connection go.
//!
//! Owns the bounds on what one connection may hold and how often it may make us work in vain. Each request becomes what it would
//! be by HTTP/1.1 (`request`) before `visitor` sees it. Must not know what a request means.

mod count;
mod frames;
mod guard;
mod ledger;
mod request;
mod streams;

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{sync::watch, time::sleep};

pub(crate) use self::count::Counts;
pub(super) use self::{frames::PREFACE, request::is_websocket};
use self::{
    guard::Guarded,
    streams::{Streams, Watched},
};
use super::{
    LAST_WORDS, Limits, Shared,
    door::{Arrived, Stream},
    http1::Connection,
    linger::Lingering,
    visitor::{self, Unfit},
};
use crate::exchange::hygiene;

/// Streams at once, as nginx allows; browsers open about as many. Those above it are refused, to be sent again.
const MAX_STREAMS: u32 = 128;

/// Bytes of one request's body that are taken in before its reader asks for them: 2.5 MB/s over a way of 100 ms.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes of all bodies of one connection: what a visitor can have us hold by sending to services that don't read. Four
/// that don't may stop the others, which are the same visitor's own.
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;

/// The same for a server in front, whose connection carries many visitors: one must not stop another.
const TRUSTED_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;

/// Bytes of one answer that wait for its visitor, beside the part in hand.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that were reset before we had a look at them (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 64;

/// Streams that we reset because of what the visitor sent on them (CVE-2025-8671), in a connection's whole life: nobody makes
/// as many mistakes.
const MAX_MISTAKES: usize = 128;

/// How often a visitor is asked whether it is still there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(45);
const PING_PATIENCE: Duration = Duration::from_secs(20);

/// One connection, from its preface to the end of its last stream.
pub(super) async fn serve(shared: Arc<Shared>, stream: Stream, arrived: Arrived) {
    let peer = arrived.peer;
    let trusted = hygiene::is_trusted(&shared.config.trusted_proxies, peer.ip());
    let place = arrived.place.clone();
    // A connection says much between requests that begins none.
    let (io, unread) = Lingering::new(stream, None);
    // The last words are a GOAWAY, and whoever it is meant for may be sending still.
    unread.mark();
    let counted = shared.clone();
    let notice = move |flood| counted.http2.flooded(flood);
    let io = Guarded::new(io, trusted, Box::new(notice));
    let streams = Streams::new(shared.visitors.clone(), shared.http2.stalled.clone());
    let mut open = streams.open();
    let builder = builder(streams, &shared.config.limits, trusted);
    let connection = Arc::new(Connection::new(shared.clone(), arrived, None, unread));
    let service = service_fn(move |request| {
        let connection = connection.clone();
        let busy = connection.arrived.place.busy();
        async move {
            let response = answer(connection, request).await;
            // Whatever goes on from here is an exchange, and holds the place by itself.
            drop(busy);
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = pin!(builder.serve_connection(TokioIo::new(io), service));

    let limits = &shared.config.limits;
    let mut leaving = pin!(async {
        tokio::select! {
            () = shared.drain.cancelled() => {}
            () = place.needed().cancelled_owned() => {}
            () = place.is_overdue(limits.idle_timeout, limits.header_timeout) => {}
        }
    });
    let mut left = false;
    // A visitor who never says that it has heard the farewell.
    let mut deaf = pin!(async {
        loop {
            nothing_open(&mut open).await;
            tokio::select! {
                () = sleep(LAST_WORDS) => return,
                _ = open.changed() => {}
            }
        }
    });
    let mut killed = pin!(shared.killed_and_told());
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut http => break ended,
            () = &mut leaving, if !left => {
                left = true;
                // Streams that are on their way are taken, and those that are open end (RFC 9113 section 6.8).
                http.as_mut().graceful_shutdown();
            }
            () = &mut deaf, if left => return,
            () = &mut killed => return,
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection broke off");
        shared.http2.ended(&error);
    }
}

async fn nothing_open(open: &mut watch::Receiver<usize>) {
    // Fails when whoever counts is gone, and all streams with it.
    let _ = open.wait_for(|open| *open == 0).await;
}

async fn answer(
    connection: Arc<Connection>,
    mut request: http::Request<Incoming>,
) -> http::Response<Watched> {
    let fit = request::adapt(&mut request, connection.shared.config.limits.max_headers);
    let mut response = match fit {
        Ok(()) => visitor::answer(&connection, request).await,
        Err(request::Refused::TooManyFields) => visitor::unfit(&connection, &request, Unfit::TooManyFields),
        Err(request::Refused::Lengths) => visitor::unfit(&connection, &request, Unfit::Lengths),
    };
    // RFC 9113 section 8.2.2: what says something of the connection makes a message malformed.
    hygiene::retain(response.headers_mut(), |name| !hygiene::is_hop_by_hop(name));
    response.map(|body| Watched::new(body.in_frames()))
}

fn builder(streams: Streams, limits: &Limits, trusted: bool) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(if trusted { TRUSTED_WINDOW } else { CONNECTION_WINDOW })
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        // Of many visitors some make mistakes, and a server in front is not to blame for them.
        .max_local_error_reset_streams((!trusted).then_some(MAX_MISTAKES))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE)
        .enable_connect_protocol();
    builder
}
