//! `cargo xtask bench`: builds the program as it is released, finds or installs the peers, and measures all of them
//! (`benches/peers`).
//!
//! Owns where peers come from. A peer that isn't to be had is left out, and the report says so.

use std::path::Path;

use anyhow::Result;

use crate::{debian, guests, services, step::Step};

/// Where peers that are built from source are put.
const PEERS: &str = "target/peers";

/// Peers on crates.io: the crate, the version that is compared, and its program.
const CRATES: [(&str, &str, &str); 2] = [("rathole", "0.5.0", "rathole"), ("bore-cli", "0.6.0", "bore")];

/// Peers that no registry has, and how they are installed. That takes long, and what is fetched isn't pinned: whoever runs this
/// decides.
const SOURCES: [(&str, &str); 1] =
    [("wstunnel", "cargo install --git https://github.com/erebe/wstunnel wstunnel-cli --root target/peers")];

/// Peers that Debian has.
const PACKAGES: [(&str, &str); 3] =
    [("nginx", "nginx-light"), ("haproxy", "haproxy"), ("redis-server", "redis-server")];

/// Measures; `extra` goes to the program that does it.
pub(crate) fn run(extra: &[&str]) -> Result<()> {
    Step::cargo("build --release --locked --package tunnel --package peers").run()?;
    guests::run()?;
    for (program, package) in PACKAGES {
        if !services::has(program) && debian::may_install() {
            let _ = debian::install(package);
            debian::disable(&format!("{program}.service"));
        }
    }
    for (name, version, program) in CRATES {
        if !Path::new(PEERS).join("bin").join(program).is_file() {
            let install =
                |how| format!("install {how}--root {PEERS} --target-dir {PEERS}/build {name}@{version}");
            // Dependencies that a release is locked to may be older than what today's compiler takes.
            let newer = |_| Step::cargo(&install("")).run();
            if let Err(error) = Step::cargo(&install("--locked ")).run().or_else(newer) {
                println!("xtask: {program} is left out: {error:#}");
            }
        }
    }
    for (program, install) in SOURCES {
        if !Path::new(PEERS).join("bin").join(program).is_file() && !services::has(program) {
            println!("xtask: {program} is left out; to have it: {install}");
        }
    }
    let paths = ["run", "--tunnel", "target/release/tunnel", "--peers", PEERS, "--guests", guests::FINISHED];
    Step::new("target/release/peers").arguments(paths).arguments(extra).run()
}
