//! The Rust side of `wit/`: types, host traits and export tables, generated.

#![allow(missing_docs, unreachable_pub)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "full-filter",
    imports: {
        "tunnel:plugin/kv": async | trappable,
        "tunnel:plugin/http-client": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "tunnel:plugin/exchange.request": super::hand::RequestHandle,
        "tunnel:plugin/exchange.response": super::hand::ResponseHandle,
        "tunnel:plugin/kv.bucket": super::capability::kv::Bucket,
    },
});
