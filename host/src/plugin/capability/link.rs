//! Which imports a component may have: what every plugin is lent, what its grants add, and the sentence for the rest.

use wasmtime::{
    Engine,
    component::{Component, HasSelf, Linker},
};

use super::super::{
    bindings::tunnel::plugin::{clock, exchange, http_client, kv, log, metrics, random, secrets, types},
    config::Grant,
    error::LoadError,
    state::State,
};

const PACKAGE: &str = "tunnel:plugin/";
pub(in crate::plugin) const VERSION: &str = "0.1.0";

/// Holds a component's imports against what is granted.
///
/// # Errors
/// It imports what it isn't granted, what another version has, or what nobody lends.
pub(in crate::plugin) fn imports(
    component: &Component,
    engine: &Engine,
    grant: &Grant,
) -> Result<(), LoadError> {
    for (import, _) in component.component_type().imports(engine) {
        check(import, grant).map_err(LoadError::Import)?;
    }
    Ok(())
}

pub(in crate::plugin) fn check(import: &str, grant: &Grant) -> Result<(), String> {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    if let Some(name) = interface.strip_prefix(PACKAGE) {
        if version != VERSION {
            return Err(format!(
                "it was made for {PACKAGE}{name} version {version}, and this program has version {VERSION}: build it \
                 again with the guest-sdk of this version"
            ));
        }
        let granted = match name {
            "types" | "exchange" | "log" | "clock" | "random" | "metrics" => true,
            "secrets" => !grant.secrets.is_empty(),
            "kv" => grant.kv || !grant.shared_kv.is_empty(),
            "http-client" => !grant.http.is_empty(),
            _ => return Err(format!("it imports {import}, which doesn't exist in version {VERSION}")),
        };
        let remedy = match name {
            "secrets" => "secrets = [\"NAME\"]",
            "kv" => "kv = true",
            _ => "http = [\"https://HOST\"]",
        };
        return if granted {
            Ok(())
        } else {
            Err(format!(
                "it imports {import}, which it isn't granted: add grant = {{ {remedy} }} if it may have it"
            ))
        };
    }
    if interface.starts_with("wasi:http/") {
        return Err(format!(
            "it imports {import}: a plugin sends requests through {PACKAGE}http-client, to origins that it is granted"
        ));
    }
    let wasi = ["wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:cli/", "wasi:filesystem/", "wasi:sockets/"];
    if wasi.iter().any(|package| interface.starts_with(package)) && version.starts_with("0.2.") {
        return Ok(());
    }
    Err(format!("it imports {import}, which no plugin is lent: see wit/ for what there is"))
}

/// Links what is granted.
///
/// # Errors
/// Never in practice: two interfaces would have to have one name.
pub(in crate::plugin) fn linker(engine: &Engine, grant: &Grant) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::<State>::new(engine);
    let l = &mut linker;
    types::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    exchange::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    log::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    clock::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    random::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    metrics::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    if grant.kv || !grant.shared_kv.is_empty() {
        kv::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    }
    if !grant.http.is_empty() {
        http_client::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    }
    if !grant.secrets.is_empty() {
        secrets::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    }
    wasmtime_wasi::p2::add_to_linker_async(l)?;
    Ok(linker)
}
