//! The rules themselves. A new module takes its place in [`FLOORS`] first.

use std::fmt;

use super::source::{self, Path};

/// Modules and the floors that they stand on; the same list as in the crate's documentation.
const FLOORS: &[(&str, usize)] = &[
    ("wire", 0),
    ("exchange", 1),
    ("operator", 1),
    ("redis", 1),
    ("plugin", 2),
    ("session", 2),
    ("trace", 2),
    ("bus", 3),
    ("proxy", 4),
    ("client", 4),
    ("demo", 4),
    ("settings", 5),
];

/// Lines of a file.
pub(crate) const LONGEST: usize = 500;

/// What some modules must not reach, by whatever way they name it.
struct Ban {
    paths: &'static [&'static str],
    /// Whether it holds for a file of this module.
    holds: fn(module: &[String], file: &str) -> bool,
    /// Whether it holds for code of tests too.
    tests: bool,
    why: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        paths: &[
            "tokio",
            "tokio_util",
            "tokio_tungstenite",
            "hyper",
            "hyper_util",
            "socket2",
            "std::net",
            "std::time::Instant",
            "std::time::SystemTime",
        ],
        holds: |module, _| module[0] == "wire",
        tests: true,
        why: "wire is plain values: no runtime, no clock, no socket",
    },
    Ban {
        paths: &["std::env", "std::fs", "tokio::fs", "clap", "etcetera"],
        // client/key.rs: the key is made on first use, by the one module that knows its format and its mode.
        holds: |module, file| module[0] != "settings" && file != "host/src/client/key.rs",
        tests: false,
        why: "only settings reads the command line, the environment and files",
    },
    Ban {
        paths: &["tokio_tungstenite"],
        holds: |module, _| module[0] == "bus",
        tests: true,
        why: "the bus does not know WebSocket frames",
    },
    Ban {
        paths: &["wasmtime", "wasmtime_wasi", "wasmtime_wasi_http"],
        holds: |module, _| module[0] != "plugin",
        tests: true,
        why: "only plugin knows the engine",
    },
];

/// A rule that does not hold.
pub(crate) struct Broken {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

/// Checks files, given as paths from the workspace's root and their texts.
pub(crate) fn check(files: &[(String, String)]) -> Vec<Broken> {
    files.iter().flat_map(|(file, text)| check_file(file, text)).collect()
}

fn check_file(file: &str, text: &str) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut add = |line, rule| broken.push(Broken { file: file.to_owned(), line, rule });

    let lines = text.lines().count();
    if lines > LONGEST {
        add(lines, format!("{lines} lines; more than {LONGEST} hide a module that wants out"));
    }
    match file.strip_prefix("host/src/").map(module_of) {
        // Outside of the library: only the ban on sleeping, and only for tests.
        None => {
            for path in source::paths(&[], text) {
                let name = path.segments.last().map(String::as_str);
                if matches!(name, Some("sleep" | "sleep_until")) {
                    add(path.line, "sleeps; a test waits for an event, never for time".to_owned());
                }
            }
        }
        // lib.rs and main.rs name every module, and main.rs stands above them all.
        Some(module) if module.is_empty() => {}
        Some(module) => {
            if floor(&module[0]).is_none() {
                add(1, format!("{} stands on no floor; give it one in tests/floors/rules.rs", module[0]));
            }
            for path in source::paths(&module, text) {
                for rule in check_floor(&module[0], &path).into_iter().chain(check_bans(&module, file, &path))
                {
                    add(path.line, rule);
                }
            }
        }
    }
    broken
}

/// `bus/memory.rs` is the module `bus::memory`.
fn module_of(file: &str) -> Vec<String> {
    let mut segments: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(segments.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        segments.pop();
    }
    segments
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

fn check_floor(own: &str, path: &Path) -> Option<String> {
    let ("crate", rest) = (path.segments[0].as_str(), &path.segments[1..]) else { return None };
    let other = rest.first().map_or("*", String::as_str);
    if other == "*" || other == "self" {
        return Some("crate::* hides what it imports; name the module".to_owned());
    }
    let Some(theirs) = floor(other) else {
        return Some(format!("{other} stands on no floor; give it one in tests/floors/rules.rs"));
    };
    let ours = floor(own)?;
    if own == other || theirs < ours {
        None
    } else if theirs == ours {
        Some(format!("{own} imports its sibling {other}; what both need belongs on a lower floor"))
    } else {
        Some(format!("{own} (floor {ours}) imports {other} (floor {theirs}); imports point down only"))
    }
}

fn check_bans(module: &[String], file: &str, path: &Path) -> Option<String> {
    let ban = BANS.iter().find(|ban| {
        (ban.holds)(module, file)
            && (ban.tests || !path.in_tests)
            && ban.paths.iter().any(|banned| reaches(path, &banned.split("::").collect::<Vec<_>>()))
    })?;
    Some(format!("{} reaches {}; {}", module[0], path.segments.join("::"), ban.why))
}

/// Whether a path names what is banned, something in it, or imports the module or the glob that holds it.
fn reaches(path: &Path, banned: &[&str]) -> bool {
    let mut named: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    if matches!(named.last(), Some(&("*" | "self"))) {
        named.pop();
    }
    named.starts_with(banned) || (path.in_use && !named.is_empty() && banned.starts_with(&named))
}
