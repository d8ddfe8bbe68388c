//! Typed routes: functions with a route attribute.
//!
//! `#[get("/greet/:name")]` defines a struct with the name of the function, which is possible because types and values
//! have separate namespaces. The struct implements [`Handler`]: it extracts each argument from the request, calls the
//! function and converts the returned value into a response. [`routes!`](crate::routes) collects such structs.

mod info;
mod routes;
pub(crate) mod support;

pub use info::RouteInfo;
pub(super) use routes::TypedRoute;
pub use routes::{IntoRoutes, Routes};

use std::future::Future;

use tide::{Request, Response};

/// A typed route. The route attributes implement this trait; applications rarely implement it.
///
/// ```
/// use slackwater::prelude::*;
/// use slackwater::Handler;
///
/// #[get("/greet/:name")]
/// async fn greet(name: String) -> String {
///     format!("Hello, {name}!")
/// }
///
/// let info = <greet as Handler<()>>::INFO;
/// assert_eq!((info.path(), info.methods()[0].as_ref()), ("/greet/:name", "GET"));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a route for an application with the state `{S}`",
    label = "not a route for the state `{S}`",
    note = "a route is an `async fn` with an attribute such as `#[get(\"/path\")]`; its state is the `T` of its argument \
            `State<T>`, or the type in `#[get(\"/path\", state = T)]`",
    note = "the application's state is the argument of `App::with_state(…)`: both must have the same type"
)]
pub trait Handler<S>: 'static {
    /// The description of the route.
    const INFO: RouteInfo;

    /// Answers a request. A rejection and an error are converted into a response.
    fn call(request: Request<S>) -> impl Future<Output = Response> + Send;
}
