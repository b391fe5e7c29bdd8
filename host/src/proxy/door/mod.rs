//! The door: connections are taken here, say what they are, and are handed to whoever speaks their language.
//!
//! Owns the public listener. What a connection shows of itself before its first request is an [`Arrived`]; what is read and
//! written is a [`Stream`], whether there is TLS below it or not. Must not know requests.

mod accept;
mod stream;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

pub(super) use self::{accept::accept, stream::Stream};
use super::{Shared, http1};
use crate::{exchange::Scheme, wire::Tls};

/// What a connection shows of itself before its first request.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    /// The other end.
    pub(super) peer: SocketAddr,
    /// What was agreed on, if there is TLS.
    pub(super) tls: Option<Arc<Tls>>,
}

impl Arrived {
    /// The scheme of what is asked for on the connection.
    pub(super) fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }
}

/// One connection, from its first byte to its last.
async fn serve(shared: Arc<Shared>, socket: TcpStream, peer: SocketAddr) {
    let _counted = shared.metrics.connection();
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    if let Err(error) = prepare(&socket) {
        tracing::debug!(%peer, %error, "a connection was gone before it began");
        return;
    }
    http1::serve(shared, Stream::Plain(socket), Arrived { peer, tls: None }).await;
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    // Answers are small and must not wait for the last one's acknowledgement (44 ms).
    socket.set_nodelay(true)?;
    // Finds visitors whose machine or network is gone while a response has nothing to send.
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}
