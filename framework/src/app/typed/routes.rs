//! Collections of typed routes, for mounting.

use std::fmt;
use std::marker::PhantomData;

use tide::{Endpoint, Request};

use super::{Handler, RouteInfo};

/// A collection of typed routes for [`App::mount`](crate::App::mount). [`routes!`](crate::routes) creates it.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[get("/")]
/// async fn index() -> &'static str { "Hello" }
///
/// let mut app = App::new();
/// app.mount("/", slackwater::Routes::new().with::<index>());      // the same as routes![index]
/// ```
pub struct Routes<S>(Vec<TypedRoute<S>>);

/// A collection of routes that can be mounted in an application with the state `S`: [`Routes<S>`]. Applications do not
/// implement this trait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be mounted in an application with the state `{S}`",
    label = "these routes are for another state",
    note = "the state of a route is the `T` of its argument `State<T>`, or the type in `#[get(\"/path\", state = T)]`: \
            write `State<{S}>` there",
    note = "or create the application with the state of the routes: `App::with_state(…)`; `App::new()` has the state `()`",
    note = "to combine routes with different states, nest a second application: `app.nest(\"/path\", App::with_state(…))`"
)]
pub trait IntoRoutes<S> {
    #[doc(hidden)]
    fn into_routes(self) -> Routes<S>;
}

impl<S> IntoRoutes<S> for Routes<S> {
    fn into_routes(self) -> Routes<S> {
        self
    }
}

/// A typed route, and the function that adds its endpoints to a tide route.
pub(in crate::app) struct TypedRoute<S> {
    pub(in crate::app) info: RouteInfo,
    pub(in crate::app) add: fn(&mut tide::Route<'_, S>),
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// Creates an empty collection.
    #[must_use]
    pub fn new() -> Self {
        Routes(Vec::new())
    }

    /// Adds a route.
    #[must_use]
    pub fn with<H: Handler<S>>(mut self) -> Self {
        self.0.push(TypedRoute {
            info: H::INFO,
            add: add::<S, H>,
        });
        self
    }
}

impl<S> Routes<S> {
    pub(in crate::app) fn into_inner(self) -> Vec<TypedRoute<S>> {
        self.0
    }
}

fn add<S: Clone + Send + Sync + 'static, H: Handler<S>>(route: &mut tide::Route<'_, S>) {
    for method in H::INFO.methods() {
        route.method(*method, TypedEndpoint::<H>(PhantomData));
    }
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Routes::new()
    }
}

impl<S> fmt::Debug for Routes<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|route| route.info))
            .finish()
    }
}

/// Adapts a [`Handler`] to a tide endpoint.
struct TypedEndpoint<H>(PhantomData<fn() -> H>);

#[tide::utils::async_trait]
impl<S: Clone + Send + Sync + 'static, H: Handler<S>> Endpoint<S> for TypedEndpoint<H> {
    async fn call(&self, request: Request<S>) -> tide::Result {
        Ok(H::call(request).await)
    }
}

/// Collects typed routes: functions with a route attribute, named by their paths.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[get("/")]
/// async fn list() -> &'static str { "none" }
///
/// mod todo {
///     use slackwater::prelude::*;
///
///     #[post("/")]
///     pub async fn create(text: String) -> String { text }
/// }
///
/// let mut app = App::new();
/// app.mount("/todos", routes![list, todo::create]);
/// ```
#[macro_export]
macro_rules! routes {
    ($($route:ty),* $(,)?) => { $crate::Routes::new()$(.with::<$route>())* };
}
