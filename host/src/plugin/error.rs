//! Why a file isn't a plugin that can run here, and why a call of one failed.

use std::time::Duration;

use crate::exchange::{ErrorKind, ForwardError};

/// Why a plugin can't be loaded, in a sentence for whoever named the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The bytes aren't WebAssembly at all.
    #[error("it is no WebAssembly: {0}")]
    NotWasm(String),
    /// WebAssembly, but not of a kind that can be a plugin.
    #[error("{0}")]
    NotAPlugin(String),
    /// It needs what it isn't granted, or what nobody lends.
    #[error("{0}")]
    Import(String),
    /// It can't be compiled or linked.
    #[error("it doesn't compile: {0}")]
    Compile(String),
    /// Its `init` refused the configuration or failed.
    #[error("{0}")]
    Init(String),
}

/// Why a call of a hook failed. The text is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HookError {
    #[error("it trapped: {0}")]
    Trap(String),
    #[error("it ran for longer than {0:?} (limits.time)")]
    Time(Duration),
    #[error("it took longer than {0:?}, waiting included (limits.wait)")]
    Wait(Duration),
    #[error("it wanted more than {0} bytes of memory (limits.memory)")]
    Memory(usize),
    #[error("it returned a fault: {0}")]
    Fault(String),
    #[error("it gave back what isn't allowed: {0}")]
    Verdict(String),
    #[error("{0}")]
    Answer(&'static str),
    #[error("its init failed in a new instance: {0}")]
    Init(String),
    #[error("{0}")]
    Grant(String),
    #[error("all {0} instances are busy, and as many calls wait as may (limits.instances, limits.queue)")]
    Busy(usize),
    #[error("it failed too often in a row and isn't asked for a while")]
    Paused,
}

impl HookError {
    /// Whether it says that the plugin is broken; a full pool only says that there is much to do.
    pub(super) fn counts(&self) -> bool {
        !matches!(self, Self::Busy(_) | Self::Paused)
    }

    /// The failed exchange. Its public sentence names the plugin and no more: the guest's words may tell too much.
    pub(super) fn into_forward_error(self, plugin: &str) -> ForwardError {
        match self {
            Self::Busy(_) => {
                ForwardError::new(ErrorKind::PluginBusy, format!("the plugin {plugin} has too much to do"))
            }
            _ => ForwardError::new(ErrorKind::PluginFailed, format!("the plugin {plugin} failed")),
        }
        .because(self)
    }
}
