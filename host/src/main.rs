//! The program `tunnel`: parse, run, exit code.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use tunnel::settings::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let result = runtime.block_on(settings::run(cli)).map_err(|failure| failure.to_string());
            // A look-up of a name can't be interrupted; it must not hold up the exit.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(format!("no threads can be started: {error}")),
    };
    let Err(why) = result else { return ExitCode::SUCCESS };
    // Nobody may be there to read it; the exit code says it too.
    let _ = writeln!(io::stderr(), "error: {why}");
    ExitCode::FAILURE
}
