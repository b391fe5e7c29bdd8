//! What wit-bindgen makes of `../wit`, each interface once.
//!
//! Owns the bindings; every other module works with them, and no author of a plugin sees them. There is one world for each
//! interface that a plugin may export, because a component must export exactly the hooks that it has: the attribute
//! `#[plugin]` calls the `export!` of those, and the linker and the host merge their types into one component.

#![allow(missing_docs, unreachable_pub, clippy::all)]

/// All that may be imported, and the types. What a plugin doesn't call isn't in its component.
pub mod base {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package tunnel:guest-sdk;
            world base {
                include tunnel:plugin/imports@0.1.0;
                import tunnel:plugin/types@0.1.0;
                import tunnel:plugin/exchange@0.1.0;
            }
        ",
        generate_all,
        generate_unused_types: true,
    });
}

pub use base::tunnel::plugin;

macro_rules! export {
    ($module:ident, $world:literal, shares $($interface:literal = $types:path),*) => {
        pub mod $module {
            wit_bindgen::generate!({
                path: "../wit",
                inline: $world,
                with: { $($interface: $types),* },
                generate_all,
                pub_export_macro: true,
            });
        }
    };
}

export!(
    lifecycle,
    "package tunnel:guest-sdk; world lifecycle { export tunnel:plugin/lifecycle@0.1.0; }",
    shares
);
export!(
    request,
    "package tunnel:guest-sdk; world request { export tunnel:plugin/http-request-hook@0.1.0; }",
    shares "tunnel:plugin/types@0.1.0" = crate::bindings::plugin::types,
    "tunnel:plugin/exchange@0.1.0" = crate::bindings::plugin::exchange
);
export!(
    response,
    "package tunnel:guest-sdk; world response { export tunnel:plugin/http-response-hook@0.1.0; }",
    shares "tunnel:plugin/types@0.1.0" = crate::bindings::plugin::types,
    "tunnel:plugin/exchange@0.1.0" = crate::bindings::plugin::exchange
);
export!(
    websocket,
    "package tunnel:guest-sdk; world websocket { export tunnel:plugin/ws-hook@0.1.0; }",
    shares "tunnel:plugin/types@0.1.0" = crate::bindings::plugin::types,
    "tunnel:plugin/exchange@0.1.0" = crate::bindings::plugin::exchange
);
export!(
    tick,
    "package tunnel:guest-sdk; world tick { export tunnel:plugin/tick-hook@0.1.0; }",
    shares "tunnel:plugin/types@0.1.0" = crate::bindings::plugin::types
);
