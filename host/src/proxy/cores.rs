//! The cores that a proxy works on: a thread for each, with a runtime of its own.
//!
//! A session's driver passes each message on to whoever serves the visitor. Where both are on one core that is a push to a queue;
//! between two cores it wakes a thread, which costs more than all else that is done for a small request. So a session stays on
//! the core where its client came in, and a visitor's connection goes there as soon as it is known which tunnel it asks for. All works
//! just as well, only more slowly, where it doesn't: connections on which several tunnels are asked for, or a tunnel with sessions on
//! several cores.
//!
//! Owns the threads. Must not know connections or sessions.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use tokio::{
    net::TcpStream,
    runtime::{Builder, Handle},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

thread_local! {
    static HERE: Cell<Option<Core>> = const { Cell::new(None) };
}

/// One of the cores of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Core(usize);

impl Core {
    /// The one that this thread is for, if it is for one alone.
    pub(super) fn here() -> Option<Self> {
        HERE.get()
    }

    /// Its number; the first is 0.
    pub(super) fn number(self) -> usize {
        self.0
    }
}

/// The cores of a proxy. With none of its own everything is done wherever the caller's runtime does it.
#[derive(Clone, Default)]
pub struct Cores(Option<Arc<Threads>>);

struct Threads {
    /// By their numbers; the first is the caller's own.
    runtimes: Vec<Handle>,
    next: AtomicUsize,
    stop: CancellationToken,
}

impl Cores {
    /// So many cores: this thread, whose runtime has to be for it alone, and new ones. These end when the last clone is gone.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let mut runtimes = vec![Handle::current()];
        HERE.set(Some(Core(0)));
        for number in 1..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtimes.push(runtime.handle().clone());
            let stop = stop.clone();
            let work = move || {
                HERE.set(Some(Core(number)));
                runtime.block_on(stop.cancelled());
                // Whatever hangs there must not hold up the exit.
                runtime.shutdown_background();
            };
            thread::Builder::new().name(format!("core {number}")).spawn(work)?;
        }
        Ok(Self(Some(Arc::new(Threads { runtimes, next: AtomicUsize::new(0), stop }))))
    }

    /// Each in turn.
    pub(super) fn next(&self) -> Option<Core> {
        let threads = self.0.as_ref()?;
        Some(Core(threads.next.fetch_add(1, Relaxed) % threads.runtimes.len()))
    }

    /// The one with this number.
    pub(super) fn numbered(&self, number: usize) -> Option<Core> {
        let threads = self.0.as_ref()?;
        (number < threads.runtimes.len()).then_some(Core(number))
    }

    /// Does something on a core, with a socket that comes from here.
    pub(super) fn spawn<F>(
        &self,
        core: Option<Core>,
        tasks: &TaskTracker,
        socket: TcpStream,
        work: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let elsewhere = core.filter(|core| Core::here() != Some(*core));
        let (Some(threads), Some(Core(number))) = (&self.0, elsewhere) else {
            tasks.spawn(work(socket));
            return;
        };
        // A socket tells its readiness to the runtime in which it was made.
        match socket.into_std() {
            Ok(socket) => {
                let work = async move {
                    match TcpStream::from_std(socket) {
                        Ok(socket) => work(socket).await,
                        Err(error) => lost(&error),
                    }
                };
                tasks.spawn_on(work, &threads.runtimes[number]);
            }
            Err(error) => lost(&error),
        }
    }
}

fn lost(error: &io::Error) {
    tracing::warn!(%error, "a connection was lost on its way to another core");
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.as_ref().map(|threads| threads.runtimes.len());
        f.debug_tuple("Cores").field(&count).finish()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::oneshot,
    };

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn a_socket_works_on_the_core_that_it_is_given_to_and_the_thread_ends_with_the_cores() {
        let cores = Cores::start(2).unwrap();
        let tasks = TaskTracker::new();
        assert_eq!(Core::here(), Some(Core(0)));
        for expected in [0, 1, 0] {
            let (near, mut far) = pair().await;
            let (here, told) = oneshot::channel();
            cores.spawn(cores.next(), &tasks, near, move |mut socket| async move {
                assert_eq!(socket.read_u8().await.unwrap(), 7);
                socket.write_u8(8).await.unwrap();
                here.send(Core::here()).unwrap();
            });
            far.write_u8(7).await.unwrap();
            assert_eq!(far.read_u8().await.unwrap(), 8);
            assert_eq!(told.await.unwrap(), Some(Core(expected)));
        }
        tasks.close();
        tasks.wait().await;

        // A task that never ends is dropped with its thread.
        let (near, _far) = pair().await;
        let (kept, gone) = oneshot::channel::<()>();
        cores.spawn(Some(Core(1)), &tasks, near, |_socket| async move {
            let _kept = kept;
            std::future::pending().await
        });
        drop(cores);
        assert!(gone.await.is_err());
        HERE.set(None);
    }

    #[tokio::test]
    async fn without_cores_all_is_done_where_the_caller_is() {
        let cores = Cores::default();
        assert_eq!(cores.next(), None);
        let tasks = TaskTracker::new();
        let (near, mut far) = pair().await;
        cores.spawn(None, &tasks, near, |mut socket| async move { socket.write_u8(1).await.unwrap() });
        assert_eq!(far.read_u8().await.unwrap(), 1);
    }
}
