//! What was measured, as JSON for programs, and as tables and plots for people.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    back::{self, Returned},
    cell::Cell,
    goals::{self, Figures, Goal},
    machine::Machine,
    measured::{Measured, Sample, figure, median, mib},
    plot::{self, Group},
    sessions::{Idle, Registering},
    system::{self, Kind, System},
};

/// All of a run.
#[derive(Serialize)]
pub(crate) struct Report {
    machine: Machine,
    rounds: usize,
    seconds: u64,
    systems: Vec<Described>,
    left_out: Vec<(String, String)>,
    failures: Vec<String>,
    goals: Vec<Goal>,
    /// Cells in the order in which they were measured.
    cells: Vec<Measured>,
    back: Vec<Returned>,
    idle: Vec<Idle>,
    registering: Vec<Registering>,
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
            goals: Vec::new(),
            cells: Vec::new(),
            back: Vec::new(),
            idle: Vec::new(),
            registering: Vec::new(),
        }
    }

    pub(crate) fn system(&mut self, system: &System) {
        self.systems.push(Described { name: system.kind.name.to_owned(), version: system.version.clone() });
    }

    pub(crate) fn left_out(&mut self, name: &str, why: String) {
        self.left_out.push((name.to_owned(), why));
    }

    pub(crate) fn failed(&mut self, what: &str, system: &str, round: usize, why: &anyhow::Error) {
        self.failures.push(format!("{what}, {system}, round {}: {why:#}", round + 1));
    }

    pub(crate) fn add(&mut self, cell: &Cell, system: &System, round: usize, sample: Sample) {
        let at = self.cells.iter().position(|measured| measured.cell == cell.name).unwrap_or_else(|| {
            self.cells.push(Measured::of(cell.name));
            self.cells.len() - 1
        });
        self.cells[at].add(system.kind.name, system.kind.family, round, sample);
    }

    pub(crate) fn returned(&mut self, name: &str, seconds: Option<f64>) {
        match self.back.iter_mut().find(|returned| returned.system == name) {
            Some(returned) => returned.seconds.push(seconds),
            None => self.back.push(Returned { system: name.to_owned(), seconds: vec![seconds] }),
        }
    }

    pub(crate) fn idle(&mut self, idle: Idle) {
        self.idle.push(idle);
    }

    pub(crate) fn registering(&mut self, times: Registering) {
        self.registering.push(times);
    }

    /// Holds what was measured against the goals; once, at the end.
    pub(crate) fn judge(&mut self) {
        self.goals = goals::all(&Figures {
            cells: &self.cells,
            back: &self.back,
            idle: &self.idle,
            registering: &self.registering,
        });
    }

    /// Writes everything into a folder: `results.json`, `results.md` and the plots that it shows.
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
        let mut document = self.tables();
        let names: Vec<&str> = self.draw(folder)?;
        if !names.is_empty() {
            document.push_str("\n## Plots\n\nAxes are logarithmic.\n");
        }
        for name in names {
            write!(document, "\n![{name}]({name}.svg)\n").expect("a String takes all that is written");
        }
        write("results.md", document)
    }

    /// A document with a table for each cell.
    pub(crate) fn tables(&self) -> String {
        let mut out = String::new();
        self.write_tables(&mut out).expect("a String takes all that is written");
        out
    }

    fn write_tables(&self, out: &mut String) -> std::fmt::Result {
        self.head(out)?;
        goals::table(&self.goals, out)?;
        for measured in &self.cells {
            measured.table(out)?;
        }
        self.back_table(out)?;
        self.sessions_table(out)
    }

    fn head(&self, out: &mut String) -> std::fmt::Result {
        let Machine { processor, cores, memory_mib, kernel, revision, measured_on } = &self.machine;
        writeln!(out, "# Results\n")?;
        writeln!(
            out,
            "Written by `cargo xtask bench`; do not edit. What the figures mean is in [README.md](README.md). {cores} cores of \
             {processor}, {memory_mib} MiB, Linux {kernel}; revision {revision}, {measured_on}. {} rounds of {} s, interleaved; medians.\n",
            self.rounds, self.seconds
        )?;
        writeln!(out, "## Programs\n")?;
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

    fn back_table(&self, out: &mut String) -> std::fmt::Result {
        if self.back.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n## Back after the public end was away for 3 s\n")?;
        writeln!(out, "| | seconds until a visitor is served | in each round |\n|---|--:|---|")?;
        let shown = |seconds: Option<f64>| match seconds {
            Some(seconds) => format!("{seconds:.2}"),
            None => format!("not within {} s", back::PATIENCE.as_secs()),
        };
        for returned in &self.back {
            let rounds: Vec<_> = returned.seconds.iter().map(|seconds| shown(*seconds)).collect();
            writeln!(out, "| {} | {} | {} |", returned.system, shown(returned.median()), rounds.join(", "))?;
        }
        Ok(())
    }

    fn sessions_table(&self, out: &mut String) -> std::fmt::Result {
        let middle = |figures: Vec<f64>| median(figures).unwrap_or(0.0);
        let idle = |of: fn(&Idle) -> f64| middle(self.idle.iter().map(of).collect());
        let times = |of: fn(&Registering) -> f64| middle(self.registering.iter().map(of).collect());
        if let Some(Idle { tunnels, .. }) = self.idle.first() {
            writeln!(out, "\n## Idle tunnels at a proxy of ours\n")?;
            writeln!(out, "| tunnels | MiB without | MiB with them | bytes of each |\n|--:|--:|--:|--:|")?;
            let (before, after) = (idle(|idle| mib(idle.before)), idle(|idle| mib(idle.after)));
            let each = idle(|idle| idle.each() as f64);
            writeln!(out, "| {tunnels} | {} | {} | {each:.0} |", figure(before), figure(after))?;
        }
        if !self.registering.is_empty() {
            writeln!(out, "\n## A new session at a proxy of ours\n")?;
            writeln!(out, "| median ms | p99 ms |\n|--:|--:|")?;
            let (median, p99) = (times(|times| times.median_ms), times(|times| times.p99_ms));
            writeln!(out, "| {median:.2} | {p99:.2} |")?;
        }
        Ok(())
    }

    /// The names of the plots for which there was something to draw.
    fn draw(&self, folder: &Path) -> Result<Vec<&'static str>> {
        let peers: &dyn Fn(&Kind) -> bool = &|kind| kind.plain;
        let variants: &dyn Fn(&Kind) -> bool = &|kind| !kind.plain || kind.reference;
        let load: &dyn Fn(&str) -> bool = &|cell| !is_variant(cell) && !is_bulk(cell);
        let of_cells = |wanted: &dyn Fn(&str) -> bool, of: fn(&Sample) -> f64| {
            let cells = self.cells.iter().filter(|measured| wanted(&measured.cell));
            cells.map(|measured| group(measured, of)).collect::<Vec<_>>()
        };
        let cpu: fn(&Sample) -> f64 = |sample| sample.cpu_us;
        let rise = |sample: &Sample| sample.rise.values().copied().max().map_or(0.0, mib);
        let plots = [
            ("cpu", "CPU time of one exchange, all processes (us)", peers, of_cells(load, cpu)),
            ("p99", "99th percentile of latency (us)", peers, of_cells(load, |sample| sample.p99_us as f64)),
            ("throughput", "Exchanges a second", peers, of_cells(load, |sample| sample.per_second)),
            (
                "memory",
                "Memory more than idle for 1 GiB, in the part that takes most (MiB)",
                peers,
                of_cells(&is_bulk, rise),
            ),
            (
                "variants",
                "CPU time of one exchange with plugins and buses (us)",
                variants,
                of_cells(&is_variant, cpu),
            ),
            (
                "back",
                "Seconds until a visitor is served again; without a bar: never",
                peers,
                self.back_group(),
            ),
        ];
        let mut drawn = Vec::new();
        for (name, title, of, groups) in plots {
            let systems: Vec<&str> =
                system::ALL.iter().filter(|kind| of(kind)).map(|kind| kind.name).collect();
            if plot::bars(&folder.join(format!("{name}.svg")), title, &systems, &groups)? {
                drawn.push(name);
            }
        }
        Ok(drawn)
    }

    fn back_group(&self) -> Vec<Group> {
        let bars =
            self.back.iter().filter_map(|returned| Some((returned.system.clone(), returned.median()?)));
        vec![Group { label: String::new(), bars: bars.collect() }]
    }
}

fn is_variant(cell: &str) -> bool {
    cell.starts_with("variants")
}

fn is_bulk(cell: &str) -> bool {
    cell.contains("GiB")
}

fn group(measured: &Measured, of: fn(&Sample) -> f64) -> Group {
    let label = measured.cell.trim_start_matches("variants: ").replace(" connection", " conn");
    let bars = measured.systems.iter().filter_map(|row| Some((row.system.clone(), of(row.median()?))));
    Group { label, bars: bars.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_come_back_is_in_the_table_and_has_no_bar() {
        let mut report = Report::new(3, 1);
        for (rathole, bore) in [(0.51, None), (0.49, None), (0.5, Some(14.0))] {
            report.returned("rathole", Some(rathole));
            report.returned("bore", bore);
        }
        let tables = report.tables();
        for line in [
            "| rathole | 0.50 | 0.51, 0.49, 0.50 |",
            "| bore | not within 15 s | not within 15 s, not within 15 s, 14.00 |",
        ] {
            assert!(tables.contains(line), "{tables}");
        }
        assert_eq!(report.back_group()[0].bars, [("rathole".to_owned(), 0.5)]);
    }

    #[test]
    fn a_document_shows_the_plots_that_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::new(1, 1);
        report.returned("bore", None);
        report.write(folder.path()).unwrap();
        let document = || fs::read_to_string(folder.path().join("results.md")).unwrap();
        assert!(!document().contains(".svg"), "{}", document());
        report.returned("tunnel", Some(0.1));
        report.write(folder.path()).unwrap();
        assert!(document().contains("![back](back.svg)"), "{}", document());
        let drawn = fs::read_to_string(folder.path().join("back.svg")).unwrap();
        assert!(drawn.contains("tunnel") && !drawn.contains("bore"), "{drawn}");
    }
}
