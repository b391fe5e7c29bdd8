//! What an exchange costs here and with other programs, in one run and in front of one origin.
//!
//! Owns the order of measurements: every cell is measured with one system after the other, in several rounds, so that
//! whatever else the machine does meets all of them alike. Figures of different runs say little about each other; ratios
//! within a round do.

mod account;
mod applicant;
mod back;
mod cell;
mod goals;
mod load;
mod machine;
mod measured;
mod origin;
mod plot;
mod report;
mod sessions;
mod system;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use cell::{Cell, Needs};
use measured::Sample;
use report::Report;
use system::{Family, Kind, Paths, System};

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
    /// How many idle tunnels a proxy has whose memory is looked at.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    idle: usize,
    /// Only cells whose name contains one of these ("back", "idle" and "new session" are cells too); may be given again.
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

/// Cells that are no loads.
const BACK: &str = "back";
const IDLE: &str = "idle";
const NEW_SESSION: &str = "new session";

async fn measure(run: Run) -> Result<()> {
    let cells: Vec<&Cell> = cell::ALL.iter().filter(|cell| chosen(cell.name, &run.cells)).collect();
    let others = [BACK, IDLE, NEW_SESSION].iter().any(|name| chosen(name, &run.cells));
    if (cells.is_empty() && !others) || run.rounds == 0 {
        bail!("there is nothing to measure: no cell has such a name, or there are no rounds");
    }
    let origin = origin::Process::start().await?;
    let mut bench = Bench {
        report: Report::new(run.rounds, run.seconds),
        paths: Paths { tunnel: run.tunnel.clone(), peers: run.peers.clone(), guests: run.guests.clone() },
        systems: Vec::new(),
        origin: origin.address,
        run,
    };
    bench.start(&cells).await;
    for round in 0..bench.run.rounds {
        for cell in &cells {
            bench.load(round, cell).await;
        }
        if chosen(BACK, &bench.run.cells) {
            bench.back(round).await;
        }
        bench.sessions(round).await;
    }
    bench.report.judge();
    bench.report.write(&bench.run.out)?;
    println!("{}", bench.report.tables());
    Ok(())
}

fn chosen(name: &str, of: &[String]) -> bool {
    of.is_empty() || of.iter().any(|part| name.contains(part.as_str()))
}

/// A run: the systems, and what came of them so far.
struct Bench {
    run: Run,
    paths: Paths,
    origin: SocketAddr,
    systems: Vec<System>,
    report: Report,
}

impl Bench {
    /// Starts what is wanted and takes part in something that is.
    async fn start(&mut self, cells: &[&Cell]) {
        let back = chosen(BACK, &self.run.cells);
        let takes_part =
            |kind: &Kind| cells.iter().any(|cell| fits(cell, kind)) || (back && comes_back(kind));
        let wanted = |kind: &&Kind| chosen(kind.name, &self.run.systems) && takes_part(kind);
        for kind in system::ALL.iter().filter(wanted) {
            match System::start(kind, &self.paths, self.origin).await {
                Ok(system) => {
                    self.report.system(&system);
                    self.systems.push(system);
                }
                Err(why) => {
                    eprintln!("{}: left out: {why:#}", kind.name);
                    self.report.left_out(kind.name, format!("{why:#}"));
                }
            }
        }
    }

    /// One cell with each system that takes part in it.
    async fn load(&mut self, round: usize, cell: &Cell) {
        let lasting = Duration::from_secs(self.run.seconds);
        for system in self.systems.iter_mut().filter(|system| fits(cell, system.kind)) {
            eprint!("round {}: {}: {} … ", round + 1, cell.name, system.kind.name);
            let measured = async {
                if cell.work.is_bulk() {
                    // Memory that earlier loads took and didn't give back would hide what this one takes.
                    system.renew(&self.paths, self.origin).await?;
                }
                measured(cell, system, lasting).await
            };
            match measured.await {
                Ok(sample) => {
                    eprintln!("{}", sample.in_short());
                    self.report.add(cell, system, round, sample);
                }
                Err(why) => {
                    eprintln!("failed: {why:#}");
                    self.report.failed(cell.name, system.kind.name, round, &why);
                }
            }
        }
    }

    /// How soon each tunnel is back; what didn't survive that is made anew.
    async fn back(&mut self, round: usize) {
        for system in self.systems.iter_mut().filter(|system| comes_back(system.kind)) {
            eprint!("round {}: {BACK}: {} … ", round + 1, system.kind.name);
            match back::measure(system).await {
                Ok(seconds) => {
                    eprintln!("{seconds:?}");
                    self.report.returned(system.kind.name, seconds);
                }
                Err(why) => {
                    eprintln!("failed: {why:#}");
                    self.report.failed(BACK, system.kind.name, round, &why);
                }
            }
            if let Err(why) = system.renew(&self.paths, self.origin).await {
                self.report.failed("anew", system.kind.name, round, &why);
            }
        }
    }

    /// What sessions cost a proxy of ours.
    async fn sessions(&mut self, round: usize) {
        let ours = "tunnel";
        if !chosen(ours, &self.run.systems) {
            return;
        }
        if chosen(NEW_SESSION, &self.run.cells) {
            match sessions::registration(&self.paths).await {
                Ok(times) => {
                    eprintln!("round {}: {NEW_SESSION}: {:.2} ms", round + 1, times.median_ms);
                    self.report.registering(times);
                }
                Err(why) => self.report.failed(NEW_SESSION, ours, round, &why),
            }
        }
        if chosen(IDLE, &self.run.cells) {
            match sessions::idle(&self.paths, self.run.idle).await {
                Ok(idle) => {
                    eprintln!("round {}: {IDLE}: {} bytes for each tunnel", round + 1, idle.each());
                    self.report.idle(idle);
                }
                Err(why) => self.report.failed(IDLE, ours, round, &why),
            }
        }
    }
}

/// Whether a system takes part in a cell: each of ours is made for some.
fn fits(cell: &Cell, kind: &Kind) -> bool {
    match cell.needs {
        Needs::Http => kind.plain,
        Needs::Variants => !kind.plain || kind.reference,
    }
}

/// Whether a system has two ends, one of which can be away.
fn comes_back(kind: &Kind) -> bool {
    kind.plain && matches!(kind.family, Family::Tunnel | Family::Ours)
}

async fn measured(cell: &Cell, system: &System, lasting: Duration) -> Result<Sample> {
    let door = system.visitors_door();
    let accounts = system.accounts()?;
    accounts.forget_peaks();
    let idle = accounts.resident()?;
    let load = load::run(&door, cell, lasting, || accounts.cpu()).await?;
    let peak = accounts.peaks()?;
    Ok(Sample::new(load, idle, peak))
}
