//! One command of a run: how it is shown, started and judged.

use std::{
    ffi::OsStr,
    fmt,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

/// A command that must succeed.
pub(crate) struct Step {
    command: Command,
}

impl Step {
    /// The cargo that runs this, so that a `+toolchain` holds for all steps.
    pub(crate) fn cargo(arguments: &str) -> Self {
        Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).arguments(arguments.split(' '))
    }

    /// Any other program.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self { command: Command::new(program) }
    }

    /// Adds arguments.
    pub(crate) fn arguments<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable for this step alone.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Says what runs, runs it with its output shown, and says how long it took.
    ///
    /// # Errors
    /// It couldn't be started, or failed; the error names the command so that it can be run again by hand.
    pub(crate) fn run(mut self) -> Result<()> {
        let name = self.to_string();
        println!("xtask: {name}");
        let start = Instant::now();
        let status = self.command.status().with_context(|| format!("can't start {name}"))?;
        if !status.success() {
            bail!("failed: {name} ({status})");
        }
        println!("xtask: ok after {:.1} s", start.elapsed().as_secs_f32());
        Ok(())
    }

    /// What it prints, or nothing if it can't be started or fails.
    pub(crate) fn output(mut self) -> Option<String> {
        let output = self.command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.command.get_envs() {
            let value = value.unwrap_or_default().to_string_lossy();
            write!(f, "{}={} ", name.to_string_lossy(), quoted(&value))?;
        }
        let program = std::path::Path::new(self.command.get_program());
        write!(f, "{}", program.file_name().unwrap_or(program.as_os_str()).to_string_lossy())?;
        for argument in self.command.get_args() {
            write!(f, " {}", quoted(&argument.to_string_lossy()))?;
        }
        Ok(())
    }
}

/// Good enough to be pasted into a shell.
fn quoted(word: &str) -> String {
    if word.is_empty() || word.contains([' ', '\'', '"', '$', '*']) {
        format!("'{}'", word.replace('\'', r"'\''"))
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_shows_a_command_that_can_be_pasted() {
        let step = Step::new("/usr/bin/cargo").arguments(["test", "a b"]).with("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(step.to_string(), "RUSTDOCFLAGS='-D warnings' cargo test 'a b'");
    }

    #[test]
    fn a_failing_step_is_an_error_that_names_it() {
        let error = Step::new("false").run().expect_err("false fails");
        assert!(error.to_string().starts_with("failed: false ("), "{error}");
        assert!(Step::new("no-such-program-here").run().is_err());
        assert_eq!(Step::new("false").output(), None);
    }
}
