//! `tunnel plugin new`: a crate that builds a plugin, with the SDK of this very version beside it.
//!
//! The SDK travels inside the program, so that what it makes fits the program and needs no registry.

use std::{fs, path::PathBuf};

use clap::Args;
use include_dir::{Dir, DirEntry, include_dir};

use super::AuthorError;

/// `tunnel plugin new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The crate's name, and its folder's
    name: String,

    /// Where to make it [default: a folder of its name, here]
    #[arg(long, value_name = "FOLDER")]
    path: Option<PathBuf>,
}

static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../guest-sdk");
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../wit");

/// The part of the SDK that becomes the crate itself.
const TEMPLATE: &str = "template";

/// A manifest under its own name would make cargo take the template for a crate.
const MANIFEST: &str = "Cargo.toml.in";

pub(super) fn new(args: &NewArgs) -> Result<String, AuthorError> {
    if !is_crate_name(&args.name) {
        return Err(AuthorError::Usage(format!(
            "{:?} is no name for a crate: use lower-case letters, digits and dashes, a letter first",
            args.name
        )));
    }
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    if folder.exists() {
        return Err(AuthorError::Usage(format!(
            "{} is there already, and is left as it is",
            folder.display()
        )));
    }
    for (path, contents) in files(&args.name) {
        let path = folder.join(path);
        let written =
            path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, contents));
        written.map_err(|error| AuthorError::Write { path: path.clone(), error })?;
    }
    let (name, shown) = (&args.name, folder.display());
    Ok(format!(
        "{name} is made in {shown}. What to do next, in that folder:\n\n  cargo test\n\nIts README.md says how to build \
         and run it; src/lib.rs is yours to change.\n"
    ))
}

fn is_crate_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// What the crate consists of, by path within it.
fn files(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let template = SDK.get_dir(TEMPLATE).map_or(&[][..], Dir::entries);
    walk(template, &mut |path, contents| {
        let path = path.strip_prefix(TEMPLATE).unwrap_or(path);
        let path = if path.ends_with(MANIFEST) { path.with_file_name("Cargo.toml") } else { path.to_owned() };
        files.push((path, filled_in(contents, name)));
    });
    walk(SDK.entries(), &mut |path, contents| {
        if !path.starts_with(TEMPLATE) {
            files.push((PathBuf::from("sdk/guest-sdk").join(path), contents.to_vec()));
        }
    });
    walk(WIT.entries(), &mut |path, contents| {
        files.push((PathBuf::from("sdk/wit").join(path), contents.to_vec()));
    });
    files
}

fn filled_in(contents: &[u8], name: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(contents);
    text.replace("{{name}}", name).replace("{{file}}", &name.replace('-', "_")).into_bytes()
}

fn walk(entries: &[DirEntry<'_>], found: &mut impl FnMut(&std::path::Path, &[u8])) {
    for entry in entries {
        match entry {
            DirEntry::Dir(folder) => walk(folder.entries(), found),
            DirEntry::File(file) => found(file.path(), file.contents()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_crate_has_everything_that_it_builds_with() {
        let files = files("my-filter");
        let text = |wanted: &str| {
            let file = files.iter().find(|(path, _)| path.as_path() == std::path::Path::new(wanted));
            String::from_utf8(file.unwrap_or_else(|| panic!("{wanted} is missing")).1.clone()).unwrap()
        };
        assert!(text("Cargo.toml").contains("name = \"my-filter\""));
        assert!(text("README.md").contains("my_filter.wasm"));
        for path in [
            "src/lib.rs",
            ".gitignore",
            "sdk/guest-sdk/Cargo.toml",
            "sdk/guest-sdk/macros/Cargo.toml",
            "sdk/wit/types.wit",
        ] {
            text(path);
        }
        assert!(!files.iter().any(|(path, _)| path.starts_with("sdk/guest-sdk/template")));
        let left =
            |word: &str| files.iter().any(|(_, contents)| String::from_utf8_lossy(contents).contains(word));
        assert!(!left("{{name}}") && !left("{{file}}"), "all filled in");
    }

    #[test]
    fn names_that_cargo_refuses_are_refused_first() {
        for name in ["", "My-Filter", "9lives", "a/b", "-a", "a b", "ä"] {
            assert!(!is_crate_name(name), "{name}");
        }
        assert!(is_crate_name("my-filter2"));
    }
}
