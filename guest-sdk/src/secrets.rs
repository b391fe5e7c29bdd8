//! Secrets that the operator lends by name: `grant = { secrets = ["jwt-key"] }`.

use crate::{Fault, Result, host::secrets};

/// The secret of this name, if it is granted and has a value.
#[must_use]
pub fn get(name: &str) -> Option<Vec<u8>> {
    secrets::get(name)
}

/// The secret of this name, which must be text.
///
/// # Errors
/// It isn't there; the fault says what to write into the policy file.
pub fn text(name: &str) -> Result<String> {
    let missing = || {
        format!("no secret {name:?}: grant it with grant = {{ secrets = [{name:?}] }} and give it a value")
    };
    let bytes = get(name).ok_or_else(|| Fault::new(missing()))?;
    String::from_utf8(bytes).map_err(|_| Fault::new(format!("the secret {name:?} is no text")))
}
