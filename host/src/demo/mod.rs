//! A sample service for `tunnel demo`: a page that shows the tunnel at work, and what the page talks to.
//!
//! Owns a plain HTTP/1.1 server. Must not know that there is a tunnel: whatever works here works for any service.

mod answer;
mod members;
mod socket;
#[cfg(test)]
mod tests;
mod transfer;

use std::{future::Future, io, net::SocketAddr, pin::pin, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

/// The example `basic-auth`, as `cargo xtask demo-plugins` compiled it.
pub const BASIC_AUTH: &[u8] = include_bytes!("plugins/basic-auth.wasm");
/// The example `rewrite`, as `cargo xtask demo-plugins` compiled it.
pub const REWRITE: &[u8] = include_bytes!("plugins/rewrite.wasm");

/// How long a stopping sample waits for transfers under way. Short: whoever stops a demo is looking at it.
const GRACE: Duration = Duration::from_secs(1);

/// A pause after a failed accept: out of file descriptors, trying again at once would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The sample service, bound and not yet serving.
pub struct Sample {
    listener: TcpListener,
    address: SocketAddr,
}

impl Sample {
    /// Binds an address; port 0 takes a free one.
    ///
    /// # Errors
    /// The address can't be had.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then ends WebSockets and event streams, waits shortly for other exchanges and returns
    /// once every connection is closed. Dropping the future ends all at once.
    pub async fn run(self, stop: CancellationToken) {
        let tasks = Tasks { tracker: TaskTracker::new(), stop, end: CancellationToken::new() };
        let _ends_on_drop = tasks.end.clone().drop_guard();
        loop {
            let accepted = tokio::select! {
                () = tasks.stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => tasks.spawn(connection(stream, tasks.clone())),
                Err(error) => {
                    warn!(%error, "the sample can't accept a connection");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        tasks.tracker.close();
        if time::timeout(GRACE, tasks.tracker.wait()).await.is_err() {
            tasks.end.cancel();
            tasks.tracker.wait().await;
        }
    }
}

/// Owns every task of a running sample.
#[derive(Clone)]
struct Tasks {
    tracker: TaskTracker,
    /// Begin no more, and end what has no end of its own.
    stop: CancellationToken,
    /// Drop what is left.
    end: CancellationToken,
}

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.tracker.spawn(async move { end.run_until_cancelled_owned(task).await });
    }
}

async fn connection(stream: TcpStream, tasks: Tasks) {
    // Only a delay would be lost with it, so that a failure needs no word.
    let _ = stream.set_nodelay(true);
    let stop = tasks.stop.clone();
    let service = service_fn(move |request| answer::answer(request, tasks.clone()));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "a connection to the sample broke");
    }
}
