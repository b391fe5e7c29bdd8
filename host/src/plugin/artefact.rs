//! What a file is: a component, or a core module that can be made one; anything else is told what it is instead.

use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

use super::error::LoadError;

/// What a file turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A component, as `wasm32-wasip2` gives.
    Component,
    /// A core module that describes its interface in a custom section, as wit-bindgen writes it.
    Module,
    /// The same, with imports of WASI 0.1.
    Wasip1,
}

/// Tells what `bytes` are and makes a component of them.
///
/// # Errors
/// They are neither a component nor a module that can be made one; the text says what they are and what to do.
pub(super) fn component(bytes: &[u8]) -> Result<(Kind, Vec<u8>), LoadError> {
    let kind = kind(bytes)?;
    if kind == Kind::Component {
        return Ok((kind, bytes.to_vec()));
    }
    let encode = || {
        let mut encoder = ComponentEncoder::default().validate(true).module(bytes)?;
        if kind == Kind::Wasip1 {
            use wasi_preview1_component_adapter_provider as provider;
            let adapter = provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;
            encoder = encoder.adapter(provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter)?;
        }
        encoder.encode()
    };
    let component = encode()
        .map_err(|error| LoadError::NotAPlugin(format!("its module makes no component: {error:#}")))?;
    Ok((kind, component))
}

fn kind(bytes: &[u8]) -> Result<Kind, LoadError> {
    if !bytes.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm(guess(bytes)));
    }
    if Parser::is_component(bytes) {
        return Ok(Kind::Component);
    }
    let (mut described, mut wasip1) = (false, false);
    for payload in Parser::new(0).parse_all(bytes) {
        let payload =
            payload.map_err(|error| LoadError::NotWasm(format!("it begins like it, but {error}")))?;
        match payload {
            Payload::CustomSection(section) => described |= section.name().starts_with("component-type"),
            Payload::ImportSection(imports) => {
                let imports = imports.into_imports();
                wasip1 |= imports.flatten().any(|import| import.module == "wasi_snapshot_preview1");
            }
            _ => {}
        }
    }
    match (described, wasip1) {
        (true, false) => Ok(Kind::Module),
        (true, true) => Ok(Kind::Wasip1),
        (false, _) => Err(LoadError::NotAPlugin(
            "it is a WebAssembly module without the interface of a plugin: write it with guest-sdk, or generate \
             bindings from wit/, and build it for wasm32-wasip2 (or wasm32-unknown-unknown)"
                .to_owned(),
        )),
    }
}

/// What a file that is no WebAssembly seems to be.
fn guess(bytes: &[u8]) -> String {
    let known: &[(&[u8], &str)] = &[
        (b"\x7fELF", "a program for Linux (was it built without --target wasm32-wasip2?)"),
        (b"MZ", "a program for Windows (was it built without --target wasm32-wasip2?)"),
        (b"\xcf\xfa\xed\xfe", "a program for macOS (was it built without --target wasm32-wasip2?)"),
        (b"!<arch>\n", "a static library (is crate-type = [\"cdylib\"] missing?)"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x1f\x8b", "gzip data"),
        (b"(module", "WebAssembly as text: translate it with `wasm-tools parse`"),
        (b"(component", "WebAssembly as text: translate it with `wasm-tools parse`"),
        (b"<", "HTML or XML (was a download page saved?)"),
    ];
    if bytes.is_empty() {
        return "the file is empty".to_owned();
    }
    if let Some((_, what)) = known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return format!("it is {what}");
    }
    if std::str::from_utf8(&bytes[..bytes.len().min(512)]).is_ok() {
        return "it is text".to_owned();
    }
    format!("it begins with the bytes {:02x?}", &bytes[..bytes.len().min(4)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plugin_is_told_what_it_is() {
        for (bytes, told) in [
            (&b""[..], "the file is empty"),
            (b"\x7fELF\x02\x01", "a program for Linux"),
            (b"fn main() {}", "it is text"),
            (b"<!doctype html>", "HTML"),
            (b"\xff\xfe\xfd\xfc\xfb", "[ff, fe, fd, fc]"),
            (b"\0asm\x01\0\0\0\xff\xff\xff", "it begins like it, but"),
            (b"\0asm\x01\0\0\0", "without the interface of a plugin"),
        ] {
            let error = component(bytes).expect_err("not a plugin").to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
