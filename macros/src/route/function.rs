//! Reads the function under a route attribute: its arguments and the state of the application.

use proc_macro2::{Span, TokenStream};
use quote::{quote, ToTokens};
use syn::spanned::Spanned;
use syn::{
    parse_quote, Error, Expr, ExprLit, FnArg, GenericArgument, GenericParam, Generics, Ident,
    ItemFn, Lit, Meta, Pat, PatType, PathArguments, Result, ReturnType, Type,
};

use super::attribute::Attribute;

/// The parts of the function that the handler is generated from.
pub(super) struct Function {
    pub(super) name: Ident,
    pub(super) doc: String,
    pub(super) arguments: Vec<Argument>,
    pub(super) output: Type,
    pub(super) output_span: Span,
    /// The state of the application.
    pub(super) state: Type,
    /// The generic parameters of the handler's `impl`: those of the function, or a parameter for the state.
    pub(super) handler_generics: Generics,
    /// The turbofish of a call, if the function is generic.
    pub(super) turbofish: TokenStream,
    scope: Scope,
}

/// The applications that can mount the route.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    OneState,
    AnyState,
    /// Any state that satisfies the bounds of the generic function.
    Generic,
}

/// An argument of the function.
pub(super) enum Argument {
    /// An argument that is named like a segment of the path.
    Segment {
        name: String,
        kind: Type,
    },
    Extractor(Type),
    /// The request itself, which must be the last argument.
    Request,
}

impl Argument {
    pub(super) fn extractor(&self) -> Option<&Type> {
        match self {
            Argument::Extractor(kind) => Some(kind),
            _ => None,
        }
    }

    /// Returns the name and the type of a segment, for the description of the route.
    pub(super) fn segment_type(&self) -> Option<TokenStream> {
        match self {
            Argument::Segment { name, kind } => Some(quote! { (#name, #kind) }),
            _ => None,
        }
    }
}

impl Function {
    pub(super) fn read(item: &ItemFn, attribute: &Attribute) -> Result<Self> {
        let signature = &item.sig;
        if signature.asyncness.is_none() {
            return Err(Error::new_spanned(
                signature.fn_token,
                "a route must be async: write `async fn` here",
            ));
        }
        let count = signature.inputs.len();
        let arguments = signature
            .inputs
            .iter()
            .enumerate()
            .map(|(n, input)| argument(input, attribute, n + 1 == count))
            .collect::<Result<Vec<_>>>()?;
        check_segments(attribute, item, &arguments)?;
        let output = match &signature.output {
            ReturnType::Default => parse_quote!(()),
            ReturnType::Type(_, kind) => (**kind).clone(),
        };
        let output_span = match &signature.output {
            ReturnType::Default => signature.ident.span(),
            ReturnType::Type(_, kind) => kind.span(),
        };
        let state = attribute.state.clone().or_else(|| {
            signature
                .inputs
                .iter()
                .find_map(|input| state_of(input, attribute))
        });
        let (scope, state, handler_generics) = scope(signature, state)?;
        let turbofish = match scope {
            Scope::Generic => signature
                .generics
                .split_for_impl()
                .1
                .as_turbofish()
                .to_token_stream(),
            _ => TokenStream::new(),
        };
        Ok(Function {
            name: signature.ident.clone(),
            doc: doc(item),
            arguments,
            output,
            output_span,
            state,
            handler_generics,
            turbofish,
            scope,
        })
    }

    /// Returns true if the function is not generic.
    pub(super) fn has_concrete_arguments(&self) -> bool {
        self.scope != Scope::Generic
    }

    /// Returns a state with which constants of extractors can be evaluated that do not depend on the state.
    pub(super) fn state_or_unit(&self) -> Type {
        match self.scope {
            Scope::AnyState => parse_quote!(()),
            Scope::OneState | Scope::Generic => self.state.clone(),
        }
    }
}

fn scope(signature: &syn::Signature, state: Option<Type>) -> Result<(Scope, Type, Generics)> {
    let own = &signature.generics;
    if let Some(lifetime) = own
        .params
        .iter()
        .find(|param| matches!(param, GenericParam::Lifetime(_)))
    {
        return Err(Error::new_spanned(
            lifetime,
            "a route cannot have lifetime parameters: take owned arguments",
        ));
    }
    match (own.params.is_empty(), state) {
        (true, Some(state)) => Ok((Scope::OneState, state, Generics::default())),
        (true, None) => {
            let generics = parse_quote!(<AnyState: ::core::clone::Clone + ::core::marker::Send + ::core::marker::Sync + 'static>);
            Ok((Scope::AnyState, parse_quote!(AnyState), generics))
        }
        (false, Some(state)) => Ok((Scope::Generic, state, own.clone())),
        (false, None) => Err(Error::new_spanned(
            own,
            "a generic route must take its state as an argument `State<S>`, so that the application determines `S`",
        )),
    }
}

fn argument(input: &FnArg, attribute: &Attribute, is_last: bool) -> Result<Argument> {
    let PatType { pat, ty, .. } = match input {
        FnArg::Typed(typed) => typed,
        FnArg::Receiver(receiver) => {
            return Err(Error::new_spanned(
                receiver,
                "a route cannot be a method: remove `self`, and take the state as an argument `State<S>`",
            ));
        }
    };
    if let Type::Reference(reference) = &**ty {
        return Err(Error::new_spanned(
            reference,
            format!(
                "a route cannot take a reference: write `{}`",
                owned(&reference.elem)
            ),
        ));
    }
    if let Type::ImplTrait(opaque) = &**ty {
        return Err(Error::new_spanned(
            opaque,
            "a route cannot take an `impl Trait`: write the type",
        ));
    }
    if last_segment(ty).is_some_and(|segment| segment.ident == "Request") {
        if !is_last {
            return Err(Error::new_spanned(
                ty,
                "the request must be the last argument",
            ));
        }
        return Ok(Argument::Request);
    }
    if let Pat::Ident(name) = &**pat {
        let name = name.ident.to_string();
        if attribute.segments.contains(&name) {
            return Ok(Argument::Segment {
                name,
                kind: (**ty).clone(),
            });
        }
    }
    Ok(Argument::Extractor((**ty).clone()))
}

/// Returns the owned type for a reference.
fn owned(borrowed: &Type) -> String {
    match borrowed.to_token_stream().to_string().as_str() {
        "str" => "String".to_owned(),
        "[u8]" => "Bytes".to_owned(),
        other => other.replace(' ', ""),
    }
}

fn check_segments(attribute: &Attribute, item: &ItemFn, arguments: &[Argument]) -> Result<()> {
    let takes_all = arguments.iter().any(|argument| match argument {
        Argument::Request => true,
        Argument::Extractor(kind) => mentions_path(kind),
        Argument::Segment { .. } => false,
    });
    let has_argument = |segment: &String| {
        arguments
            .iter()
            .any(|argument| matches!(argument, Argument::Segment { name, .. } if name == segment))
    };
    match attribute.segments.iter().find(|segment| !takes_all && !has_argument(segment)) {
        None => Ok(()),
        Some(segment) => Err(Error::new(
            attribute.path.span(),
            format!(
                "the segment `:{segment}` has no argument: add `{segment}: String`, or another type that implements \
                 `serde::Deserialize`, to `{}`; or take all segments as a single argument `Path<T>`",
                item.sig.ident
            ),
        )),
    }
}

/// Returns true for `Path<T>`, also within `Option` and `Result`.
fn mentions_path(kind: &Type) -> bool {
    last_segment(kind).is_some_and(|segment| {
        segment.ident == "Path" || first_argument(segment).is_some_and(mentions_path)
    })
}

/// Returns the state in the type of an argument: the `S` of `State<S>` or `Request<S>`.
fn state_of(input: &FnArg, attribute: &Attribute) -> Option<Type> {
    let FnArg::Typed(PatType { ty, .. }) = input else {
        return None;
    };
    let segment = last_segment(ty)?;
    let fw = &attribute.framework;
    match segment.ident.to_string().as_str() {
        "State" => first_argument(segment).cloned(),
        "Request" => Some(match first_argument(segment) {
            Some(state) => state.clone(),
            // A type alias of the application for `Request<S>`.
            None => parse_quote!(<#ty as #fw::__private::HasState>::State),
        }),
        _ => None,
    }
}

fn last_segment(kind: &Type) -> Option<&syn::PathSegment> {
    match kind {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

fn first_argument(segment: &syn::PathSegment) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(kind) => Some(kind),
        _ => None,
    })
}

/// Returns the doc comment without the space at the beginning of each line.
fn doc(item: &ItemFn) -> String {
    let lines = item
        .attrs
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(text),
                    ..
                }) => {
                    let text = text.value();
                    Some(text.strip_prefix(' ').unwrap_or(&text).to_owned())
                }
                _ => None,
            },
            _ => None,
        });
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}
