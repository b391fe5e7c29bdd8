//! An application for `wasi:http`, the standard interface: it answers in the place of a service, without a server. The same file runs
//! in `wasmtime serve` and in other hosts of that standard; nothing in it is ours.

// Natively only its tests call it.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
mod answer;
#[cfg(target_arch = "wasm32")]
mod door;
