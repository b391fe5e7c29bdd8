//! The program `tunnel`: parse, run, exit code.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use tunnel::settings::{self, Cli};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Err(failure) = settings::run(Cli::parse()) else { return ExitCode::SUCCESS };
    // Nobody may be there to read it; the exit code says it too.
    let _ = writeln!(io::stderr(), "error: {failure}");
    ExitCode::FAILURE
}
