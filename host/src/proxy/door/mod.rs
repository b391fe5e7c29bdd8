//! The door: connections are taken here, say what they are, and are handed to whoever speaks their language.
//!
//! Owns the public listeners. What a connection shows of itself before its first request is an [`Arrived`]; what is read and
//! written is a [`Stream`], whether there is TLS below it or not. Must not know requests.

mod accept;
mod certificate;
mod config;
mod stream;
mod tls;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

pub(super) use self::{
    accept::{ACCEPT_PAUSE, accept, is_theirs},
    stream::Stream,
    tls::TlsDoor,
};
pub use self::{
    certificate::{Certificate, CertificateError, authorities},
    config::{Challenges, DoorSettings},
    tls::{TlsError, TlsSettings, VisitorCertificates},
};
use super::{Shared, http1};
use crate::{exchange::Scheme, wire::Tls};

/// What a connection shows of itself before its first request.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    /// The other end.
    pub(super) peer: SocketAddr,
    /// What was agreed on, if there is TLS.
    pub(super) tls: Option<Arc<Tls>>,
    /// Where it came in.
    pub(super) listener: Listener,
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

/// One connection, from its first byte to its last.
async fn serve(shared: Arc<Shared>, socket: TcpStream, peer: SocketAddr, listener: Listener) {
    let _counted = shared.metrics.connection();
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    if let Err(error) = prepare(&socket) {
        tracing::debug!(%peer, %error, "a connection was gone before it began");
        return;
    }
    let (stream, tls) = match &shared.tls {
        Some(door) if listener == Listener::Main => {
            let shaken = tokio::select! {
                shaken = door.shake(socket) => shaken,
                () = shared.kill.cancelled() => None,
            };
            let Some((stream, tls)) = shaken else { return };
            (Stream::Tls(stream), Some(Arc::new(tls)))
        }
        _ => (Stream::Plain(socket), None),
    };
    http1::serve(shared, stream, Arrived { peer, tls, listener }).await;
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    // Answers are small and must not wait for the last one's acknowledgement (44 ms).
    socket.set_nodelay(true)?;
    // Finds visitors whose machine or network is gone while a response has nothing to send.
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}
