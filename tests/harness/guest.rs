//! Plugins that `cargo xtask guests` built, where tests want them.

use std::path::{Path, PathBuf};

const BUILT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/guests");

/// The file of a guest.
pub(crate) fn guest(name: &str) -> PathBuf {
    let path = Path::new(BUILT).join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing; run `cargo xtask guests` first", path.display());
    path
}

/// Where compiled guests are kept from test to test: compiling one takes seconds without optimisation.
pub(crate) fn compiled() -> String {
    let path = std::path::absolute(Path::new(BUILT).join("compiled")).expect("a path can be made absolute");
    path.to_str().expect("this repository's folder has a name in UTF-8").to_owned()
}
