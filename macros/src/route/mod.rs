//! The route attributes: they add to a function a struct of the same name that implements `Handler`.

mod attribute;
mod function;
mod path;

#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Ident, ItemFn, Result};

use attribute::Attribute;
use function::{Argument, Function};

const EXPECTED: &str = "put a route attribute on an `async fn`";

/// Expands a route attribute. `fixed` is the method of an attribute such as `#[get]`; `#[route]` lists its methods itself.
pub(crate) fn expand(
    fixed: Option<&str>,
    arguments: TokenStream,
    item: &TokenStream,
) -> TokenStream {
    let handler = syn::parse2::<ItemFn>(item.clone())
        .map_err(|error| syn::Error::new(error.span(), EXPECTED))
        .and_then(|item| handler(fixed, arguments, &item));
    match handler {
        Ok(handler) => quote! { #item #handler },
        Err(error) => with_error(item, &error),
    }
}

/// Returns the item with the error and a handler for any state.
///
/// Without the handler rustc would report a follow-up error wherever the route is mounted.
fn with_error(item: &TokenStream, error: &syn::Error) -> TokenStream {
    let error = error.to_compile_error();
    let Ok(ItemFn { vis, sig, .. }) = syn::parse2::<ItemFn>(item.clone()) else {
        return quote! { #item #error };
    };
    let name = sig.ident;
    quote! {
        #item
        #error
        #[doc(hidden)]
        #[allow(non_camel_case_types, dead_code, missing_docs)]
        #vis struct #name {}
        impl<AnyState> ::slackwater::Handler<AnyState> for #name
        where
            AnyState: ::core::clone::Clone + ::core::marker::Send + ::core::marker::Sync + 'static,
        {
            const INFO: ::slackwater::RouteInfo = ::slackwater::__private::NO_ROUTE;
            async fn call(_: ::slackwater::Request<AnyState>) -> ::slackwater::Response { ::core::unreachable!() }
        }
    }
}

fn handler(fixed: Option<&str>, arguments: TokenStream, item: &ItemFn) -> Result<TokenStream> {
    let attribute = Attribute::parse(fixed, arguments)?;
    let function = Function::read(item, &attribute)?;
    let fw = &attribute.framework;
    let (name, vis) = (&function.name, &item.vis);
    let doc = format!("The route of [`{name}()`].");
    let info = info(&attribute, &function);
    let check = check_bodies(&attribute, &function);
    let state = &function.state;
    let generics = &function.handler_generics;
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (extractions, call) = extractions(&attribute, &function);
    let output = function.output_span;
    let response = quote_spanned! { output=> #fw::__private::answer(output) };
    Ok(quote! {
        #[doc = #doc]
        #[allow(non_camel_case_types, dead_code)]
        #vis struct #name {}

        impl #impl_generics #fw::Handler<#state> for #name #where_clause {
            const INFO: #fw::RouteInfo = #info;

            async fn call(request: #fw::Request<#state>) -> #fw::Response {
                #[allow(unused_mut)]
                let mut request = request;
                #extractions
                let output = #call.await;
                #response
            }
        }

        #check
    })
}

fn info(attribute: &Attribute, function: &Function) -> TokenStream {
    let fw = &attribute.framework;
    let methods = attribute
        .methods
        .iter()
        .map(|method| quote! { #fw::__private::Method::#method });
    let path = &attribute.path;
    let segments = attribute.segments.iter();
    let name = function.name.to_string();
    let doc = &function.doc;
    let extractors = function.arguments.iter().filter_map(Argument::extractor);
    let segment_types = function.arguments.iter().filter_map(Argument::segment_type);
    let output = &function.output;
    let describe = quote! {
        #fw::__describe!([#(#segment_types,)*] [#(#extractors,)*] #output)
    };
    quote! {
        #fw::__route_info!(
            &[#(#methods),*],
            #path,
            &[#(#segments),*],
            ::core::concat!(::core::module_path!(), "::", #name),
            #doc,
            (::core::file!(), ::core::line!()),
            #describe
        )
    }
}

/// Returns the code that extracts each argument or responds with its rejection, and the call of the function.
fn extractions(attribute: &Attribute, function: &Function) -> (TokenStream, TokenStream) {
    let fw = &attribute.framework;
    let state = &function.state;
    let mut extractions = TokenStream::new();
    let mut call_arguments = Vec::new();
    for (n, argument) in function.arguments.iter().enumerate() {
        let value = Ident::new(&format!("argument_{n}"), proc_macro2::Span::mixed_site());
        let extraction = match argument {
            Argument::Request => {
                call_arguments.push(quote! { request });
                continue;
            }
            Argument::Segment { name, kind } => quote_spanned! { kind.span()=>
                #fw::__private::argument::<_, #kind>(&request, #name)
            },
            Argument::Extractor(kind) => quote_spanned! { kind.span()=>
                <#kind as #fw::FromRequest<#state>>::from_route(
                    &mut request,
                    const { &<Self as #fw::Handler<#state>>::INFO },
                ).await
            },
        };
        extractions.extend(quote! {
            let #value = match #extraction {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(rejection) => {
                    return #fw::IntoResponse::into_response(rejection);
                }
            };
        });
        call_arguments.push(quote! { #value });
    }
    let (name, turbofish) = (&function.name, &function.turbofish);
    (
        extractions,
        quote! { #name #turbofish (#(#call_arguments),*) },
    )
}

/// Returns a compile-time check that at most one argument reads the body. The error points at the second such argument.
fn check_bodies(attribute: &Attribute, function: &Function) -> TokenStream {
    if !function.has_concrete_arguments() {
        // The types of the arguments are not known before the generic function is used.
        return TokenStream::new();
    }
    let fw = &attribute.framework;
    let state = function.state_or_unit();
    let extractors: Vec<_> = function
        .arguments
        .iter()
        .filter_map(Argument::extractor)
        .collect();
    let mut checks = TokenStream::new();
    for (n, later) in extractors.iter().enumerate().skip(1) {
        let earlier = &extractors[..n];
        let message = format!(
            "`{}` takes the body of the request twice, but a body can be read only once: take only one of `Json<T>`, \
             `Form<T>`, `String`, `Bytes` and `BodyStream`",
            function.name
        );
        checks.extend(quote_spanned! { later.span()=>
            const _: () = if <#later as #fw::FromRequest<#state>>::READS_BODY
                && (#(<#earlier as #fw::FromRequest<#state>>::READS_BODY)||*)
            {
                ::core::panic!(#message)
            };
        });
    }
    checks
}
