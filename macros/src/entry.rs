//! `#[slackwater::main]`: an application's function, or its import, and the `fn main` that runs it.

use proc_macro2::TokenStream;
use quote::{quote, ToTokens};
use syn::parse::{Parse, ParseStream};
use syn::{
    Error, FnArg, Ident, Item, ItemFn, ItemUse, LitStr, Path, Result, ReturnType, Token, UseTree,
};

const EXPECTED: &str = "#[slackwater::main] stands on the `async fn` that makes the application, \
                        or on its import: `#[slackwater::main] use shop::app;`";

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let main = syn::parse2(arguments).and_then(|Arguments { framework }| {
        let parsed =
            syn::parse2(item.clone()).map_err(|error| Error::new(error.span(), EXPECTED))?;
        Ok(main_function(&framework, &application(parsed)?))
    });
    match main {
        Ok(main) => quote! { #item #main },
        Err(error) => refused(&item, &error),
    }
}

/// One mistake, one error: the item stays known to what uses it, and rustc does not miss a `main` as well.
fn refused(item: &TokenStream, error: &Error) -> TokenStream {
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

/// `crate = "…"`: where slackwater goes by another name.
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

/// The name by which `main` calls the application.
fn application(item: Item) -> Result<Ident> {
    match item {
        Item::Fn(function) => of_function(&function),
        Item::Use(import) => of_import(&import),
        other => Err(Error::new_spanned(other, EXPECTED)),
    }
}

fn of_function(function: &ItemFn) -> Result<Ident> {
    let signature = &function.sig;
    let wrong = |at: &dyn ToTokens, why: &str| Err(Error::new_spanned(at.to_token_stream(), why));
    if signature.ident == "main" {
        return wrong(
            &signature.ident,
            "`main` is what the macro adds: call this function `app`",
        );
    }
    if signature.asyncness.is_none() {
        return wrong(
            &signature.fn_token,
            "the application is made by an `async fn`: write `async fn` here",
        );
    }
    if !signature.generics.params.is_empty() {
        return wrong(
            &signature.generics,
            "the function may not be generic: name the type of the settings",
        );
    }
    if let Some(FnArg::Receiver(receiver)) = signature.inputs.first() {
        return wrong(
            receiver,
            "the application is a function of its own, not a method: take no `self`",
        );
    }
    if let Some(third) = signature.inputs.iter().nth(2) {
        return wrong(
            third,
            "the function takes nothing, `(settings: Settings)` or `(settings: Settings, setup: Setup)`",
        );
    }
    match &signature.output {
        ReturnType::Default => wrong(
            &signature.ident,
            "the function gives an application: add `-> slackwater::Result<App>`",
        ),
        ReturnType::Type(..) => Ok(signature.ident.clone()),
    }
}

fn of_import(import: &ItemUse) -> Result<Ident> {
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
                    "import the application's function alone, by a name other than `main`: `use shop::app;`",
                )),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(arguments: TokenStream, item: TokenStream) -> String {
        expand(arguments, item).to_string()
    }

    #[test]
    fn a_function_or_an_import_is_left_as_it_is_and_gets_a_main() {
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
    fn what_cannot_be_run_is_told_what_to_write() {
        for (arguments, item, told) in [
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
                "take no `self`",
            ),
            (
                quote!(),
                quote! { async fn app(a: A, b: B, c: C) -> Result<App> {} },
                "(settings: Settings, setup: Setup)",
            ),
            (
                quote!(),
                quote! { async fn app<T>(settings: T) -> Result<App> {} },
                "may not be generic",
            ),
            (
                quote!(),
                quote! { async fn app() {} },
                "add `-> slackwater::Result<App>`",
            ),
            (
                quote!(),
                quote! { use shop::{app, other}; },
                "import the application's function alone",
            ),
            (
                quote!(),
                quote! { use shop::*; },
                "import the application's function alone",
            ),
            (
                quote!(),
                quote! { use shop::main; },
                "by a name other than `main`",
            ),
            (quote!(), quote! { struct App; }, "stands on the `async fn`"),
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
            assert!(text.contains(told), "{told}: {text}");
            assert!(text.ends_with("fn main () { }"), "{text}");
        }
    }
}
