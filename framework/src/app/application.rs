//! [`App`]: the routes of an application, its background tasks, hooks and checks.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use tide::{Middleware, Server};

use super::check::Check;
use super::future::BoxFuture;
use super::hook::{hook, Hook, Task};
use super::route::Route;
use super::table::Table;
use super::typed::IntoRoutes;
use crate::error::Result;
use crate::http::bridge::CauseMiddleware;
use crate::sync::token::Token;

/// An application: its routes, background tasks, hooks and readiness checks.
///
/// `App` wraps a [`tide::Server`]: every tide endpoint and every tide middleware works. The state `S` is cloned for
/// each request, as in tide, so put large state behind an `Arc`.
///
/// An application is a function that returns an `App`. The framework calls this function at start and at each reload.
///
/// ```
/// use slackwater::prelude::*;
///
/// async fn app() -> slackwater::Result<App> {
///     let mut app = App::new();
///     app.at("/").get(|_| async { Ok("Hello, world!") });
///     Ok(app)
/// }
/// ```
pub struct App<S = ()> {
    pub(super) server: Server<S>,
    pub(super) coverage: TableCoverage,
    pub(super) table: Table,
    pub(super) tasks: Vec<Task>,
    pub(super) on_ready: Vec<Hook>,
    pub(super) on_drain: Vec<Hook>,
    pub(super) checks: Vec<Check>,
    #[cfg(feature = "openapi")]
    pub(super) documents: Vec<crate::openapi::Document>,
}

/// The routes that an application's table covers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TableCoverage {
    /// All routes: each was added through [`App::at`].
    Complete,
    /// Not necessarily all: the application called [`App::tide_mut`] and may have added routes there.
    Partial,
    /// None: the application created the tide server itself. That server also lacks the middleware [`CauseMiddleware`].
    External,
}

impl App<()> {
    /// Creates an application without state.
    #[must_use]
    pub fn new() -> Self {
        App::with_state(())
    }
}

impl Default for App<()> {
    fn default() -> Self {
        App::new()
    }
}

impl<S: Clone + Send + Sync + 'static> App<S> {
    /// Creates an application with a state. Handlers read it with `request.state()` or
    /// [`State<S>`](crate::State).
    ///
    /// ```
    /// #[derive(Clone)]
    /// struct Shop { name: String }
    ///
    /// let mut app = slackwater::App::with_state(Shop { name: "Corner".into() });
    /// app.at("/name").get(|request: slackwater::Request<Shop>| async move { Ok(request.state().name.clone()) });
    /// ```
    #[must_use]
    pub fn with_state(state: S) -> Self {
        let mut server = Server::with_state(state);
        server.with(CauseMiddleware);
        App::from_server(server, TableCoverage::Complete)
    }

    fn from_server(server: Server<S>, coverage: TableCoverage) -> Self {
        App {
            server,
            coverage,
            table: Table::default(),
            tasks: Vec::new(),
            on_ready: Vec::new(),
            on_drain: Vec::new(),
            checks: Vec::new(),
            #[cfg(feature = "openapi")]
            documents: Vec::new(),
        }
    }

    /// Returns the route of a path. Add endpoints to it.
    ///
    /// In the path, `:name` matches one segment and `*name` matches the rest of the path. `request.param("name")`
    /// returns the matched text without percent-decoding. Building the application fails if a method and path have
    /// two endpoints.
    ///
    /// ```
    /// # let mut app = slackwater::App::new();
    /// app.at("/greet/:name").get(|request: slackwater::Request<()>| async move {
    ///     Ok(format!("Hello, {}!", request.param("name")?))
    /// });
    /// ```
    pub fn at(&mut self, path: &str) -> Route<'_, S> {
        Route::new(self.server.at(path), &mut self.table)
    }

    /// Mounts typed routes under a path; see [`routes!`](crate::routes).
    ///
    /// To add a middleware for these routes alone, write `app.at("/admin").with(middleware).mount(routes![…])`.
    ///
    /// ```
    /// use slackwater::prelude::*;
    ///
    /// #[get("/:id")]
    /// async fn todo(id: u64) -> String { format!("todo {id}") }
    ///
    /// let mut app = App::new();
    /// app.mount("/todos", routes![todo]);         // GET /todos/7
    /// ```
    pub fn mount(&mut self, prefix: &str, routes: impl IntoRoutes<S>) -> &mut Self {
        self.at(prefix).mount(routes);
        self
    }

    /// Serves an OpenAPI 3.1 document of all typed routes as JSON, including routes that are added later; see
    /// [`openapi`](crate::openapi).
    #[cfg(feature = "openapi")]
    #[track_caller]
    pub fn openapi(&mut self, path: &str, api: crate::openapi::OpenApi) -> &mut Self {
        let document = crate::openapi::Document::new(api);
        let endpoint = document.endpoint();
        self.at(path).get(endpoint);
        self.documents.push(document);
        self
    }

    /// Adds a middleware to every route, including routes that are added later.
    ///
    /// ```
    /// # let mut app = slackwater::App::new();
    /// app.with(tide::utils::After(|mut response: slackwater::Response| async move {
    ///     response.insert_header("x-frame-options", "deny");
    ///     Ok(response)
    /// }));
    /// ```
    pub fn with(&mut self, middleware: impl Middleware<S>) -> &mut Self {
        self.server.with(middleware);
        self
    }

    /// Mounts another application under a path, with its tasks, hooks and checks. Its handlers see the path without the
    /// prefix.
    ///
    /// ```
    /// let mut api = slackwater::App::new();
    /// api.at("/version").get(|_| async { Ok("1") });
    ///
    /// let mut app = slackwater::App::new();
    /// app.nest("/api", api);          // GET /api/version
    /// ```
    #[track_caller]
    pub fn nest<T>(&mut self, prefix: &str, app: App<T>) -> &mut Self
    where
        T: Clone + Send + Sync + 'static,
    {
        let mut route = self.server.at(prefix);
        self.table.mount(route.path(), Location::caller());
        match app.coverage {
            TableCoverage::Complete => {}
            TableCoverage::Partial | TableCoverage::External => {
                self.table.add_unknown(route.path(), Location::caller());
            }
        }
        self.table.nest(route.path(), app.table);
        route.nest(app.server);
        self.tasks.extend(app.tasks);
        self.on_ready.extend(app.on_ready);
        self.on_drain.extend(app.on_drain);
        self.checks.extend(app.checks);
        #[cfg(feature = "openapi")]
        self.documents.extend(
            app.documents
                .into_iter()
                .map(|document| document.below(prefix)),
        );
        self
    }

    /// Returns the underlying tide server, for features that `App` has no method for.
    ///
    /// Routes added to it are served, but `APP routes` does not list them and duplicates are not detected. Do not
    /// keep a clone of the server: tide panics when a route is added while a clone exists.
    pub fn tide_mut(&mut self) -> &mut Server<S> {
        if self.coverage == TableCoverage::Complete {
            self.coverage = TableCoverage::Partial;
        }
        &mut self.server
    }

    /// Adds a background task.
    ///
    /// The task starts when the generation goes live. Its token is triggered when a reload replaces the generation or
    /// the process stops; the task must then return. After a reload the task may take any time. In a shutdown it is
    /// dropped, and named in the log, if it is still running after `shutdown.grace` and `shutdown.force_after`.
    ///
    /// ```
    /// # let mut app = slackwater::App::new();
    /// app.task("sweeper", |stop| async move {
    ///     while !stop.is_triggered() {
    ///         // remove expired sessions
    ///         async_std::future::timeout(std::time::Duration::from_secs(60), stop.wait()).await.ok();
    ///     }
    /// });
    /// ```
    pub fn task<F, Fut>(&mut self, name: impl Into<String>, start: F) -> &mut Self
    where
        F: FnOnce(Token) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        // `start` is called inside the future, so that a panic in the call counts as a panic of the task
        let start = Box::new(|stop| Box::pin(async { start(stop).await }) as _);
        self.tasks.push(Task {
            name: name.into(),
            start,
        });
        self
    }

    /// Adds a hook that runs before the generation goes live, such as a warm-up or a self-check.
    ///
    /// If the hook returns an error at start, the process exits. If it returns an error at a reload, the current
    /// generation stays live.
    ///
    /// ```
    /// # let mut app = slackwater::App::new();
    /// app.on_ready(|| async {
    ///     std::fs::metadata("templates").map_err(|error| format!("templates: {error}"))?;
    ///     Ok(())
    /// });
    /// ```
    pub fn on_ready<F, Fut>(&mut self, check: F) -> &mut Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.on_ready.push(hook(check));
        self
    }

    /// Adds a hook that runs when the generation begins to drain. After that the generation gets no new requests.
    pub fn on_drain<F, Fut>(&mut self, act: F) -> &mut Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.on_drain.push(hook(|| async {
            act().await;
            Ok(())
        }));
        self
    }

    /// Adds a readiness check, which runs for each request to `/readyz`.
    ///
    /// All checks run concurrently. If a check returns an error, panics or takes longer than `within`, the response
    /// is 503 and names the check. Other requests are served all the same: the load balancer decides where it sends
    /// them.
    ///
    /// Check only conditions that differ between instances. A check of a shared resource, such as a database, takes all
    /// instances out of the load balancer at once when that resource is down.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let mut app = slackwater::App::new();
    /// app.check("disk", Duration::from_secs(1), || async {
    ///     std::fs::metadata("uploads").map_err(|error| format!("uploads: {error}"))?;
    ///     Ok(())
    /// });
    /// ```
    pub fn check<F, Fut>(
        &mut self,
        name: impl Into<String>,
        within: Duration,
        check: F,
    ) -> &mut Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let run = Arc::new(move || Box::pin(check()) as BoxFuture<Result<()>>);
        self.checks.push(Check {
            name: name.into(),
            within,
            run,
        });
        self
    }
}

/// Wraps an existing tide server. Its routes are served, but `APP routes` does not list them.
///
/// ```
/// let mut server = tide::new();
/// server.at("/").get(|_| async { Ok("Hello") });
/// let app = slackwater::App::from(server);
/// ```
impl<S: Clone + Send + Sync + 'static> From<Server<S>> for App<S> {
    fn from(server: Server<S>) -> Self {
        App::from_server(server, TableCoverage::External)
    }
}

impl<S> fmt::Debug for App<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("routes", &self.table)
            .finish_non_exhaustive()
    }
}
