//! The project's own commands, run as `cargo xtask COMMAND`.
//!
//! Owns what "everything is checked" means and in which order. Knows nothing of the program itself.

mod bench;
mod debian;
mod demo;
mod deny;
mod fuzz;
mod guests;
mod services;
mod step;
mod test;
mod wasm;

use std::{env, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};

const HELP: &str = "\
Usage: cargo xtask COMMAND

  test [-- ARGS]                 format, lints, docs, dependencies, build, plugins, all tests; ARGS go to cargo test
  guests                         build the plugins of examples/ and tests/guests/ to target/guests/
  demo-plugins                   build the plugins of `tunnel demo` anew, into host/src/demo/plugins/
  audit                          known vulnerabilities in dependencies (needs the network)
  bench [-- ARGS]                measure beside nginx, haproxy and other tunnels, into docs/benchmarks/ (its README says what)
  fuzz [TARGET] [--seconds N]    fuzz one target, or each in turn, N seconds each (by default 60)
";

fn main() -> ExitCode {
    match run(&env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    // All commands and paths start at the workspace's root, wherever the user stands.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
    env::set_current_dir(root)?;

    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["test"] => test::run(&[]),
        ["test", "--", rest @ ..] => test::run(rest),
        ["guests"] => guests::run(),
        ["demo-plugins"] => demo::run(),
        ["audit"] => deny::audit(),
        ["bench"] => bench::run(&[]),
        ["bench", "--", rest @ ..] => bench::run(rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        [] | ["help" | "-h" | "--help", ..] => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("no such command: {}\n\n{HELP}", words.join(" ")),
    }
}
