//! `cargo xtask guests`: builds the plugins of this repository to `target/guests/<name>.wasm`.
//!
//! Owns which crates are plugins and where their files go. What compiles them is `wasm.rs`'s business; what is
//! inside them, nobody's here: what cargo made is what is copied.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::{step::Step, wasm::Toolchain};

/// Each subfolder with a `Cargo.toml` is a plugin, whose crate is named like it: members of the workspace, and the tests'
/// own, which are workspaces of their own so that nothing of theirs gets into our dependencies.
const EXAMPLES: &str = "examples";
const OF_TESTS: &str = "tests/guests";

/// Where the finished files go, and nothing else.
pub(crate) const FINISHED: &str = "target/guests";

/// Shared by all plugins, so that the standard library and the dependencies are built once.
const WORKSHOP: &str = "target/guests-build";

/// A plugin is loaded often and read over networks: small rather than fast to build. Given here and not in a `Cargo.toml`,
/// so that all workspaces build with one standard library.
const PROFILE: [&str; 7] = [
    "profile.guest.inherits='release'",
    "profile.guest.opt-level='s'",
    "profile.guest.lto='fat'",
    "profile.guest.codegen-units=1",
    "profile.guest.panic='abort'",
    "profile.guest.debug=false",
    "profile.guest.strip='symbols'",
];

/// Builds what changed, and copies it.
///
/// # Errors
/// No compiler for WebAssembly was found, or a plugin doesn't build.
pub(crate) fn run() -> Result<()> {
    let toolchain = Toolchain::find()?;
    let examples = names(EXAMPLES)?;
    ensure!(!examples.is_empty(), "there are no plugins in {EXAMPLES}");
    let packages = examples.iter().flat_map(|name| ["--package", name]);
    build(&toolchain).arguments(packages).run()?;
    finish(&toolchain, &examples)?;

    let of_tests = names(OF_TESTS)?;
    for name in &of_tests {
        let manifest = format!("{OF_TESTS}/{name}/Cargo.toml");
        build(&toolchain).arguments(["--manifest-path", &manifest]).run()?;
    }
    finish(&toolchain, &of_tests)
}

fn build(toolchain: &Toolchain) -> Step {
    let profile = PROFILE.iter().flat_map(|setting| ["--config", setting]);
    let flags = format!("build.rustflags={:?}", without_paths_of_this_machine());
    toolchain
        .build()
        .arguments(["--quiet", "--locked", "--target-dir", WORKSHOP, "--profile", "guest"])
        .arguments(profile)
        .arguments(["--config", &flags])
}

/// Panics name the file they come from. The same sources shall give the same bytes on every machine.
fn without_paths_of_this_machine() -> Vec<String> {
    let home = env::home_dir().unwrap_or_default();
    let cargo = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let here = env::current_dir().unwrap_or_default();
    let shown = [(cargo.join("registry/src"), "registry"), (here, ".")];
    shown.map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display())).into()
}

fn names(folder: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("can't read {folder}"))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn finish(toolchain: &Toolchain, names: &[String]) -> Result<()> {
    let made = Path::new(WORKSHOP).join(toolchain.target()).join("guest");
    fs::create_dir_all(FINISHED)?;
    for name in names {
        let from = made.join(name.replace('-', "_")).with_extension("wasm");
        copy_if_changed(&from, &Path::new(FINISHED).join(name).with_extension("wasm"))?;
    }
    Ok(())
}

/// A file that stays the same keeps its time: whoever caches what it compiles to needn't do it again.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let made = fs::read(from).with_context(|| {
        format!("{} wasn't built: is the plugin a cdylib, named like its folder?", from.display())
    })?;
    if fs::read(to).is_ok_and(|present| present == made) {
        return Ok(());
    }
    println!("xtask: {} ({} kB)", to.display(), made.len().div_ceil(1000));
    // Whoever reads the file meanwhile sees the old one or the new one, never a piece.
    let aside = to.with_extension("new");
    fs::write(&aside, made)?;
    fs::rename(&aside, to).with_context(|| format!("can't write {}", to.display()))
}
