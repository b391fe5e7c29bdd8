//! Dependencies: licences, bans and sources in every run; known vulnerabilities on demand.

use std::{env, path::Path};

use anyhow::{Result, bail};

use crate::step::Step;

/// The oldest release that reads our `deny.toml` and the current format of Cargo.lock.
const OLDEST: (u32, u32) = (0, 18);

/// Where CI gets one that is thrown away with `target`.
const TOOLS: &str = "target/tools";

const INSTALL: &str = "cargo install --locked cargo-deny";

/// Without optimisation it builds twice as fast, and runs in seconds all the same; the default features are git.
const INSTALL_IN_CI: &str = "install --quiet --locked --debug --no-default-features cargo-deny@^0.20 --root";

/// Checks licences, bans and sources. A machine of a developer may lack cargo-deny; in CI it is installed.
pub(crate) fn check() -> Result<()> {
    if !found() {
        if env::var_os("CI").is_none() {
            println!("xtask: skipped cargo deny: not installed, or too old; {INSTALL}");
            return Ok(());
        }
        Step::cargo(INSTALL_IN_CI).arguments([TOOLS]).run()?;
    }
    deny("--locked check --hide-inclusion-graph bans licenses sources").run()
}

/// Checks for known vulnerabilities and yanked releases. Fetches the advisory database.
pub(crate) fn audit() -> Result<()> {
    if !found() {
        bail!("the audit needs cargo-deny; install it with: {INSTALL}");
    }
    deny("--locked check advisories").run()
}

fn found() -> bool {
    deny("--version").output().as_deref().and_then(release).is_some_and(|release| release >= OLDEST)
}

fn deny(arguments: &str) -> Step {
    let local = Path::new(TOOLS).join("bin/cargo-deny");
    let program = if local.exists() { local.as_path() } else { Path::new("cargo-deny") };
    Step::new(program).arguments(arguments.split(' '))
}

/// Reads `cargo-deny 0.18.3`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim().strip_prefix("cargo-deny ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(release("cargo-deny 0.18.3\n"), Some((0, 18)));
        assert!(release("cargo-deny 0.9.1").unwrap() < OLDEST);
        assert!(release("cargo-deny 1.0.0").unwrap() > OLDEST);
        assert_eq!(release("something else"), None);
    }
}
