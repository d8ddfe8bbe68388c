//! Typed routes: a function with an attribute, what is known of it, and how it is mounted.
//!
//! `#[get("/greet/:name")]` puts a struct of the function's name beside the function (types and values do not share
//! names), which implements [`Handler`]: each argument is taken from the request, the function is called, and what it
//! gives is turned into a response. [`routes!`](crate::routes) collects such structs.

mod info;
mod routes;
pub(crate) mod support;

pub use info::RouteInfo;
pub(super) use routes::TypedRoute;
pub use routes::{IntoRoutes, Routes};

use std::future::Future;

use tide::{Request, Response};

/// A route: what the route attributes make of a function. It is not for others to implement, though they may.
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
    message = "`{Self}` is no route of an application with the state `{S}`",
    label = "not a route for the state `{S}`",
    note = "a route is an `async fn` with an attribute such as `#[get(\"/path\")]`; its state is the `T` of its argument \
            `State<T>`, or what `#[get(\"/path\", state = T)]` names",
    note = "the application's state is what `App::with_state(…)` was given: both have to be the same type"
)]
pub trait Handler<S>: 'static {
    /// Its methods, its path, and where it stands.
    const INFO: RouteInfo;

    /// Answers one request. It never fails: a rejection is a response.
    fn call(request: Request<S>) -> impl Future<Output = Response> + Send;
}
