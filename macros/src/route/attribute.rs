//! Parses the arguments of a route attribute: methods, path and options.

use proc_macro2::TokenStream;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Error, Ident, LitStr, Path, Result, Token, Type};

use super::path;

/// The arguments of a route attribute.
pub(super) struct Attribute {
    /// The methods as tide spells them: `Get`.
    pub(super) methods: Vec<Ident>,
    pub(super) path: LitStr,
    /// The names of the segments in the path.
    pub(super) segments: Vec<String>,
    /// `crate = "…"`: the path of the crate slackwater.
    pub(super) framework: Path,
    /// `state = T`: the state of the application.
    pub(super) state: Option<Type>,
}

const METHODS: [(&str, &str); 9] = [
    ("GET", "Get"),
    ("POST", "Post"),
    ("PUT", "Put"),
    ("PATCH", "Patch"),
    ("DELETE", "Delete"),
    ("HEAD", "Head"),
    ("OPTIONS", "Options"),
    ("TRACE", "Trace"),
    ("CONNECT", "Connect"),
];

impl Attribute {
    pub(super) fn parse(fixed: Option<&str>, arguments: TokenStream) -> Result<Self> {
        (|input: ParseStream<'_>| Attribute::read(fixed, input)).parse2(arguments)
    }

    fn read(fixed: Option<&str>, input: ParseStream<'_>) -> Result<Self> {
        let methods = match fixed {
            Some(method) => vec![Ident::new(method, proc_macro2::Span::call_site())],
            None => methods(input)?,
        };
        let missing = match fixed {
            Some(method) => format!(
                "the path is missing: write #[{}(\"/path\")]",
                method.to_lowercase()
            ),
            None => "the path is missing: write #[route(GET, POST, \"/path\")]".to_owned(),
        };
        let path: LitStr = input
            .parse()
            .map_err(|error| Error::new(error.span(), missing))?;
        let segments =
            path::segments(&path.value()).map_err(|message| Error::new(path.span(), message))?;
        let framework = syn::parse_quote!(::slackwater);
        let mut attribute = Attribute {
            methods,
            path,
            segments,
            framework,
            state: None,
        };
        while input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            attribute.option(input)?;
        }
        if input.is_empty() {
            Ok(attribute)
        } else {
            Err(input.error("write a comma between the path and an option"))
        }
    }

    fn option(&mut self, input: ParseStream<'_>) -> Result<()> {
        let ahead = input.fork();
        if input.parse::<Option<Token![crate]>>()?.is_some() {
            input.parse::<Token![=]>()?;
            self.framework = input.parse::<LitStr>()?.parse()?;
            return Ok(());
        }
        match input.parse::<Ident>() {
            Ok(option) if option == "state" => {
                input.parse::<Token![=]>()?;
                self.state = Some(input.parse()?);
                Ok(())
            }
            _ => {
                Err(ahead
                    .error("the options after the path are `state = TYPE` and `crate = \"NAME\"`"))
            }
        }
    }
}

/// Parses `GET, POST,` before the path.
fn methods(input: ParseStream<'_>) -> Result<Vec<Ident>> {
    let mut methods = Vec::new();
    while !input.peek(LitStr) {
        let method = Ident::parse(input).map_err(|error| {
            Error::new(
                error.span(),
                "write methods, then the path: #[route(GET, POST, \"/path\")]",
            )
        })?;
        let known = METHODS
            .iter()
            .find(|(name, _)| method == name)
            .ok_or_else(|| {
                let upper = method.to_string().to_uppercase();
                match METHODS.iter().any(|(name, _)| *name == upper) {
                    true => Error::new(
                        method.span(),
                        format!("write methods in capital letters: {upper}"),
                    ),
                    false => Error::new(
                        method.span(),
                        format!(
                            "the method `{method}` is not known; the methods are {}",
                            method_names()
                        ),
                    ),
                }
            })?;
        let known = Ident::new(known.1, method.span());
        if methods.contains(&known) {
            return Err(Error::new(method.span(), "this method is listed twice"));
        }
        methods.push(known);
        input.parse::<Option<Token![,]>>()?;
    }
    if methods.is_empty() {
        return Err(input.error("the methods are missing: write #[route(GET, POST, \"/path\")]"));
    }
    Ok(methods)
}

fn method_names() -> String {
    METHODS.map(|(name, _)| name).join(", ")
}
