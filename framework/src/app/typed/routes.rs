//! Typed routes, collected to be mounted.

use std::fmt;
use std::marker::PhantomData;

use tide::{Endpoint, Request};

use super::{Handler, RouteInfo};

/// The typed routes of one place, for [`App::mount`](crate::App::mount); [`routes!`](crate::routes) makes them.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[get("/")]
/// async fn index() -> &'static str { "Hello" }
///
/// let mut app = App::new();
/// app.mount("/", slackwater::Routes::new().with::<index>());      // as routes![index] writes it
/// ```
pub struct Routes<S>(Vec<TypedRoute<S>>);

/// What can be mounted in an application with the state `S`: [`Routes`] for that state. It is not for others to implement.
///
/// ```
/// fn mountable(routes: impl slackwater::IntoRoutes<u64>) {}
/// mountable(slackwater::Routes::<u64>::new());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be mounted in an application with the state `{S}`",
    label = "these are for another state",
    note = "the state of a route is the `T` of its argument `State<T>`, or what `#[get(\"/path\", state = T)]` names: \
            write `State<{S}>` there",
    note = "or give the application that state: `App::with_state(…)`; `App::new()` has the state `()`",
    note = "routes of an application with another state can be put beside: `app.nest(\"/path\", App::with_state(…))`"
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

/// One of them: what it is, and the function that gives it to its path.
pub(in crate::app) struct TypedRoute<S> {
    pub(in crate::app) info: RouteInfo,
    pub(in crate::app) add: fn(&mut tide::Route<'_, S>),
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// None yet.
    ///
    /// ```
    /// let routes = slackwater::Routes::<()>::new();
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Routes(Vec::new())
    }

    /// And this one.
    ///
    /// ```
    /// # use slackwater::prelude::*;
    /// # #[get("/")] async fn index() -> &'static str { "Hello" }
    /// let routes = slackwater::Routes::<()>::new().with::<index>();
    /// ```
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
        route.method(*method, Typed::<H>(PhantomData));
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

/// A handler as tide's endpoint.
struct Typed<H>(PhantomData<fn() -> H>);

#[tide::utils::async_trait]
impl<S: Clone + Send + Sync + 'static, H: Handler<S>> Endpoint<S> for Typed<H> {
    async fn call(&self, request: Request<S>) -> tide::Result {
        Ok(H::call(request).await)
    }
}

/// The routes named: functions with a route attribute, by their paths.
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
