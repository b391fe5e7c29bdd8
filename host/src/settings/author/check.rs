//! `tunnel plugin check`.

use std::{fmt::Write, path::PathBuf};

use super::{AuthorError, host, read};
use crate::plugin::{Description, Kind};

pub(super) async fn check(file: &PathBuf) -> Result<String, AuthorError> {
    let wasm = read(file)?;
    let described = host()?.describe(&wasm).await;
    let described = described.map_err(|error| AuthorError::Load { path: file.clone(), error })?;
    Ok(text(&file.display().to_string(), wasm.len(), &described))
}

fn text(file: &str, size: usize, described: &Description) -> String {
    let kind = match described.kind {
        Kind::Component => "a component",
        Kind::Module => "a core module that describes its interface; it is made a component",
        Kind::Wasip1 => "a core module for WASI 0.1; it is made a component",
    };
    let hooks = &described.hooks;
    let hooks: Vec<&str> = [
        (hooks.request, "request"),
        (hooks.response, "response"),
        (hooks.websocket, "websocket"),
        (hooks.tick, "tick"),
    ]
    .iter()
    .filter_map(|(exported, name)| exported.then_some(*name))
    .collect();
    let mut out = String::new();
    let _ = writeln!(out, "{file} is a plugin");
    let _ = writeln!(out, "  kind     {kind}");
    let _ = writeln!(out, "  version  tunnel:plugin@{}", described.version);
    let _ = writeln!(out, "  size     {size} bytes, as a component {}", described.bytes);
    let _ = writeln!(out, "  hooks    {}", hooks.join(", "));
    let (lent, missing): (Vec<_>, Vec<_>) =
        described.imports.iter().partition(|import| import.missing.is_none());
    for import in lent {
        let _ = writeln!(out, "  imports  {}", import.name);
    }
    for import in missing {
        let _ = writeln!(out, "  needs    {}", import.missing.as_deref().unwrap_or_default());
    }
    out
}
