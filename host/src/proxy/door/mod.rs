//! The door: connections are taken here, say what they are, and are handed to whoever speaks their language.
//!
//! Owns the public listeners. What a connection shows of itself before its first request is an `Arrived`; what is read and
//! written is a `Stream`, whether there is TLS below it or not. Must not know requests.

mod accept;
mod announced;
mod certificate;
mod config;
mod crowd;
mod host;
mod preface;
mod stream;
mod tls;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

pub(super) use self::{
    accept::accept,
    crowd::{Busy, Crowd, Ear, Place},
    stream::Stream,
    tls::TlsDoor,
};
pub use self::{
    certificate::{Certificate, CertificateError, authorities},
    config::{Challenges, DoorSettings},
    tls::{TlsError, TlsSettings, VisitorCertificates},
};
use super::{Shared, cores::Core, http1, http2};
use crate::{
    exchange::{Scheme, hygiene},
    wire::Tls,
};

/// What a connection shows of itself before its first request.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    /// The other end.
    pub(super) peer: SocketAddr,
    /// What was agreed on, if there is TLS.
    pub(super) tls: Option<Arc<Tls>>,
    /// Where it came in.
    pub(super) listener: Listener,
    /// What it counts as among all connections.
    pub(super) place: Arc<Place>,
}

/// One of the public listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listener {
    /// Where tunnels are reached; with TLS if there is a certificate.
    Main,
    /// Plain HTTP beside TLS: everything is led to the other one.
    Plain,
}

impl Arrived {
    /// The scheme of what is asked for on the connection.
    pub(super) fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }
}

/// What is said where there is no place, before a request is read; by TLS it can't be said.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\nretry-after: 1\r\n\
    connection: close\r\ncontent-length: 35\r\n\r\nThis proxy has no connection left.\n";

/// A connection has come. It gets its place here, in the order in which the kernel took them: who came first is the first to go.
fn take(shared: &Arc<Shared>, socket: TcpStream, peer: SocketAddr, listener: Listener) {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    match shared.crowd.enter() {
        Ok(place) => {
            let arriving = Arriving { shared: Arc::clone(shared), peer, listener, place };
            // Handshakes are work that any core can do; without TLS it is soon known where a connection belongs.
            let core = if is_secure(shared, listener) { shared.config.cores.next() } else { Core::here() };
            shared.config.cores.spawn(core, &shared.visitors, socket, |socket| serve(arriving, socket));
        }
        Err(_) => no_place(&socket, is_secure(shared, listener)),
    }
}

fn is_secure(shared: &Shared, listener: Listener) -> bool {
    shared.tls.is_some() && listener == Listener::Main
}

/// A connection of which nothing was read.
struct Arriving {
    shared: Arc<Shared>,
    peer: SocketAddr,
    listener: Listener,
    place: Place,
}

/// One connection, from its first byte to its last.
async fn serve(arriving: Arriving, socket: TcpStream) {
    let Arriving { shared, peer, listener, mut place } = arriving;
    let counted = shared.metrics.connection();
    let secure = is_secure(&shared, listener);
    if let Err(error) = prepare(&socket) {
        tracing::debug!(%peer, %error, "a connection was gone before it began");
        return;
    }
    let needed = place.needed();
    let beginning = async {
        let (socket, peer) = announced(&shared, socket, peer).await?;
        if !is_many(&shared, peer.ip()) && place.belongs_to(peer.ip()).is_err() {
            no_place(&socket, secure);
            return None;
        }
        let Some(door) = shared.tls.as_ref().filter(|_| secure) else {
            return plain(&shared, socket, &place).await.map(|(stream, http2)| (stream, http2, None, peer));
        };
        let (stream, tls) = door.shake(socket).await?;
        let http2 = tls.alpn.as_deref() == Some("h2");
        Some((Stream::Tls(stream), http2, Some(Arc::new(tls)), peer))
    };
    let begun = tokio::select! {
        begun = beginning => begun,
        () = needed.cancelled() => None,
        () = shared.kill.cancelled() => None,
    };
    let Some((stream, http2, tls, peer)) = begun else { return };
    let arrived = Arrived { peer, tls, listener, place: Arc::new(place) };
    match stream {
        Stream::Plain(ahead, socket) => {
            let core = if http2 { shared.config.cores.next() } else { home(&shared, &ahead) };
            let (cores, tasks) = (shared.config.cores.clone(), shared.visitors.clone());
            cores.spawn(core, &tasks, socket, move |socket| async move {
                speak(shared, Stream::Plain(ahead, socket), http2, arrived).await;
                drop(counted);
            });
        }
        stream => speak(shared, stream, http2, arrived).await,
    }
}

async fn speak(shared: Arc<Shared>, stream: Stream, http2: bool, arrived: Arrived) {
    if http2 {
        http2::serve(shared, stream, arrived).await;
    } else {
        http1::serve(shared, stream, arrived).await;
    }
}

/// The core that has the session of the tunnel that is asked for. All others, and those that may be clients, take turns.
fn home(shared: &Shared, head: &[u8]) -> Option<Core> {
    let cores = &shared.config.cores;
    let asked = host::of(head).and_then(|host| shared.names.tunnel_of(host));
    let home = asked.and_then(|name| cores.numbered(shared.bus.core_of(&name)?));
    home.or_else(|| cores.next())
}

/// A connection without TLS, and whether it speaks HTTP/2, which is said by what it begins with.
async fn plain(shared: &Shared, mut socket: TcpStream, place: &Place) -> Option<(Stream, bool)> {
    let limits = &shared.config.limits;
    let known = tokio::select! {
        biased;
        known = preface::speaks_http2(&mut socket) => known,
        // Nothing is said to a connection that says nothing.
        () = http1::let_go(shared) => return None,
        () = place.is_overdue(limits.idle_timeout, limits.header_timeout) => return None,
    };
    match known {
        Ok((http2, ahead)) => {
            // Where it is switched off, HTTP/1.1 has words for what it is taken for.
            let http2 = http2 && !shared.config.door.http1_only;
            Some((Stream::Plain(ahead, socket), http2))
        }
        Err(error) => {
            tracing::debug!(%error, "a connection broke off before it began");
            None
        }
    }
}

/// Whose connection it is, after what a balancer says of it.
async fn announced(
    shared: &Shared,
    mut socket: TcpStream,
    peer: SocketAddr,
) -> Option<(TcpStream, SocketAddr)> {
    if !announced::expected(&shared.config.door.proxy_protocol, peer.ip()) {
        return Some((socket, peer));
    }
    match announced::read(&mut socket).await {
        Ok(visitor) => Some((socket, visitor.unwrap_or(peer))),
        Err(error) => {
            tracing::debug!(%peer, %error, "a connection has no header of the PROXY protocol");
            shared.crowd.refuse("proxy-header");
            None
        }
    }
}

/// Whether many visitors come from this address: a web server in front, or whatever runs on this machine.
fn is_many(shared: &Shared, address: IpAddr) -> bool {
    let config = &shared.config;
    let is_front = |nets| hygiene::is_trusted(nets, address);
    address.is_loopback() || is_front(&config.trusted_proxies) || is_front(&config.door.proxy_protocol)
}

fn no_place(socket: &TcpStream, secure: bool) {
    if !secure {
        // What the kernel doesn't take at once isn't worth the wait.
        let _ = socket.try_write(FULL);
    }
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    // Answers are small and must not wait for the last one's acknowledgement (44 ms).
    socket.set_nodelay(true)?;
    // Finds visitors whose machine or network is gone while a response has nothing to send.
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}
