//! `#[slackwater::test]`: turns an `async fn` into a test.

use proc_macro2::TokenStream;
use quote::{quote, ToTokens};
use syn::{Error, ItemFn, Result};

use crate::entry::Arguments;

pub(crate) fn expand(arguments: TokenStream, item: &TokenStream) -> TokenStream {
    test(arguments, item).unwrap_or_else(|error| {
        let error = error.to_compile_error();
        quote! { #[allow(dead_code)] #item #error }
    })
}

fn test(arguments: TokenStream, item: &TokenStream) -> Result<TokenStream> {
    let Arguments { framework } = syn::parse2(arguments)?;
    let expected =
        |error: Error| Error::new(error.span(), "put #[slackwater::test] on an `async fn`");
    let ItemFn {
        attrs,
        vis,
        sig,
        block,
    } = syn::parse2(item.clone()).map_err(expected)?;
    if sig.asyncness.is_none() {
        return Err(Error::new_spanned(
            sig.fn_token,
            "write `async fn` here, or use `#[test]` for a test that is not async",
        ));
    }
    if let Some(argument) = sig.inputs.first() {
        return Err(Error::new_spanned(
            argument,
            "a test takes no arguments: create the client inside the test",
        ));
    }
    let (name, output) = (&sig.ident, sig.output.to_token_stream());
    Ok(quote! {
        #[::core::prelude::v1::test]
        #(#attrs)*
        #vis fn #name() #output {
            #framework::testing::block_on(async #block)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_async_function_becomes_a_test() {
        let text = expand(
            quote!(),
            &quote! { #[ignore] async fn greets() -> Result<()> { Ok(()) } },
        )
        .to_string();
        assert!(
            text.contains("# [ignore] fn greets () -> Result < () >"),
            "{text}"
        );
        assert!(
            text.contains(":: slackwater :: testing :: block_on (async {"),
            "{text}"
        );
        let text = expand(quote!(crate = "sw"), &quote! { async fn greets() {} }).to_string();
        assert!(text.contains("sw :: testing"), "{text}");
    }

    #[test]
    fn the_error_for_an_invalid_test_states_the_fix() {
        for (item, message) in [
            (quote! { fn greets() {} }, "write `async fn` here"),
            (
                quote! { async fn greets(client: Client) {} },
                "takes no arguments",
            ),
            (quote! { struct Greets; }, "on an `async fn`"),
        ] {
            let text = expand(quote!(), &item).to_string();
            assert!(text.contains(message), "{message}: {text}");
        }
    }
}
