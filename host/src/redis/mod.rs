//! Redis as nodes share it: a connection for commands that heals itself, and an inbox for what others publish.
//!
//! Owns addresses, connecting, deadlines and what a failure means for the command that met it. Must not know what is
//! stored or said there.

mod address;
mod commands;
mod inbox;

pub use ::redis::{Cmd, FromRedisValue, Pipeline, Script, ScriptInvocation, cmd, pipe};
pub use address::{Address, BadAddress};
pub use commands::Redis;
pub use inbox::{Inbox, Published};

use std::time::Duration;

use ::redis::{ErrorKind, ServerErrorKind};

/// Longest wait for a connection, and for the answer to a short command: a visitor is waiting meanwhile, and has to hear
/// in time that there won't be one.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisError {
    /// There is no connection: the command was never sent.
    #[error("Redis can't be reached at {address}: {cause}")]
    Away {
        /// Where it was looked for; without a password.
        address: String,
        /// What the system says.
        cause: String,
    },
    /// The connection broke, or no answer came in time: whether the command was executed is not known.
    #[error("Redis didn't answer: {0}")]
    Lost(String),
    /// Redis answered that it won't: wrong credentials, no such database, a command it doesn't know, a failed script.
    #[error("Redis refused: {0}")]
    Refused(String),
}

impl RedisError {
    fn of(error: &::redis::RedisError) -> Self {
        // One that reads its data back in after a start refuses for a moment only.
        let loading = error.kind() == ErrorKind::Server(ServerErrorKind::BusyLoading);
        if error.is_io_error() || loading {
            Self::Lost(error.to_string())
        } else {
            Self::Refused(error.to_string())
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
