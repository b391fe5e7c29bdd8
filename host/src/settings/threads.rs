//! The threads that a role works on.

use std::{future::Future, thread};

use tokio::runtime::Builder;

use super::run::Failure;

/// How many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// One. Between threads each message would wake another core, which costs more than all that is done for it.
    One,
    /// One for each core: whichever has time takes what is to be done.
    All,
}

impl Threads {
    /// Works until it is done. What still runs then is left behind.
    pub(super) fn run<T, E>(self, work: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
    where
        Failure: From<E>,
    {
        let mut builder = match self {
            Self::One => Builder::new_current_thread(),
            Self::All => Builder::new_multi_thread(),
        };
        let runtime = builder.enable_all().build().map_err(Failure::Threads)?;
        let result = runtime.block_on(work);
        // A look-up of a name can't be interrupted; it must not hold up the exit.
        runtime.shutdown_background();
        Ok(result?)
    }
}

/// How many threads work at once here; one if that isn't known.
pub(super) fn available() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
