//! Which compiler makes WebAssembly on this machine.
//!
//! Owns the choice and how each is called; knows nothing of plugins.

use std::{env, path::Path};

use anyhow::{Result, bail};

use crate::{debian, step::Step};

/// What is built everywhere, so that all machines test the same files; its standard library also builds from source without a C library.
/// (The linker of `wasm32-wasip2` doesn't take the tests' probe, which imports parts of WASI's interfaces beside the whole.)
const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's compiler, with the sources of its own standard library, and a linker.
const PACKAGES: &str = "rustc-web cargo-web rust-web-src lld";

const ADVICE: &str =
    "plugins need a compiler for WebAssembly; install one with: rustup target add wasm32-unknown-unknown
(or, where rustup can't download, on Debian: apt install rustc-web cargo-web rust-web-src lld)";

/// A compiler that can make WebAssembly.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The cargo that runs this, with the standard library that rustup installed for the target.
    Installed,
    /// The cargo in this folder. It builds the standard library first, once, which takes a minute.
    FromSource { bin: String, linker: String },
}

impl Toolchain {
    /// Looks around, and installs Debian's packages where that needs no question: as root.
    ///
    /// # Errors
    /// There is none; the error says what to install.
    pub(crate) fn find() -> Result<Self> {
        if is_installed() {
            return Ok(Self::Installed);
        }
        if let Some(debian) = from_debian() {
            return Ok(debian);
        }
        if debian::may_install() {
            println!("xtask: no compiler for WebAssembly here: installing Debian's");
            debian::install(PACKAGES)?;
            if let Some(debian) = from_debian() {
                return Ok(debian);
            }
        }
        bail!(ADVICE)
    }

    /// The target's name, which is also that of the folder that cargo puts its files in.
    pub(crate) fn target(&self) -> &'static str {
        TARGET
    }

    /// `cargo build` for the target.
    pub(crate) fn build(&self) -> Step {
        match self {
            Self::Installed => Step::cargo("build --target").arguments([TARGET]),
            Self::FromSource { bin, linker } => Step::new(format!("{bin}/cargo"))
                .arguments(["build", "--target", TARGET, "-Zbuild-std=std,panic_abort"])
                .with("RUSTC", &format!("{bin}/rustc"))
                // Building the standard library is unstable; this lets the stable compiler do it.
                .with("RUSTC_BOOTSTRAP", "1")
                .with("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker),
        }
    }
}

fn is_installed() -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let Some(sysroot) = Step::new(rustc).arguments(["--print", "sysroot"]).output() else { return false };
    Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib").is_dir()
}

fn from_debian() -> Option<Toolchain> {
    let bin = "/usr/bin";
    let sysroot = Step::new(format!("{bin}/rustc")).arguments(["--print", "sysroot"]).output()?;
    let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/std");
    let linker = linker(bin)?;
    (sources.is_dir() && Path::new(bin).join("cargo").exists())
        .then(|| Toolchain::FromSource { bin: bin.to_owned(), linker })
}

/// The linker that came with the running compiler is newer than Debian's, so it is asked first.
fn linker(bin: &str) -> Option<String> {
    let ours = Step::new("rustc").arguments(["--print", "target-libdir"]).output();
    let ours = ours.map(|libraries| Path::new(libraries.trim()).with_file_name("bin").join("rust-lld"));
    [ours, Some(Path::new(bin).join("wasm-ld"))]
        .into_iter()
        .flatten()
        .find(|path| path.exists())
        .map(|path| path.to_string_lossy().into_owned())
}
