//! What a cell's load came to with each system, in each round.

use std::{collections::BTreeMap, fmt::Write};

use serde::Serialize;

use crate::{account::Parts, load::Load, system::Family};

/// One measurement of one cell with one system.
#[derive(Clone, Serialize)]
pub(crate) struct Sample {
    pub(crate) per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    /// CPU time of one exchange, in microseconds: all processes of the system.
    pub(crate) cpu_us: f64,
    /// The same by part.
    cpu_us_of: BTreeMap<String, f64>,
    /// The most memory during the cell, in bytes, by part.
    peak: Parts,
    /// How far that is above what it was before, in bytes, by part.
    pub(crate) rise: Parts,
}

impl Sample {
    pub(crate) fn new(load: Load, idle: Parts, peak: Parts) -> Self {
        let exchanges = load.exchanges as f64;
        let rise = peak.iter().map(|(part, most)| {
            let before = idle.get(part).copied().unwrap_or(0);
            (part.clone(), most.saturating_sub(before))
        });
        let rise = rise.collect();
        let cpu_us_of: BTreeMap<_, _> =
            load.cpu.into_iter().map(|(part, used)| (part, used as f64 / exchanges)).collect();
        Self {
            per_second: exchanges / load.lasted.as_secs_f64(),
            p50_us: load.latency.value_at_quantile(0.5),
            p99_us: load.latency.value_at_quantile(0.99),
            // A sum of nothing is minus zero.
            cpu_us: cpu_us_of.values().sum::<f64>() + 0.0,
            cpu_us_of,
            peak,
            rise,
        }
    }

    /// One of these figures, and nothing else.
    #[cfg(test)]
    pub(crate) fn of_figures(cpu_us: f64, p99_us: u64, per_second: f64) -> Self {
        Self {
            per_second,
            p50_us: p99_us / 2,
            p99_us,
            cpu_us,
            cpu_us_of: BTreeMap::new(),
            peak: Parts::new(),
            rise: Parts::new(),
        }
    }

    pub(crate) fn in_short(&self) -> String {
        format!("{}/s, CPU {} us, p99 {} us", figure(self.per_second), figure(self.cpu_us), self.p99_us)
    }

    fn most(&self) -> u64 {
        self.peak.values().sum()
    }
}

#[derive(Serialize)]
pub(crate) struct Measured {
    pub(crate) cell: String,
    pub(crate) systems: Vec<Row>,
}

#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) system: String,
    #[serde(skip)]
    pub(crate) family: Family,
    /// By round.
    pub(crate) rounds: BTreeMap<usize, Sample>,
    /// The median of the rounds, each figure for itself.
    median: Option<Sample>,
    /// CPU time of an exchange by that of nginx in the same round, the median of the rounds.
    cpu_to_nginx: Option<f64>,
    /// The same by the best tunnel of others.
    cpu_to_best_tunnel: Option<f64>,
}

impl Row {
    fn of(system: &str, family: Family) -> Self {
        Self {
            system: system.to_owned(),
            family,
            rounds: BTreeMap::new(),
            median: None,
            cpu_to_nginx: None,
            cpu_to_best_tunnel: None,
        }
    }

    pub(crate) fn median(&self) -> Option<&Sample> {
        self.median.as_ref()
    }
}

/// What the CPU time of one round is compared with.
struct Bases {
    nginx: Option<f64>,
    /// The best tunnel of others.
    tunnel: Option<f64>,
}

impl Measured {
    pub(crate) fn of(cell: &str) -> Self {
        Self { cell: cell.to_owned(), systems: Vec::new() }
    }

    pub(crate) fn row(&self, system: &str) -> Option<&Row> {
        self.systems.iter().find(|row| row.system == system)
    }

    pub(crate) fn add(&mut self, system: &str, family: Family, round: usize, sample: Sample) {
        let at = self.systems.iter().position(|row| row.system == system).unwrap_or_else(|| {
            self.systems.push(Row::of(system, family));
            self.systems.len() - 1
        });
        self.systems[at].rounds.insert(round, sample);
        self.sum_up();
    }

    fn sum_up(&mut self) {
        let cpu = |row: &Row, round| row.rounds.get(&round).map(|sample: &Sample| sample.cpu_us);
        let rounds: Vec<usize> = self.systems.iter().flat_map(|row| row.rounds.keys().copied()).collect();
        let of = |wanted: &dyn Fn(&Row) -> bool, round| {
            let candidates = self.systems.iter().filter(|row| wanted(row)).filter_map(|row| cpu(row, round));
            candidates.min_by(f64::total_cmp)
        };
        let bases: BTreeMap<usize, Bases> = rounds
            .into_iter()
            .map(|round| {
                let nginx = of(&|row| row.system == "nginx", round);
                (round, Bases { nginx, tunnel: of(&|row| row.family == Family::Tunnel, round) })
            })
            .collect();
        for row in &mut self.systems {
            row.median = middle(&row.rounds.values().cloned().collect::<Vec<_>>());
            if row.family == Family::Direct {
                continue;
            }
            let ratio = |pick: fn(&Bases) -> Option<f64>| {
                let ratios = row.rounds.iter().filter_map(|(round, sample)| {
                    pick(bases.get(round)?).filter(|base| *base > 0.0).map(|base| sample.cpu_us / base)
                });
                median(ratios.collect())
            };
            row.cpu_to_nginx = ratio(|bases| bases.nginx);
            row.cpu_to_best_tunnel = ratio(|bases| bases.tunnel);
        }
    }

    pub(crate) fn table(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\n## {}\n", self.cell)?;
        writeln!(
            out,
            "| | per s | p50 us | p99 us | CPU us | of it | to nginx | to best tunnel | memory MiB | rise of it, MiB |"
        )?;
        writeln!(out, "|---|--:|--:|--:|--:|---|--:|--:|--:|---|")?;
        for row in &self.systems {
            let Some(median) = &row.median else { continue };
            let parts: Vec<_> =
                median.cpu_us_of.iter().map(|(part, used)| format!("{part} {}", figure(*used))).collect();
            let rises: Vec<_> =
                median.rise.iter().map(|(part, rise)| format!("{part} {}", figure(mib(*rise)))).collect();
            let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                row.system,
                figure(median.per_second),
                median.p50_us,
                median.p99_us,
                figure(median.cpu_us),
                parts.join(", "),
                ratio(row.cpu_to_nginx),
                ratio(row.cpu_to_best_tunnel),
                median.most() >> 20,
                rises.join(", "),
            )?;
        }
        Ok(())
    }
}

/// The median of each figure.
fn middle(samples: &[Sample]) -> Option<Sample> {
    let first = samples.first()?;
    let of = |figure: &dyn Fn(&Sample) -> f64| median(samples.iter().map(figure).collect()).unwrap_or(0.0);
    let parts = first.cpu_us_of.keys();
    let part = |part: &String| of(&|sample| sample.cpu_us_of.get(part).copied().unwrap_or(0.0));
    let memory = |of_sample: &dyn Fn(&Sample) -> Parts| {
        let parts = of_sample(first);
        let figure =
            |part: &str| of(&|sample| of_sample(sample).get(part).copied().unwrap_or(0) as f64) as u64;
        parts.keys().map(|part| (part.clone(), figure(part))).collect::<Parts>()
    };
    Some(Sample {
        per_second: of(&|sample| sample.per_second),
        p50_us: of(&|sample| sample.p50_us as f64) as u64,
        p99_us: of(&|sample| sample.p99_us as f64) as u64,
        cpu_us: of(&|sample| sample.cpu_us),
        cpu_us_of: parts.map(|name| (name.clone(), part(name))).collect(),
        peak: memory(&|sample| sample.peak.clone()),
        rise: memory(&|sample| sample.rise.clone()),
    })
}

pub(crate) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

/// With as many digits as mean something.
pub(crate) fn figure(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        _ if value < 10.0 => format!("{value:.2}"),
        _ if value < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_rises_above_what_was_there_before() {
        let parts = |proxy, client| Parts::from([("proxy".to_owned(), proxy), ("client".to_owned(), client)]);
        let mut latency = hdrhistogram::Histogram::new(3).unwrap();
        latency.record(7).unwrap();
        let load =
            Load { exchanges: 1, lasted: std::time::Duration::from_secs(1), latency, cpu: parts(3, 4) };
        let sample = Sample::new(load, parts(100, 200), parts(150, 190));
        assert_eq!(sample.rise, parts(50, 0));
        assert!((sample.cpu_us - 7.0).abs() < 1e-9);
    }
}
