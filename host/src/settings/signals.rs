//! What a terminal or a supervisor asks of the process.

use std::io;

/// SIGINT (ctrl-c) and SIGTERM.
#[cfg(unix)]
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// From here on, signals no longer end the process by themselves.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next signal of either kind.
    pub(super) async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// The next SIGINT.
    pub(super) async fn interrupt(&mut self) {
        self.interrupt.recv().await;
    }
}

/// SIGHUP: a supervisor wants the settings to be read again.
#[cfg(unix)]
pub(super) struct Hangups(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangups {
    /// From here on, SIGHUP no longer ends the process.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::hangup()).map(Self)
    }

    /// The next one.
    pub(super) async fn next(&mut self) {
        self.0.recv().await;
    }
}

/// Nobody sends it here.
#[cfg(not(unix))]
pub(super) struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    /// Nothing to prepare.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    /// Never.
    pub(super) async fn next(&mut self) {
        std::future::pending().await
    }
}

/// Ctrl-c, the one signal that every system has.
#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Nothing to prepare.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    /// The next ctrl-c.
    pub(super) async fn any(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }

    /// The next ctrl-c.
    pub(super) async fn interrupt(&mut self) {
        self.any().await;
    }
}
