//! The attribute macros of slackwater; use them through the `slackwater` crate.

mod entry;

use proc_macro::TokenStream;

/// Makes a program of an application's function: leaves the function as it is, and adds the `fn main` that runs it.
///
/// The function takes nothing, its settings, or its settings and a `Setup`, and gives a `slackwater::Result<App<S>>`.
/// The settings are whatever implements `serde::Deserialize`.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[slackwater::main]
/// async fn app() -> slackwater::Result<App> {
///     let mut app = App::new();
///     app.at("/").get(|_| async { Ok("Hello, world!") });
///     Ok(app)
/// }
/// ```
///
/// For an application in `lib.rs`, which tests and other programs can use as well, it stands in `main.rs` on the
/// import:
///
/// ```
/// # mod shop {
/// #     pub async fn app() -> slackwater::Result<slackwater::App> { Ok(slackwater::App::new()) }
/// # }
/// #[slackwater::main]
/// use shop::app;
/// ```
///
/// Where slackwater goes by another name: `#[slackwater::main(crate = "sw")]`.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    entry::expand(arguments.into(), item.into()).into()
}
