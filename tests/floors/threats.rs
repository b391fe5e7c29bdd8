//! docs/threats.md names tests as its proof: each of them exists, and each threat has one.

use std::{fs, path::Path};

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/threats.md");
    fs::read_to_string(path).expect("docs/threats.md can be read")
}

/// What is named behind `Tests:` of a paragraph, in backticks.
fn named(paragraph: &str) -> Vec<&str> {
    let Some((_, tests)) = paragraph.split_once("\nTests:") else { return Vec::new() };
    tests.split('`').skip(1).step_by(2).collect()
}

/// What of all that is named isn't there, neither as a test of these files nor as a file.
fn missing<'a>(document: &'a str, files: &[(String, String)]) -> Vec<&'a str> {
    let mut folder = "";
    let mut exists = |name: &'a str| {
        if let Some((before, file)) = name.rsplit_once('/') {
            folder = before;
            return path(folder, file).is_file();
        }
        if name.contains('.') {
            return path(folder, name).is_file();
        }
        let signature = format!("fn {name}(");
        files.iter().any(|(_, text)| text.contains(&signature))
    };
    document.split("\n\n").flat_map(named).filter(|name| !exists(name)).collect()
}

fn path(folder: &str, file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join(file)
}

#[test]
fn each_threat_has_a_test_and_each_test_that_is_named_exists() {
    let document = document();
    let threats: Vec<&str> = document.split("\n\n").filter(|paragraph| paragraph.starts_with("**")).collect();
    assert!(threats.len() > 20, "only {} threats were found", threats.len());
    for threat in threats {
        assert!(!named(threat).is_empty(), "no test shows what stops this:\n{threat}");
    }
    assert_eq!(missing(&document, &super::tree()), [""; 0], "docs/threats.md names what isn't there");
}

#[test]
fn a_test_that_is_gone_is_missed() {
    let files = [("tests/a.rs".to_owned(), "fn it_is_there() {}".to_owned())];
    let document = "**A**, `not_a_test`.\nTests: `it_is_there`, `it_is_gone`, and\n`fuzz/fuzz_targets/head.rs`, `none.rs`.\n\n**B**";
    assert_eq!(missing(document, &files), ["it_is_gone", "none.rs"]);
}
