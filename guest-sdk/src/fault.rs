//! The one error of a plugin.
//!
//! Owns how a failure becomes the text that the operator reads.

use std::fmt;

/// What the functions of a plugin return.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// The plugin can't do its work, in words for the operator. The visitor never sees them.
///
/// From [`Plugin::new`](crate::Plugin::new) it keeps the plugin from being loaded; from a hook, the policy's `on_failure`
/// decides what becomes of the exchange. To refuse a visitor is not a fault: that is a [`Respond`](crate::Respond).
///
/// Every error converts into it, so that `?` works.
#[derive(Clone, PartialEq, Eq)]
pub struct Fault(String);

impl Fault {
    /// Says what was wrong and, if anybody can do something about it, what.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// The words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0
    }
}

// Fault itself is no `Error`: it would convert from itself twice.
impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Self(message)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({:?})", self.0)
    }
}
