//! The attribute `#[guest_sdk::plugin]`.
//!
//! Owns which methods are hooks and which interface each belongs to. The code it writes is small on purpose: everything
//! that needn't know what the author wrote is in `guest-sdk`.

mod expand;

use proc_macro::TokenStream;

/// Makes a component of an `impl Plugin for …`: exactly the hooks that are written in it are exported, and called.
///
/// What may be left out: `type Config` (then the plugin takes none, and without a `fn new` it is made by `Default`),
/// `type State` and `type Connection` (then `()`).
#[proc_macro_attribute]
pub fn plugin(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::plugin(arguments.into(), item.into()).unwrap_or_else(|error| error.into_compile_error()).into()
}
