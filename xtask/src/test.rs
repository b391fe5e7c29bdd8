//! `cargo xtask test`: all that must hold before a change goes in, cheapest first.

use std::time::Instant;

use anyhow::Result;

use crate::{
    deny, guests,
    services::{self, Redis},
    step::Step,
};

/// Runs everything and stops at the first failure. `extra` goes to `cargo test`.
pub(crate) fn run(extra: &[&str]) -> Result<()> {
    let start = Instant::now();
    Step::cargo("fmt --all --check").run()?;
    Step::cargo("clippy --workspace --all-targets --locked -- -D warnings").run()?;
    Step::cargo("doc --workspace --no-deps --locked").with("RUSTDOCFLAGS", "-D warnings").run()?;
    deny::check()?;
    // Built once and first, so that a broken build is told apart from a broken test.
    Step::cargo("build --workspace --bins --locked").run()?;
    // Tests load them.
    guests::run()?;
    let programs = services::find()?;
    let redis = Redis::start(&programs)?;
    let test = Step::cargo("test --workspace --locked").arguments(extra);
    let test = test.with("TUNNEL_TEST_REDIS", &redis.url());
    test.with("TUNNEL_TEST_PYTHON", &programs.python.to_string_lossy()).run()?;
    println!("xtask: everything holds, after {:.0} s", start.elapsed().as_secs_f32());
    Ok(())
}
