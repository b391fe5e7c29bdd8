//! Taking connections from the kernel, until the node takes no more.

use std::{io, sync::Arc, time::Duration};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::{super::Shared, Listener, take};

/// Pause after a failed accept: out of file descriptors, it fails until some connection ends.
pub(in super::super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes connections until `stop` is cancelled.
pub(in super::super) async fn accept(
    listener: TcpListener,
    which: Listener,
    shared: &Arc<Shared>,
    stop: &CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return take_waiting(listener, which, shared),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                take(shared, socket, peer, which);
            }
            Err(error) if is_theirs(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "can't take a connection");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

/// Takes connections that the kernel has taken already. It would reset them, with the requests that were sent on them.
fn take_waiting(listener: TcpListener, which: Listener, shared: &Arc<Shared>) {
    // Where this fails there is nobody to wait for.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((socket, peer)) = listener.accept() {
        if socket.set_nonblocking(true).is_ok()
            && let Ok(socket) = TcpStream::from_std(socket)
        {
            take(shared, socket, peer, which);
        }
    }
}

/// Whether an accept failed because of the visitor, who left between the handshake and now.
pub(in super::super) fn is_theirs(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
