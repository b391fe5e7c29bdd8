//! Debian's packages: installed where that needs no question, as root on Debian.
//!
//! Owns how apt is called, and that what it installs doesn't begin to run. Knows nothing of what the packages are for.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result};

use crate::step::Step;

/// Asked before a package's service is started (deb-systemd-invoke, invoke-rc.d).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Whether [`install`] may be called.
pub(crate) fn may_install() -> bool {
    Path::new("/etc/debian_version").exists() && is_root()
}

/// Installs packages, given with spaces between them, and starts none of their services, now or at the next boot.
///
/// # Errors
/// A package is not to be had, or apt failed.
pub(crate) fn install(packages: &str) -> Result<()> {
    let _quiet = Quiet::begin()?;
    let arguments = format!("install --yes --no-install-recommends {packages}");
    // A machine that never fetched the lists knows no package.
    if apt(&arguments).run().is_err() {
        apt("update").run()?;
        apt(&arguments).run()?;
    }
    Ok(())
}

/// Makes a service that a package brought stay off when the machine starts again. Where services aren't systemd's
/// there is nothing to do.
pub(crate) fn disable(service: &str) {
    if Path::new("/run/systemd/system").exists() {
        Step::new("systemctl").arguments(["disable", service]).output();
    }
}

fn apt(arguments: &str) -> Step {
    // Debian's tools ask questions otherwise.
    Step::new("apt-get").arguments(arguments.split(' ')).with("DEBIAN_FRONTEND", "noninteractive")
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// While it lives, no service is started; a policy that the machine has already is left alone.
struct Quiet {
    ours: bool,
}

impl Quiet {
    fn begin() -> Result<Self> {
        match OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY) {
            Ok(mut file) => {
                let quiet = Self { ours: true };
                file.write_all(b"#!/bin/sh\nexit 101\n").with_context(|| format!("can't write {POLICY}"))?;
                Ok(quiet)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self { ours: false }),
            Err(error) => Err(error).with_context(|| format!("can't write {POLICY}")),
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.ours {
            // Whoever runs this is root, and wrote the file a moment ago.
            let _ = fs::remove_file(POLICY);
        }
    }
}
