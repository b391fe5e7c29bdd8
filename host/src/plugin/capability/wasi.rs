//! WASI as guests see it: clocks and random always, environment and folders as granted, what is printed goes to the log.
//! No arguments, no input, no sockets, no names.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    FsPerms, WasiCtx, WasiCtxBuilder, async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use super::{
    super::{config::Grant, error::HookError},
    log::{Level, MAX_LINE, Voice},
};

/// Bytes that a guest may print at once; the engine makes a copy of so many.
const PERMIT: usize = 64 << 10;

/// Bytes of randomness that one call gives; more is a trap. Made here before the guest gets them.
const MAX_RANDOM: u64 = 1 << 20;

/// What one guest sees through WASI.
///
/// # Errors
/// A folder can't be opened.
pub(super) fn context(grant: &Grant, voice: &Arc<Voice>) -> Result<WasiCtx, HookError> {
    let mut wasi = WasiCtxBuilder::new();
    // That none is granted is the default too; said here, because everything hangs on it.
    wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    wasi.stdout(Printed::new(Level::Info, voice)).stderr(Printed::new(Level::Warn, voice));
    wasi.max_random_size(MAX_RANDOM);
    for (name, value) in &grant.env {
        wasi.env(name, value);
    }
    for folder in &grant.folders {
        let may = if folder.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        wasi.preopened_dir(&folder.host, &folder.guest, may).map_err(|error| {
            HookError::Grant(format!(
                "the folder {} that it is granted can't be opened: {}",
                folder.host.display(),
                error.root_cause()
            ))
        })?;
    }
    Ok(wasi.build())
}

/// What a guest prints, cut into lines.
#[derive(Clone)]
struct Printed(Arc<Stream>);

struct Stream {
    level: Level,
    voice: Arc<Voice>,
    begun: Mutex<Begun>,
}

/// A line that hasn't ended yet.
#[derive(Default)]
struct Begun {
    /// No more of it than is kept in the end.
    bytes: Vec<u8>,
}

impl Printed {
    fn new(level: Level, voice: &Arc<Voice>) -> Self {
        Self(Arc::new(Stream { level, voice: Arc::clone(voice), begun: Mutex::default() }))
    }
}

impl Stream {
    fn print(&self, bytes: &[u8]) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            // One more than is kept, so that the cut shows.
            let room = (MAX_LINE + 1).saturating_sub(begun.bytes.len());
            begun.bytes.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.write(&begun.bytes);
                begun.bytes.clear();
            }
        }
    }

    fn write(&self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            self.voice.write(self.level, &String::from_utf8_lossy(line), &[]);
        }
    }
}

impl Drop for Stream {
    /// The guest is gone: its last line may have no end, and may be the one that says why.
    fn drop(&mut self) {
        let begun = std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner));
        self.write(&begun.bytes);
    }
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    // Not by way of the first one, which hands the bytes to a task: they would arrive when another hook runs.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Printed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.print(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.print(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

#[async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}
