//! The attribute macros of slackwater. The crate `slackwater` re-exports them.

mod entry;
mod route;
mod test;

use proc_macro::TokenStream;

/// Adds a `fn main` that runs the application's function. The function itself is not changed.
///
/// The function takes no argument, its settings, or its settings and a `Setup`, and returns a
/// `slackwater::Result<App<S>>`. The settings are any type that implements `serde::Deserialize`.
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
/// If the application is in `lib.rs`, so that tests and other programs can use it, put the attribute on the import in
/// `main.rs`:
///
/// ```
/// # mod shop {
/// #     pub async fn app() -> slackwater::Result<slackwater::App> { Ok(slackwater::App::new()) }
/// # }
/// #[slackwater::main]
/// use shop::app;
/// ```
///
/// If the crate has another name: `#[slackwater::main(crate = "sw")]`.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    entry::expand(arguments.into(), &item.into()).into()
}

/// Turns an `async fn` into a test. The test fails if it takes longer than a minute.
///
/// This needs slackwater's feature `testing`; enable it in the dev-dependencies.
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
    test::expand(arguments.into(), &item.into()).into()
}

/// Defines the attribute of each method.
macro_rules! methods {
    ($($name:ident $method:literal $upper:literal $note:literal,)*) => {
        $(
            #[doc = concat!("Turns an `async fn` into a route for ", $upper, $note, ".")]
            ///
            /// An argument that is named like a segment of the path receives that segment; every other argument is an
            /// extractor. The function stays callable. The attribute adds a struct of the same name, for `routes![…]`.
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
            /// Options after the path: `state = Shop` sets the state of the application if no argument has the type
            /// `State<Shop>`; `crate = "sw"` sets the name of the crate slackwater if it has another name.
            #[proc_macro_attribute]
            pub fn $name(arguments: TokenStream, item: TokenStream) -> TokenStream {
                route::expand(Some($method), arguments.into(), &item.into()).into()
            }
        )*
    };
}

methods! {
    get "Get" "GET" ", and for HEAD unless HEAD has its own route",
    post "Post" "POST" "",
    put "Put" "PUT" "",
    patch "Patch" "PATCH" "",
    delete "Delete" "DELETE" "",
    head "Head" "HEAD" "",
    options "Options" "OPTIONS" "",
}

/// Turns an `async fn` into a route for several methods, or for a method without its own attribute. See [`macro@get`].
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
    route::expand(None, arguments.into(), &item.into()).into()
}
