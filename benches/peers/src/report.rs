//! What was measured, as JSON for programs and as a table for people.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    cell::Cell,
    machine::Machine,
    measured::{Measured, Row, Sample},
    plot,
    system::System,
};

#[derive(Serialize)]
pub(crate) struct Report {
    machine: Machine,
    rounds: usize,
    seconds: u64,
    systems: Vec<Described>,
    left_out: Vec<(String, String)>,
    failures: Vec<String>,
    /// Cells in the order in which they were measured.
    cells: Vec<Measured>,
}

#[derive(Serialize)]
struct Described {
    name: String,
    version: String,
}

impl Report {
    pub(crate) fn new(rounds: usize, seconds: u64) -> Self {
        Self {
            machine: Machine::this(),
            rounds,
            seconds,
            systems: Vec::new(),
            left_out: Vec::new(),
            failures: Vec::new(),
            cells: Vec::new(),
        }
    }

    pub(crate) fn system(&mut self, system: &System) {
        self.systems.push(Described { name: system.kind.name.to_owned(), version: system.version.clone() });
    }

    pub(crate) fn left_out(&mut self, name: &str, why: String) {
        self.left_out.push((name.to_owned(), why));
    }

    pub(crate) fn failed(&mut self, cell: &Cell, system: &System, round: usize, why: String) {
        self.failures.push(format!("{}, {}, round {}: {why}", cell.name, system.kind.name, round + 1));
    }

    pub(crate) fn add(&mut self, cell: &Cell, system: &System, round: usize, sample: Sample) {
        let at = self.cells.iter().position(|measured| measured.cell == cell.name).unwrap_or_else(|| {
            self.cells.push(Measured { cell: cell.name.to_owned(), systems: Vec::new() });
            self.cells.len() - 1
        });
        let rows = &mut self.cells[at].systems;
        let at = rows.iter().position(|row| row.system == system.kind.name).unwrap_or_else(|| {
            rows.push(Row {
                system: system.kind.name.to_owned(),
                family: system.kind.family,
                rounds: BTreeMap::new(),
                median: None,
                cpu_to_nginx: None,
                cpu_to_best_tunnel: None,
            });
            rows.len() - 1
        });
        rows[at].rounds.insert(round, sample);
        self.cells.iter_mut().for_each(Measured::sum_up);
    }

    /// Writes everything into a folder.
    ///
    /// # Errors
    /// A file can't be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
        };
        write("results.json", serde_json::to_string_pretty(self)? + "\n")?;
        write("README.md", self.table())?;
        let peers =
            |measured: &&Measured| !measured.cell.starts_with("variants") && !measured.cell.contains("GiB");
        let cells: Vec<&Measured> = self.cells.iter().filter(peers).collect();
        plot::bars(&folder.join("cpu.svg"), "CPU time of one exchange, both ends (us)", &cells, |sample| {
            sample.cpu_us
        })?;
        plot::bars(&folder.join("p99.svg"), "99th percentile of latency (us)", &cells, |sample| {
            sample.p99_us as f64
        })
    }

    /// A document with one table for each cell.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        self.head(&mut out).expect("a String takes all that is written");
        for measured in &self.cells {
            measured.table(&mut out).expect("a String takes all that is written");
        }
        out
    }

    fn head(&self, out: &mut String) -> std::fmt::Result {
        let Machine { processor, cores, memory_mib, kernel, revision, measured_on } = &self.machine;
        writeln!(out, "# Benchmarks\n")?;
        writeln!(
            out,
            "Written by `cargo xtask bench`; do not edit. {cores} cores of {processor}, {memory_mib} MiB, Linux {kernel}; \
             revision {revision}, {measured_on}. Load, origin and what is measured share the machine. {} rounds of {} s, interleaved; \
             medians. CPU is user and system time of all processes of a system for one exchange; absolute figures differ \
             from machine to machine, ratios are within one round.\n",
            self.rounds, self.seconds
        )?;
        writeln!(out, "![CPU](cpu.svg)\n\n![p99](p99.svg)\n\n## Programs\n")?;
        for system in self.systems.iter().filter(|system| !system.version.is_empty()) {
            writeln!(out, "- {}: {}", system.name, system.version)?;
        }
        for (name, why) in &self.left_out {
            writeln!(out, "- {name}: left out, {why}")?;
        }
        for failure in &self.failures {
            writeln!(out, "- failed: {failure}")?;
        }
        Ok(())
    }
}
