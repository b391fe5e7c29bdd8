//! What the attribute reads and writes.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Error, Ident, ImplItem, ItemImpl, Result, parse_quote, spanned::Spanned};

/// The interfaces of hooks, by their module in `guest_sdk::__private`, and their methods.
const INTERFACES: [(&str, &[&str]); 4] = [
    ("request", &["on_request", "on_request_body"]),
    ("response", &["on_response", "on_response_body"]),
    ("websocket", &["on_open", "on_message", "on_close"]),
    ("tick", &["on_tick"]),
];

/// A body hook is called only when the head's hook asked for the body.
const NEEDS: [(&str, &str); 2] = [("on_request_body", "on_request"), ("on_response_body", "on_response")];

pub(crate) fn plugin(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new(arguments.span(), "#[plugin] takes no arguments"));
    }
    let mut item: ItemImpl = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), "#[plugin] belongs on an `impl Plugin for …` block"))?;
    check_header(&item)?;
    let methods = methods(&item);
    check_methods(&methods)?;
    fill_in(&mut item, &methods);

    let written =
        INTERFACES.map(|(_, hooks)| methods.iter().any(|method| hooks.iter().any(|hook| method == hook)));
    let names = INTERFACES.map(|(name, _)| format_ident!("{name}"));
    item.items.push(parse_quote! {
        const HOOKS: ::guest_sdk::__private::Hooks = ::guest_sdk::__private::Hooks { #(#names: #written),* };
    });
    let exported = names.iter().zip(written).filter_map(|(name, written)| written.then_some(name));
    let plugin = &item.self_ty;
    Ok(quote! {
        #item

        // Nothing else refers to a plugin in a native build, where it is only checked and tested.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(<#plugin as ::guest_sdk::Plugin>::Config) -> ::guest_sdk::Result<#plugin> = <#plugin as ::guest_sdk::Plugin>::new;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = ::guest_sdk::__private::Exported<#plugin>;
            ::guest_sdk::__private::lifecycle::export!(Exported with_types_in ::guest_sdk::__private::lifecycle);
            #(::guest_sdk::__private::#exported::export!(Exported with_types_in ::guest_sdk::__private::#exported);)*
        };
    })
}

fn check_header(item: &ItemImpl) -> Result<()> {
    let name = item.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
    if name.is_none_or(|name| name.ident != "Plugin") {
        return Err(Error::new(item.self_ty.span(), "#[plugin] belongs on an `impl Plugin for …` block"));
    }
    if !item.generics.params.is_empty() {
        return Err(Error::new(
            item.generics.span(),
            "a plugin can't be generic: one component is one plugin",
        ));
    }
    Ok(())
}

fn methods(item: &ItemImpl) -> Vec<Ident> {
    let methods = item.items.iter().filter_map(|item| match item {
        ImplItem::Fn(method) => Some(method.sig.ident.clone()),
        _ => None,
    });
    methods.collect()
}

fn check_methods(methods: &[Ident]) -> Result<()> {
    let hooks: Vec<&str> = INTERFACES.iter().flat_map(|(_, hooks)| *hooks).copied().collect();
    for method in methods.iter().filter(|&method| method != "new") {
        let name = method.to_string();
        if !hooks.contains(&name.as_str()) {
            let known = hooks.join(", ");
            return Err(Error::new(
                method.span(),
                format!(
                    "a plugin has no hook `{name}`; there are: {known}. Other functions belong in an `impl` of their own"
                ),
            ));
        }
        if let Some((_, head)) = NEEDS.iter().find(|(body, _)| name == *body)
            && !methods.iter().any(|method| method == head)
        {
            return Err(Error::new(
                method.span(),
                format!(
                    "`{name}` would never be called: write `{head}`, which asks for the body with `whole_body()` or `body_in_pieces()`"
                ),
            ));
        }
    }
    Ok(())
}

/// Supplies what may be left out. (Defaults of associated types are unstable.)
fn fill_in(item: &mut ItemImpl, methods: &[Ident]) {
    let has =
        |name: &str| item.items.iter().any(|item| matches!(item, ImplItem::Type(ty) if ty.ident == name));
    let mut missing: Vec<ImplItem> = Vec::new();
    if !has("Config") {
        missing.push(parse_quote! { type Config = ::guest_sdk::NoConfig; });
        if !methods.iter().any(|method| method == "new") {
            missing.push(parse_quote! {
                fn new(_: Self::Config) -> ::guest_sdk::Result<Self> {
                    ::core::result::Result::Ok(::core::default::Default::default())
                }
            });
        }
    }
    if !has("State") {
        missing.push(parse_quote! { type State = (); });
    }
    if !has("Connection") {
        missing.push(parse_quote! { type Connection = (); });
    }
    item.items.append(&mut missing);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(item: TokenStream) -> String {
        plugin(TokenStream::new(), item).expect_err("this must not pass").to_string()
    }

    #[test]
    fn an_unknown_hook_is_named_with_those_there_are() {
        let text = error(quote! { impl Plugin for A { fn on_requst(&self) {} } });
        assert!(text.starts_with("a plugin has no hook `on_requst`; there are: on_request, "), "{text}");
    }

    #[test]
    fn a_body_hook_alone_is_refused() {
        let text = error(quote! { impl Plugin for A { fn on_response_body(&self) {} } });
        assert!(text.contains("write `on_response`"), "{text}");
    }

    #[test]
    fn it_belongs_on_a_plugin() {
        for item in [quote! { struct A; }, quote! { impl A {} }, quote! { impl Other for A {} }] {
            assert!(error(item).contains("impl Plugin for"));
        }
        assert!(error(quote! { impl<T> Plugin for A<T> {} }).contains("generic"));
    }

    #[test]
    fn only_what_is_written_is_exported() {
        let item = quote! { impl Plugin for A { fn on_message(&self) {} fn on_tick(&self) {} } };
        let code = plugin(TokenStream::new(), item).expect("it is a plugin").to_string();
        for exported in ["lifecycle", "websocket", "tick"] {
            assert!(code.contains(&format!("{exported} :: export !")), "{exported}: {code}");
        }
        assert!(!code.contains("request :: export !") && !code.contains("response :: export !"), "{code}");
    }
}
