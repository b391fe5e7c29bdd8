//! Any text, as a proxy's settings file: it is read, or each mistake in it is told with its place.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tunnel::settings::{
    document::{self, Mistakes},
    file::ProxyFile,
};

fuzz_target!(|text: &str| {
    let mut mistakes = Mistakes::default();
    let (_, lines): (ProxyFile, _) = document::parse(Path::new("proxy.toml"), text, &mut mistakes);
    assert_eq!(lines.path(), Path::new("proxy.toml"));
    for error in &mistakes.errors {
        assert!(error.to_string().starts_with("proxy.toml, "), "{error}");
    }
});
