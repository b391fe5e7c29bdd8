//! The house rules that a compiler doesn't know, held against the sources: floors, who may reach the outside
//! world, the length of files, and no sleeping in tests.

mod rules;
mod source;
mod threats;

use std::{fs, path::Path};

/// Every source file of the host and the tests, by its path from the workspace's root.
fn tree() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the host is a folder of the workspace");
    let mut files = Vec::new();
    let mut folders = vec![root.join("host/src"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).expect("found under the root");
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                files.push((name.to_string_lossy().replace('\\', "/"), text));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_house_stands() {
    let files = tree();
    for landmark in ["host/src/wire/mod.rs", "host/src/main.rs", "tests/floors/main.rs"] {
        assert!(files.iter().any(|(name, _)| name == landmark), "{landmark} is not where it is looked for");
    }
    let broken: Vec<String> = rules::check(&files).iter().map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{} house rules are broken:\n{}\n", broken.len(), broken.join("\n"));
}

/// Checks one file that stands alone.
fn check(file: &str, text: &str) -> Vec<String> {
    rules::check(&[(file.to_owned(), text.to_owned())]).iter().map(ToString::to_string).collect()
}

#[test]
fn every_rule_can_break() {
    let long = "\n".repeat(rules::LONGEST + 1);
    for (file, text, broken) in [
        (
            "host/src/wire/mod.rs",
            "use crate::exchange::Body;",
            "1: wire (floor 0) imports exchange (floor 1)",
        ),
        (
            "host/src/bus/memory.rs",
            "\nuse crate::{wire, proxy::Config};",
            "2: bus (floor 3) imports proxy (floor 4)",
        ),
        ("host/src/client/mod.rs", "fn f() { crate::proxy::run() }", "1: client imports its sibling proxy"),
        (
            "host/src/client/mod.rs",
            "mod a { use super::super::demo::Sample; }",
            "1: client imports its sibling",
        ),
        ("host/src/client/a/b.rs", "use super::super::super::proxy;", "1: client imports its sibling proxy"),
        ("host/src/bus/mod.rs", "pub(in crate::proxy) fn f() {}", "1: bus (floor 3) imports proxy (floor 4)"),
        ("host/src/proxy/mod.rs", "use crate::*;", "1: crate::* hides what it imports"),
        ("host/src/proxy/mod.rs", "use crate::attic::Box;", "1: attic stands on no floor"),
        ("host/src/attic/mod.rs", "", "1: attic stands on no floor"),
        ("host/src/wire/a.rs", "#[tokio::test]\nfn f() {}", "1: wire reaches tokio::test"),
        (
            "host/src/wire/a.rs",
            "use std::{fmt,\ntime::{Duration, Instant}};",
            "2: wire reaches std::time::Instant",
        ),
        ("host/src/wire/a.rs", "use std::time;", "1: wire reaches std::time"),
        ("host/src/wire/a.rs", "fn f() -> ::std::net::IpAddr {}", "1: wire reaches std::net::IpAddr"),
        ("host/src/proxy/a.rs", "fn f() { std::env::var(\"A\") }", "1: proxy reaches std::env::var"),
        ("host/src/client/a.rs", "use tokio::fs::File;", "1: client reaches tokio::fs::File"),
        ("host/src/bus/a.rs", "use tokio_tungstenite::tungstenite;", "1: bus reaches tokio_tungstenite"),
        ("host/src/proxy/a.rs", "use wasmtime::Engine;", "1: proxy reaches wasmtime::Engine"),
        ("host/src/proxy/a.rs", &long, "501: 501 lines"),
        ("tests/e2e/a.rs", "async fn f() {\n  tokio::time::sleep(second).await }", "2: sleeps"),
        ("tests/e2e/a.rs", "use std::thread::sleep;", "1: sleeps"),
    ] {
        let found = check(file, text);
        assert_eq!(found.len(), 1, "{file}: {text:?} gives {found:#?}");
        assert!(
            found[0].starts_with(&format!("{file}:{broken}")),
            "{text:?} gives {:?}, not {broken}",
            found[0]
        );
    }
}

#[test]
fn what_the_rules_allow_passes() {
    for (file, text) in [
        (
            "host/src/bus/mod.rs",
            "use crate::{exchange::{self, Forward}, wire::TunnelName}; use super::bus::X;",
        ),
        ("host/src/client/mod.rs", "mod tests { use super::*; use super::super::session; }"),
        ("host/src/settings/mod.rs", "use crate::{client, proxy}; use std::env; use clap::Parser;"),
        ("host/src/client/key.rs", "use std::fs;"),
        ("host/src/proxy/a.rs", "mod tests { fn f() { std::fs::read(path) } }"),
        ("host/src/proxy/tests.rs", "use std::fs;"),
        ("host/src/wire/a.rs", "use std::time::Duration; // std::net\n/* tokio:: /* nested */ */ fn f() {}"),
        (
            "host/src/wire/a.rs",
            "const A: &str = r#\"tokio::spawn \" crate::proxy::X\"#; const B: char = '\"';",
        ),
        (
            "host/src/wire/a.rs",
            "fn f<'a>(x: &'a str) -> char { '\\'' } const C: &[u8] = b\"\\\"std::net::\";",
        ),
        ("host/src/lib.rs", "pub mod wire;"),
        ("host/src/main.rs", "use tunnel::settings; fn f() { std::env::args() }"),
        ("tests/e2e/a.rs", "const A: &str = \"sleep(1)\"; fn f(asleep: u8) { wake(asleep) }"),
    ] {
        assert_eq!(check(file, text), Vec::<String>::new(), "{file}: {text}");
    }
}
