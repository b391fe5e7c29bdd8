//! `cargo xtask demo-plugins`: puts two of the examples into the program, for `tunnel demo`.
//!
//! They are kept in the repository compiled, so that the demo runs where nothing compiles WebAssembly.

use std::fs;

use anyhow::{Context, Result};

use crate::guests;

const EMBEDDED: &str = "host/src/demo/plugins";
const PLUGINS: [&str; 2] = ["basic-auth", "rewrite"];

/// Builds them and copies them.
///
/// # Errors
/// They don't build, or can't be written.
pub(crate) fn run() -> Result<()> {
    guests::run()?;
    for name in PLUGINS {
        let (from, to) = (format!("{}/{name}.wasm", guests::FINISHED), format!("{EMBEDDED}/{name}.wasm"));
        fs::copy(&from, &to).with_context(|| format!("can't copy {from} to {to}"))?;
        println!("xtask: {to}");
    }
    Ok(())
}
