//! The attribute macros of slackwater; use them through the `slackwater` crate.

mod entry;
mod route;
mod test;

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

/// Makes a test of an `async fn`; what it returns is what a test may return. It fails if it is not over after a minute.
///
/// It needs slackwater's feature `testing`, which belongs among the application's dev-dependencies.
///
/// ```ignore
/// use slackwater::testing;
///
/// #[slackwater::test]
/// async fn greets() -> slackwater::Result<()> {
///     let client = testing::client(shop::app).set("app.greeting", "Hi").start().await?;
///     assert_eq!(client.get("/greet/Ann").send().await?.text().await?, "Hi, Ann!");
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    test::expand(arguments.into(), item.into()).into()
}

/// One attribute for each method, all alike.
macro_rules! methods {
    ($($name:ident $method:literal $said:literal $also:literal,)*) => {
        $(
            #[doc = concat!("Makes a route for ", $said, " of an `async fn`", $also, ".")]
            ///
            /// Each argument is taken from the request: one named like a segment of the path is that segment, every other
            /// is an extractor. The function stays callable; beside it stands a struct of the same name, for `routes![…]`.
            ///
            /// ```
            /// use slackwater::prelude::*;
            ///
            #[doc = concat!("#[", stringify!($name), "(\"/notes/:id\")]")]
            /// async fn note(id: u64) -> String {
            ///     format!("note {id}")
            /// }
            ///
            /// let mut app = App::new();
            /// app.mount("/", routes![note]);
            /// ```
            ///
            /// After the path may stand `state = Shop`, where no argument `State<Shop>` says what application it is for,
            /// and `crate = "sw"`, where slackwater goes by another name.
            #[proc_macro_attribute]
            pub fn $name(arguments: TokenStream, item: TokenStream) -> TokenStream {
                route::expand(Some($method), arguments.into(), item.into()).into()
            }
        )*
    };
}

methods! {
    get "Get" "GET" ", which answers HEAD as well, unless that has a route of its own",
    post "Post" "POST" "",
    put "Put" "PUT" "",
    patch "Patch" "PATCH" "",
    delete "Delete" "DELETE" "",
    head "Head" "HEAD" "",
    options "Options" "OPTIONS" "",
}

/// Makes a route for several methods, or for any other, of an `async fn`; otherwise as `get`.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[route(GET, POST, "/search")]
/// async fn search() -> &'static str {
///     "found"
/// }
///
/// let mut app = App::new();
/// app.mount("/", routes![search]);
/// ```
#[proc_macro_attribute]
pub fn route(arguments: TokenStream, item: TokenStream) -> TokenStream {
    route::expand(None, arguments.into(), item.into()).into()
}
