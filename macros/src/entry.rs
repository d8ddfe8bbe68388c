//! `#[slackwater::main]`: adds a `fn main` that runs the application's function.

use proc_macro2::TokenStream;
use quote::{quote, ToTokens};
use syn::parse::{Parse, ParseStream};
use syn::{
    Error, FnArg, Ident, Item, ItemFn, ItemUse, LitStr, Path, Result, ReturnType, Token, UseTree,
};

const EXPECTED: &str = "put #[slackwater::main] on the `async fn` that creates the application, \
                        or on its import: `#[slackwater::main] use shop::app;`";

pub(crate) fn expand(arguments: TokenStream, item: &TokenStream) -> TokenStream {
    let main = syn::parse2(arguments).and_then(|Arguments { framework }| {
        let parsed =
            syn::parse2(item.clone()).map_err(|error| Error::new(error.span(), EXPECTED))?;
        Ok(main_function(&framework, &application(parsed)?))
    });
    match main {
        Ok(main) => quote! { #item #main },
        Err(error) => with_error(item, &error),
    }
}

/// Returns the item with the error and an empty `main`.
///
/// Without them rustc would report follow-up errors: a missing item wherever it is used, and a missing `main`.
fn with_error(item: &TokenStream, error: &Error) -> TokenStream {
    let error = error.to_compile_error();
    let is_main =
        syn::parse2::<ItemFn>(item.clone()).is_ok_and(|function| function.sig.ident == "main");
    let item = (!is_main).then_some(item);
    quote! { #item #error fn main() {} }
}

fn main_function(framework: &Path, application: &Ident) -> TokenStream {
    quote! {
        fn main() -> ::std::process::ExitCode {
            #framework::Runner::new(#application)
                .name(::core::option_env!("CARGO_BIN_NAME").unwrap_or(::core::env!("CARGO_PKG_NAME")))
                .version(::core::env!("CARGO_PKG_VERSION"))
                .run()
        }
    }
}

/// The argument `crate = "…"`: the name of the crate slackwater if it has another name.
pub(crate) struct Arguments {
    pub(crate) framework: Path,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.is_empty() {
            return Ok(Arguments {
                framework: syn::parse_quote!(::slackwater),
            });
        }
        let expected =
            |error: Error| Error::new(error.span(), "the only argument is `crate = \"NAME\"`");
        input.parse::<Token![crate]>().map_err(expected)?;
        input.parse::<Token![=]>().map_err(expected)?;
        let framework = input.parse::<LitStr>().map_err(expected)?.parse()?;
        input.parse::<Option<Token![,]>>()?;
        if input.is_empty() {
            Ok(Arguments { framework })
        } else {
            Err(expected(input.error("")))
        }
    }
}

/// Returns the name by which `main` calls the application.
fn application(item: Item) -> Result<Ident> {
    match item {
        Item::Fn(function) => name_of_function(&function),
        Item::Use(import) => name_of_import(&import),
        other => Err(Error::new_spanned(other, EXPECTED)),
    }
}

fn name_of_function(function: &ItemFn) -> Result<Ident> {
    let signature = &function.sig;
    let error =
        |at: &dyn ToTokens, message: &str| Err(Error::new_spanned(at.to_token_stream(), message));
    if signature.ident == "main" {
        return error(
            &signature.ident,
            "the macro adds a function `main`: call this function `app`",
        );
    }
    if signature.asyncness.is_none() {
        return error(
            &signature.fn_token,
            "the application's function must be async: write `async fn` here",
        );
    }
    if !signature.generics.params.is_empty() {
        return error(
            &signature.generics,
            "the function must not be generic: write the type of the settings",
        );
    }
    if let Some(FnArg::Receiver(receiver)) = signature.inputs.first() {
        return error(
            receiver,
            "the application's function cannot be a method: remove `self`",
        );
    }
    if let Some(third) = signature.inputs.iter().nth(2) {
        return error(
            third,
            "the function takes no more than two arguments: `()`, `(settings: Settings)` or `(settings: Settings, setup: Setup)`",
        );
    }
    match &signature.output {
        ReturnType::Default => error(
            &signature.ident,
            "the function must return an application: add `-> slackwater::Result<App>`",
        ),
        ReturnType::Type(..) => Ok(signature.ident.clone()),
    }
}

fn name_of_import(import: &ItemUse) -> Result<Ident> {
    let mut tree = &import.tree;
    loop {
        tree =
            match tree {
                UseTree::Path(path) => &path.tree,
                UseTree::Name(name) if name.ident != "main" && name.ident != "self" => {
                    return Ok(name.ident.clone())
                }
                UseTree::Rename(rename) if rename.rename != "main" && rename.rename != "_" => {
                    return Ok(rename.rename.clone())
                }
                other => return Err(Error::new_spanned(
                    other,
                    "import only the application's function, under a name other than `main`: `use shop::app;`",
                )),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "it is called with `quote!`")]
    fn expanded(arguments: TokenStream, item: TokenStream) -> String {
        expand(arguments, &item).to_string()
    }

    #[test]
    fn a_main_is_added_to_a_function_or_an_import() {
        for item in [
            quote! { async fn app() -> slackwater::Result<App> { made() } },
            quote! { pub async fn app(s: Settings, setup: Setup) -> slackwater::Result<App<Db>> { made() } },
            quote! { use shop::app; },
            quote! { pub use crate::shop::make as app; },
        ] {
            let text = expanded(quote!(), item.clone());
            assert!(text.starts_with(&item.to_string()), "{text}");
            assert!(
                text.contains(":: slackwater :: Runner :: new (app)"),
                "{text}"
            );
        }
    }

    #[test]
    fn slackwater_may_have_another_name() {
        let text = expanded(quote!(crate = "other::sw"), quote! { use shop::app; });
        assert!(
            text.contains("other :: sw :: Runner :: new (app)"),
            "{text}"
        );
    }

    #[test]
    fn the_error_for_an_invalid_item_states_the_fix() {
        for (arguments, item, message) in [
            (
                quote!(),
                quote! { fn app() -> Result<App> {} },
                "write `async fn` here",
            ),
            (
                quote!(),
                quote! { async fn main() -> Result<App> {} },
                "call this function `app`",
            ),
            (
                quote!(),
                quote! { async fn app(&self) -> Result<App> {} },
                "remove `self`",
            ),
            (
                quote!(),
                quote! { async fn app(a: A, b: B, c: C) -> Result<App> {} },
                "(settings: Settings, setup: Setup)",
            ),
            (
                quote!(),
                quote! { async fn app<T>(settings: T) -> Result<App> {} },
                "must not be generic",
            ),
            (
                quote!(),
                quote! { async fn app() {} },
                "add `-> slackwater::Result<App>`",
            ),
            (
                quote!(),
                quote! { use shop::{app, other}; },
                "import only the application's function",
            ),
            (
                quote!(),
                quote! { use shop::*; },
                "import only the application's function",
            ),
            (
                quote!(),
                quote! { use shop::main; },
                "under a name other than `main`",
            ),
            (quote!(), quote! { struct App; }, "on the `async fn`"),
            (
                quote!(name = "x"),
                quote! { use shop::app; },
                "the only argument is `crate",
            ),
            (
                quote!(crate = "sw", x),
                quote! { use shop::app; },
                "the only argument is `crate",
            ),
            (
                quote!(crate = "not a path"),
                quote! { use shop::app; },
                "unexpected token",
            ),
        ] {
            let text = expanded(arguments, item);
            assert!(text.contains(message), "{message}: {text}");
            assert!(text.ends_with("fn main () { }"), "{text}");
        }
    }
}
