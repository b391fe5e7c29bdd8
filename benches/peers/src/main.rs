//! What an exchange costs here and with other programs, in one run and in front of one origin.
//!
//! Owns the order of measurements: every cell is measured with one system after the other, in several rounds, so that
//! whatever else the machine does meets all of them alike. Figures of different runs say little about each other; ratios
//! within a round do.

mod account;
mod cell;
mod load;
mod machine;
mod measured;
mod origin;
mod plot;
mod report;
mod system;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use cell::{Cell, Needs};
use measured::Sample;
use report::Report;
use system::{Paths, System};

#[derive(Parser)]
#[command(about = "What an exchange costs here and with other programs")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, and write JSON, a table and plots.
    Run(Run),
    /// Be the origin; prints its address.
    #[command(hide = true)]
    Origin,
}

#[derive(Args)]
struct Run {
    /// The program under test.
    #[arg(long)]
    tunnel: PathBuf,
    /// The folder of peers that were installed from source.
    #[arg(long)]
    peers: PathBuf,
    /// The folder of compiled plugins.
    #[arg(long)]
    guests: PathBuf,
    /// Where to write.
    #[arg(long, default_value = "docs/benchmarks")]
    out: PathBuf,
    /// How often each cell is measured with each system.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each measurement lasts, in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Only cells whose name contains one of these; may be given again.
    #[arg(long = "cell", value_name = "PART")]
    cells: Vec<String>,
    /// Only systems whose name contains one of these; may be given again.
    #[arg(long = "system", value_name = "PART")]
    systems: Vec<String>,
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("threads")?;
    match Cli::parse().command {
        Command::Run(run) => runtime.block_on(measure(run)),
        Command::Origin => runtime.block_on(origin::serve()),
    }
}

async fn measure(run: Run) -> Result<()> {
    let chosen =
        |name: &str, of: &[String]| of.is_empty() || of.iter().any(|part| name.contains(part.as_str()));
    let cells: Vec<&Cell> = cell::ALL.iter().filter(|cell| chosen(cell.name, &run.cells)).collect();
    if cells.is_empty() || run.rounds == 0 {
        bail!("there is nothing to measure: no cell has such a name, or there are no rounds");
    }
    let origin = origin::Process::start().await?;
    let paths = Paths { tunnel: run.tunnel, peers: run.peers, guests: run.guests };
    let mut report = Report::new(run.rounds, run.seconds);
    let mut systems = Vec::new();
    for kind in system::ALL.iter().filter(|kind| chosen(kind.name, &run.systems)) {
        match System::start(kind, &paths, origin.address).await {
            Ok(system) => {
                report.system(&system);
                systems.push(system);
            }
            Err(why) => {
                eprintln!("{}: left out: {why:#}", kind.name);
                report.left_out(kind.name, format!("{why:#}"));
            }
        }
    }
    for round in 0..run.rounds {
        for cell in &cells {
            for system in systems.iter().filter(|system| fits(cell, system)) {
                eprint!("round {}: {}: {} … ", round + 1, cell.name, system.kind.name);
                match measured(cell, system, Duration::from_secs(run.seconds)).await {
                    Ok(sample) => {
                        eprintln!("{}", sample.in_short());
                        report.add(cell, system, round, sample);
                    }
                    Err(why) => {
                        eprintln!("failed: {why:#}");
                        report.failed(cell, system, round, format!("{why:#}"));
                    }
                }
            }
        }
    }
    report.write(&run.out)?;
    println!("{}", report.table());
    Ok(())
}

/// Whether a system takes part in a cell: each of ours is made for some.
fn fits(cell: &Cell, system: &System) -> bool {
    match cell.needs {
        Needs::Http => system.kind.plain,
        Needs::Variants => !system.kind.plain || system.kind.reference,
    }
}

async fn measured(cell: &Cell, system: &System, lasting: Duration) -> Result<Sample> {
    let door = load::Door { address: system.door, host: system.host.clone() };
    let accounts = system.accounts()?;
    accounts.forget_peaks();
    let idle = accounts.resident()?;
    let load = load::run(&door, cell, lasting, || accounts.cpu()).await?;
    let peak = accounts.peaks()?;
    Ok(Sample::new(load, idle, peak))
}
