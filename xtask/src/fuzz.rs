//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, with the stable toolchain.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use crate::step::Step;

/// Inputs that each run begins with: few, small, and in the repository.
const KEPT: &str = "fuzz/corpus";

/// Where what a run finds goes, so that the next one begins with it too.
const FOUND: &str = "fuzz/target/found";

/// Fuzzes the named target, or each in turn.
///
/// # Errors
/// cargo-fuzz is missing, there is no such target, or an input was found that breaks it.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let wish = Wish::parse(arguments)?;
    let targets = wish.choose(&targets(Path::new("fuzz/fuzz_targets"))?)?;
    if Step::cargo("fuzz --version").output().is_none() {
        bail!("fuzzing needs cargo-fuzz; install it with: cargo install --locked cargo-fuzz");
    }
    for target in targets {
        let (found, kept) = (format!("{FOUND}/{target}"), format!("{KEPT}/{target}"));
        for folder in [&found, &kept] {
            fs::create_dir_all(folder).with_context(|| format!("can't make {folder}"))?;
        }
        Step::cargo("fuzz run")
            .arguments([&target, &found, &kept, "--", &format!("-max_total_time={}", wish.seconds)])
            // The sanitizer's flags are unstable; this lets the stable compiler take them.
            .with("RUSTC_BOOTSTRAP", "1")
            .run()?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Wish {
    target: Option<String>,
    seconds: u32,
}

impl Wish {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let mut wish = Self { target: None, seconds: 60 };
        let mut words = arguments.iter();
        while let Some(&word) = words.next() {
            match word {
                "--seconds" => {
                    let number = words.next().context("--seconds needs a number")?;
                    wish.seconds = number.parse().with_context(|| format!("--seconds {number}"))?;
                }
                name if !name.starts_with('-') && wish.target.is_none() => {
                    wish.target = Some(name.to_owned())
                }
                other => bail!("fuzz takes one target and --seconds N, not {other}"),
            }
        }
        Ok(wish)
    }

    fn choose(&self, known: &[String]) -> Result<Vec<String>> {
        match &self.target {
            None => Ok(known.to_vec()),
            Some(target) if known.contains(target) => Ok(vec![target.clone()]),
            Some(target) => bail!("no fuzz target {target}; there are: {}", known.join(", ")),
        }
    }
}

fn targets(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("no fuzz targets: {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_a_target_and_seconds_in_any_order() {
        let all = Wish { target: None, seconds: 60 };
        assert_eq!(Wish::parse(&[]).unwrap(), all);
        let one = Wish { target: Some("decode".into()), seconds: 5 };
        assert_eq!(Wish::parse(&["decode", "--seconds", "5"]).unwrap(), one);
        assert_eq!(Wish::parse(&["--seconds", "5", "decode"]).unwrap(), one);
        for bad in [&["--seconds"][..], &["--seconds", "x"], &["a", "b"], &["--fast"]] {
            assert!(Wish::parse(bad).is_err(), "{bad:?}");
        }
        let known = ["decode".to_owned(), "names".to_owned()];
        assert_eq!(all.choose(&known).unwrap(), known);
        assert_eq!(one.choose(&known).unwrap(), ["decode"]);
        assert!(one.choose(&known[1..]).is_err());
    }
}
