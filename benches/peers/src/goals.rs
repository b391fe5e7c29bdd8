//! What ours has to reach, and whether it did in this run.
//!
//! Goals that name a peer are held against that peer in the same rounds, never against figures of another run.

use std::fmt::Write;

use serde::Serialize;

use crate::{
    back::Returned,
    measured::{Measured, Row, Sample, figure, median, mib},
    sessions::{Idle, Registering},
    system::Family,
};

const OURS: &str = "tunnel";

/// Bytes that a body of 1 GiB may add to either end.
const MOST_RISE: u64 = 16 << 20;

/// Seconds until a visitor is served by a proxy that is back.
const MOST_BACK: f64 = 0.5;

/// Bytes of a proxy with so many idle tunnels.
const MOST_IDLE: u64 = 600_000_000;
const IDLE: usize = 10_000;

/// Milliseconds that a registration may take.
const MOST_REGISTERING: f64 = 5.0;

/// How many times the CPU time of an exchange in memory one over Redis may take.
const MOST_OF_REDIS: f64 = 4.0;

/// A goal, and what came of it.
#[derive(Serialize)]
pub(crate) struct Goal {
    what: String,
    ours: String,
    bound: String,
    /// Ours by the bound, the median of the rounds.
    ratio: Option<f64>,
    met: bool,
}

/// All that was measured.
pub(crate) struct Figures<'a> {
    pub(crate) cells: &'a [Measured],
    pub(crate) back: &'a [Returned],
    pub(crate) idle: &'a [Idle],
    pub(crate) registering: &'a [Registering],
}

/// Every goal for which there are figures.
pub(crate) fn all(figures: &Figures<'_>) -> Vec<Goal> {
    let cells = figures.cells.iter().flat_map(of_cell);
    cells
        .chain(back(figures.back))
        .chain(idle(figures.idle))
        .chain(registering(figures.registering))
        .collect()
}

/// As a table in Markdown.
pub(crate) fn table(goals: &[Goal], out: &mut String) -> std::fmt::Result {
    if goals.is_empty() {
        return Ok(());
    }
    let met = goals.iter().filter(|goal| goal.met).count();
    writeln!(out, "\n## Goals\n\n{met} of {} are met.\n", goals.len())?;
    writeln!(out, "| goal | ours | bound | ours by it | |\n|---|--:|--:|--:|---|")?;
    for Goal { what, ours, bound, ratio, met } in goals {
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let word = if *met { "met" } else { "**missed**" };
        writeln!(out, "| {what} | {ours} | {bound} | {ratio} | {word} |")?;
    }
    Ok(())
}

/// What is good of a figure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Good {
    Little,
    Much,
}

/// A figure, what it is called, and what is good of it.
#[derive(Clone, Copy)]
struct Of {
    name: &'static str,
    figure: fn(&Sample) -> f64,
    good: Good,
}

const CPU: Of = Of { name: "CPU us", figure: |sample| sample.cpu_us, good: Good::Little };
const P50: Of = Of { name: "p50 us", figure: |sample| sample.p50_us as f64, good: Good::Little };
const P99: Of = Of { name: "p99 us", figure: |sample| sample.p99_us as f64, good: Good::Little };
const RATE: Of = Of { name: "per s", figure: |sample| sample.per_second, good: Good::Much };

fn of_cell(cell: &Measured) -> Vec<Goal> {
    let tunnel: &dyn Fn(&Row) -> bool = &|row| row.family == Family::Tunnel;
    let rathole: &dyn Fn(&Row) -> bool = &|row| row.system == "rathole";
    let memory: &dyn Fn(&Row) -> bool = &|row| row.system == OURS;
    let against = |of, whose: &dyn Fn(&Row) -> bool| against(cell, OURS, of, whose, 1.0);
    // The tunnel whose throughput is to be reached, if it takes part.
    let wstunnel = cell.row("wstunnel").and_then(Row::median).is_some();
    let fastest: &dyn Fn(&Row) -> bool = if wstunnel { &|row| row.system == "wstunnel" } else { tunnel };
    let goals = match cell.cell.as_str() {
        "small GET, 1 connection" => vec![against(P50, rathole)],
        "small GET, 32 connections" | "small GET, 256 connections" => {
            vec![against(CPU, tunnel), against(P99, tunnel)]
        }
        "10 kB GET, 32 connections" | "400 kB GET, 8 connections" | "400 kB POST, 8 connections" => {
            vec![against(RATE, fastest)]
        }
        "1 GiB GET, 1 connection" | "1 GiB POST, 1 connection" => {
            vec![against(RATE, fastest), rise(cell, "proxy"), rise(cell, "client")]
        }
        "WebSocket echo, 100 connections" => vec![against(CPU, rathole)],
        variants if variants.starts_with("variants: ") => {
            let over = ["tunnel, Redis, session here", "tunnel, Redis, session elsewhere"];
            over.map(|ours| self::against(cell, ours, CPU, memory, MOST_OF_REDIS)).into()
        }
        _ => Vec::new(),
    };
    goals.into_iter().flatten().collect()
}

/// Ours beside the best of some others, as many `times` as which it may take, in the rounds in which both were measured.
fn against(cell: &Measured, ours: &str, of: Of, whose: &dyn Fn(&Row) -> bool, times: f64) -> Option<Goal> {
    let better = |a: &f64, b: &f64| match of.good {
        Good::Little => a.total_cmp(b),
        Good::Much => b.total_cmp(a),
    };
    let row = cell.row(ours)?;
    let others = || cell.systems.iter().filter(|other| whose(other));
    let ratios = row.rounds.iter().filter_map(|(round, sample)| {
        let best = others().filter_map(|other| other.rounds.get(round)).map(of.figure).min_by(better)?;
        (best > 0.0).then(|| (of.figure)(sample) / (best * times))
    });
    let ratio = median(ratios.collect())?;
    let medians = others().filter_map(|other| Some((&other.system, (of.figure)(other.median()?))));
    let (best, bound) = medians.min_by(|a, b| better(&a.1, &b.1))?;
    let (word, met) = match of.good {
        Good::Little => ("at most", ratio <= 1.0),
        Good::Much => ("at least", ratio >= 1.0),
    };
    let whom = if times > 1.0 { format!("{times} times {best}'s") } else { format!("{best}'s") };
    let who = if ours == OURS { String::new() } else { format!(", {}", ours.trim_start_matches("tunnel, ")) };
    Some(Goal {
        what: format!("{}{who}: {} {word} {whom}", cell.cell, of.name),
        ours: figure((of.figure)(row.median()?)),
        bound: figure(bound * times),
        ratio: Some(ratio),
        met,
    })
}

fn rise(cell: &Measured, part: &str) -> Option<Goal> {
    let rise = *cell.row(OURS)?.median()?.rise.get(part)?;
    let what = format!("{}: MiB more than idle at the {part}", cell.cell);
    Some(absolute(what, mib(rise), mib(MOST_RISE), rise < MOST_RISE))
}

fn back(all: &[Returned]) -> Option<Goal> {
    let ours = all.iter().find(|returned| returned.system == OURS)?;
    let what = "seconds until served again by a killed proxy that is back".to_owned();
    Some(match ours.median() {
        Some(seconds) => absolute(what, seconds, MOST_BACK, seconds <= MOST_BACK),
        None => Goal { ours: "never".to_owned(), ratio: None, ..absolute(what, 0.0, MOST_BACK, false) },
    })
}

fn idle(rounds: &[Idle]) -> Option<Goal> {
    // With fewer there would be nothing to fear.
    let full = || rounds.iter().filter(|idle| idle.tunnels >= IDLE);
    let tunnels = full().next()?.tunnels;
    let after = median(full().map(|idle| idle.after as f64).collect())?;
    let most = MOST_IDLE as f64;
    let what = format!("MB of a proxy with {tunnels} idle tunnels");
    Some(absolute(what, after / 1e6, most / 1e6, after < most))
}

fn registering(rounds: &[Registering]) -> Option<Goal> {
    let took = median(rounds.iter().map(|times| times.median_ms).collect())?;
    let what = "milliseconds until a new session is registered".to_owned();
    Some(absolute(what, took, MOST_REGISTERING, took < MOST_REGISTERING))
}

fn absolute(what: String, ours: f64, most: f64, met: bool) -> Goal {
    Goal { what, ours: figure(ours), bound: figure(most), ratio: Some(ours / most), met }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(name: &str, systems: &[(&str, Family, &[Sample])]) -> Measured {
        let mut measured = Measured::of(name);
        for (system, family, rounds) in systems {
            for (round, sample) in rounds.iter().enumerate() {
                measured.add(system, *family, round, sample.clone());
            }
        }
        measured
    }

    fn samples(figures: &[(f64, u64, f64)]) -> Vec<Sample> {
        figures.iter().map(|&(cpu, p99, rate)| Sample::of_figures(cpu, p99, rate)).collect()
    }

    fn goals(cell: Measured) -> Vec<Goal> {
        all(&Figures { cells: &[cell], back: &[], idle: &[], registering: &[] })
    }

    #[test]
    fn ours_is_held_against_the_best_tunnel_of_each_round_and_not_against_web_servers() {
        let (ours, nginx) = (samples(&[(20.0, 500, 1.0)]), samples(&[(5.0, 50, 1.0)]));
        let (a, b) = (samples(&[(25.0, 900, 1.0)]), samples(&[(30.0, 400, 1.0)]));
        let goals = goals(cell(
            "small GET, 32 connections",
            &[
                ("nginx", Family::Server, &nginx),
                ("a", Family::Tunnel, &a),
                ("b", Family::Tunnel, &b),
                (OURS, Family::Ours, &ours),
            ],
        ));
        let all: Vec<_> =
            goals.iter().map(|goal| (goal.what.as_str(), goal.bound.as_str(), goal.met)).collect();
        assert_eq!(
            all,
            [
                ("small GET, 32 connections: CPU us at most a's", "25.0", true),
                ("small GET, 32 connections: p99 us at most b's", "400", false),
            ]
        );
        assert_eq!(goals[0].ratio, Some(0.8));
    }

    #[test]
    fn rounds_are_compared_one_by_one() {
        // The machine was busy in the second round: by medians of each alone ours would be the worse.
        let ours = samples(&[(10.0, 1, 1.0), (40.0, 1, 1.0), (12.0, 1, 1.0)]);
        let other = samples(&[(11.0, 1, 1.0), (44.0, 1, 1.0), (11.0, 1, 1.0)]);
        let goals = goals(cell(
            "small GET, 256 connections",
            &[("a", Family::Tunnel, &other), (OURS, Family::Ours, &ours)],
        ));
        assert!((goals[0].ratio.unwrap() - 10.0 / 11.0).abs() < 1e-9, "{:?}", goals[0].ratio);
        assert!(goals[0].met);
    }

    #[test]
    fn throughput_is_held_against_wstunnel_where_it_takes_part() {
        let (slow, fast, ours) =
            (samples(&[(1.0, 1, 100.0)]), samples(&[(1.0, 1, 900.0)]), samples(&[(1.0, 1, 500.0)]));
        let name = "400 kB GET, 8 connections";
        let both: &[(&str, Family, &[Sample])] = &[
            ("wstunnel", Family::Tunnel, &slow),
            ("bore", Family::Tunnel, &fast),
            (OURS, Family::Ours, &ours),
        ];
        let [beside] = &goals(cell(name, both))[..] else { panic!("one goal") };
        assert_eq!(
            (beside.what.as_str(), beside.met),
            ("400 kB GET, 8 connections: per s at least wstunnel's", true)
        );
        let [without] = &goals(cell(name, &both[1..]))[..] else { panic!("one goal") };
        assert_eq!(
            (without.what.as_str(), without.met),
            ("400 kB GET, 8 connections: per s at least bore's", false)
        );
    }

    #[test]
    fn redis_may_take_four_times_the_memory_s() {
        let (memory, over) = (samples(&[(20.0, 1, 1.0)]), samples(&[(81.0, 1, 1.0)]));
        let goals = goals(cell(
            "variants: small GET, 32 connections",
            &[(OURS, Family::Ours, &memory), ("tunnel, Redis, session elsewhere", Family::Ours, &over)],
        ));
        let [goal] = &goals[..] else { panic!("{} goals", goals.len()) };
        let what =
            "variants: small GET, 32 connections, Redis, session elsewhere: CPU us at most 4 times tunnel's";
        assert_eq!((goal.what.as_str(), goal.bound.as_str(), goal.met), (what, "80.0", false));
    }

    #[test]
    fn what_has_no_peer_has_a_figure() {
        let returned =
            |seconds: &[Option<f64>]| Returned { system: OURS.to_owned(), seconds: seconds.to_vec() };
        let idle = |after| Idle { tunnels: 10_000, before: 0, after };
        let registering = |median_ms| Registering { median_ms, p99_ms: 99.0 };
        let met = |back, idle, registering| {
            let goals =
                all(&Figures { cells: &[], back: &[back], idle: &[idle], registering: &[registering] });
            goals.iter().map(|goal| goal.met).collect::<Vec<_>>()
        };
        let good = met(returned(&[Some(0.3), None, Some(0.5)]), idle(599_000_000), registering(4.9));
        assert_eq!(good, [true, true, true]);
        let bad = met(returned(&[Some(0.3), None, None]), idle(600_000_000), registering(5.0));
        assert_eq!(bad, [false, false, false]);
        let few = Idle { tunnels: 300, ..idle(1_000_000) };
        assert_eq!(met(returned(&[None]), few, registering(1.0)), [false, true]);
    }

    #[test]
    fn what_was_not_measured_is_no_goal() {
        assert!(goals(cell("small GET, 1 connection", &[])).is_empty());
        let mut out = String::new();
        table(&[], &mut out).unwrap();
        assert_eq!(out, "");
    }
}
