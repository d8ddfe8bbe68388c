//! What the application hands in: its routes, its background tasks and its hooks.

mod answer;
mod build;
mod check;
mod extract;
mod files;
mod rejection;
mod request;
mod route;
pub mod sse;
mod table;
mod typed;
#[cfg(feature = "ws")]
pub mod ws;

pub use answer::{Created, Html, IntoResponse, NoContent, ResponsePart};
#[cfg(test)]
pub(crate) use build::wrapped;
#[cfg(feature = "dev")]
pub(crate) use build::BoxFuture;
pub use build::IntoApplication;
pub(crate) use build::{Application, Built, Hook, Task};
pub(crate) use check::Check;
#[cfg(feature = "cookies")]
pub use extract::Cookies;
pub use extract::{
    BodyStream, Draining, Form, FromRequest, Header, Json, Path, Peer, Query, State,
};
pub use rejection::{FieldError, Rejection};
pub use request::{BodyLimit, RequestExt};
pub use route::Route;
pub(crate) use table::Listed;
pub(crate) use typed::support;
pub use typed::{Handler, IntoRoutes, RouteInfo, Routes};

use std::fmt;
use std::future::Future;
use std::panic::Location;

use tide::{Middleware, Server};

use crate::error::Result;
use crate::http::bridge::KeepCause;
use crate::sync::token::Token;
use build::hook;
use table::Table;

/// An application: its routes and what lives as long as they do.
///
/// It owns a [`tide::Server`], and its routes are plain tide: any endpoint and any middleware of tide's works. The
/// state `S` is cloned for each request, as tide does it: keep what is large behind an `Arc`.
///
/// A function that returns one is all that an application has to be; it is called at start and again at each reload.
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
    server: Server<S>,
    origin: Origin,
    table: Table,
    tasks: Vec<Task>,
    on_ready: Vec<Hook>,
    on_drain: Vec<Hook>,
    checks: Vec<Check>,
    #[cfg(feature = "openapi")]
    documents: Vec<crate::openapi::Document>,
}

/// Whether all routes are known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Every route came through [`App::at`].
    Ours,
    /// Some may have been added through [`App::tide_mut`].
    Opened,
    /// The server was made elsewhere: our own middleware is not in it.
    Given,
}

impl App<()> {
    /// An application without state.
    ///
    /// ```
    /// let app = slackwater::App::new();
    /// ```
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
    /// An application whose handlers find `state` with `request.state()`.
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
        server.with(KeepCause);
        App::around(server, Origin::Ours)
    }

    fn around(server: Server<S>, origin: Origin) -> Self {
        App {
            server,
            origin,
            table: Table::default(),
            tasks: Vec::new(),
            on_ready: Vec::new(),
            on_drain: Vec::new(),
            checks: Vec::new(),
            #[cfg(feature = "openapi")]
            documents: Vec::new(),
        }
    }

    /// The route of a path, to give endpoints to.
    ///
    /// A segment `:name` matches one segment, `*name` the rest; `request.param("name")` gives what matched, as it was
    /// sent: it is not percent-decoded. Two endpoints for the same method and path are refused when the application
    /// is built.
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

    /// Puts typed routes under a path; see [`routes!`](crate::routes).
    ///
    /// For routes with a middleware of their own, `app.at("/admin").with(middleware).mount(routes![…])`.
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

    /// Serves the description of all typed routes, also of those that come later, in OpenAPI 3.1 as JSON.
    ///
    /// ```
    /// use slackwater::{openapi::OpenApi, App};
    ///
    /// let mut app = App::new();
    /// app.openapi("/openapi.json", OpenApi::new("Todos", "1.0.0"));
    /// ```
    #[cfg(feature = "openapi")]
    #[track_caller]
    pub fn openapi(&mut self, path: &str, api: crate::openapi::OpenApi) -> &mut Self {
        let document = crate::openapi::Document::new(api);
        let endpoint = document.endpoint();
        self.at(path).get(endpoint);
        self.documents.push(document);
        self
    }

    /// Adds a middleware for every route, also those that are added later.
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

    /// Puts another application under a path; its tasks and hooks come along. Its handlers see the rest of the path.
    ///
    /// ```
    /// let mut api = slackwater::App::new();
    /// api.at("/version").get(|_| async { Ok("1") });
    ///
    /// let mut app = slackwater::App::new();
    /// app.nest("/api", api);          // GET /api/version
    /// ```
    #[track_caller]
    pub fn nest<Inner>(&mut self, prefix: &str, app: App<Inner>) -> &mut Self
    where
        Inner: Clone + Send + Sync + 'static,
    {
        let mut route = self.server.at(prefix);
        self.table.mount(route.path(), Location::caller());
        match app.origin {
            Origin::Ours => {}
            Origin::Opened | Origin::Given => {
                self.table.add_unknown(route.path(), Location::caller());
            }
        }
        self.table.take_in(route.path(), app.table);
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

    /// The tide server itself: the way out, for what this type has no method for.
    ///
    /// Routes that are added here are served, but `APP routes` cannot list them and collisions are not seen. Do not
    /// keep a clone of the server: adding a route after that panics.
    ///
    /// ```
    /// # let mut app = slackwater::App::new();
    /// let server: &mut tide::Server<()> = app.tide_mut();
    /// ```
    pub fn tide_mut(&mut self) -> &mut Server<S> {
        if self.origin == Origin::Ours {
            self.origin = Origin::Opened;
        }
        &mut self.server
    }

    /// A background task of this generation: started when it goes live, told to stop through its token when it
    /// retires, and then waited for. One that has not stopped when a shutdown ends (`shutdown.grace` and
    /// `shutdown.force_after`) is cut, and named in the log; after a reload it may take as long as it likes.
    ///
    /// ```
    /// # let mut app = slackwater::App::new();
    /// app.task("sweeper", |stop| async move {
    ///     stop.wait().await;
    /// });
    /// ```
    pub fn task<F, Fut>(&mut self, name: impl Into<String>, start: F) -> &mut Self
    where
        F: FnOnce(Token) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        // called within the future: a panic of the call is the task's, too
        let start = Box::new(|stop| Box::pin(async { start(stop).await }) as _);
        self.tasks.push(Task {
            name: name.into(),
            start,
        });
        self
    }

    /// Runs before this generation goes live: a warm-up or a self-check. An error refuses the generation, which at
    /// start ends the process and at a reload leaves everything as it was.
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

    /// Runs when this generation begins to finish: after it no new request comes.
    ///
    /// ```
    /// # let mut app = slackwater::App::new();
    /// app.on_drain(|| async { log::info!("going") });
    /// ```
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
}

/// Takes a server that was made elsewhere. Its routes are served, but not listed.
///
/// ```
/// let mut server = tide::new();
/// server.at("/").get(|_| async { Ok("Hello") });
/// let app = slackwater::App::from(server);
/// ```
impl<S: Clone + Send + Sync + 'static> From<Server<S>> for App<S> {
    fn from(server: Server<S>) -> Self {
        App::around(server, Origin::Given)
    }
}

impl<S> fmt::Debug for App<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("routes", &self.table)
            .finish_non_exhaustive()
    }
}
