//! [`Route`]: a path of an application, and its endpoints.

use std::fmt;
use std::io;
use std::panic::Location;
use std::path::Path;

use tide::http::Method;
use tide::{Endpoint, Middleware, Server};

use super::files::MapFileErrors;
use super::table::{MethodFilter, RouteSource, Table};
use super::typed::{IntoRoutes, TypedRoute};

/// A path of an [`App`](crate::App). It has at most one endpoint for each method.
///
/// `Route` wraps tide's route and records each endpoint, so that `APP routes` can list it and duplicates are detected.
///
/// ```
/// # let mut app = slackwater::App::new();
/// app.at("/note")
///     .get(|_| async { Ok("read") })
///     .put(|_| async { Ok("written") });
/// ```
pub struct Route<'a, S> {
    route: tide::Route<'a, S>,
    table: &'a mut Table,
}

impl<'a, S: Clone + Send + Sync + 'static> Route<'a, S> {
    pub(super) fn new(route: tide::Route<'a, S>, table: &'a mut Table) -> Self {
        Route { route, table }
    }

    /// Returns the route of a path below this path, with the same middleware.
    ///
    /// ```
    /// # let mut app = slackwater::App::new();
    /// let mut api = app.at("/api");
    /// api.at("/version").get(|_| async { Ok("1") });      // GET /api/version
    /// ```
    pub fn at<'b>(&'b mut self, path: &str) -> Route<'b, S> {
        Route {
            route: self.route.at(path),
            table: &mut *self.table,
        }
    }

    /// Returns the path, with the names of its parameters.
    #[must_use]
    pub fn path(&self) -> &str {
        self.route.path()
    }

    /// Adds a middleware to the endpoints that are added after this call.
    ///
    /// ```
    /// # let mut app = slackwater::App::new();
    /// app.at("/upload").with(slackwater::BodyLimit::none()).post(|_| async { Ok("taken") });
    /// ```
    pub fn with(&mut self, middleware: impl Middleware<S>) -> &mut Self {
        self.route.with(middleware);
        self
    }

    /// Removes the middleware of this route. Middleware of the application stays.
    pub fn reset_middleware(&mut self) -> &mut Self {
        self.route.reset_middleware();
        self
    }

    /// Mounts typed routes under this path, with its middleware.
    ///
    /// ```
    /// use slackwater::{prelude::*, BodyLimit};
    ///
    /// #[put("/avatar")]
    /// async fn avatar(image: slackwater::Bytes) -> String { format!("{} bytes", image.len()) }
    ///
    /// let mut app = App::new();
    /// app.at("/").with(BodyLimit::bytes(256 << 10)).mount(routes![avatar]);
    /// ```
    pub fn mount(&mut self, routes: impl IntoRoutes<S>) -> &mut Self {
        for TypedRoute { info, add } in routes.into_routes().into_inner() {
            let mut route = match info.path().trim_start_matches('/') {
                "" => self.route.at("/"),
                path => self.route.at(path),
            };
            add(&mut route);
            for method in info.methods() {
                self.table.add(
                    MethodFilter::One(*method),
                    route.path(),
                    RouteSource::Function(info),
                );
            }
        }
        self
    }

    /// Mounts a tide server under this path. Its handlers see the path without the prefix.
    ///
    /// `APP routes` cannot list its routes. To mount an [`App`](crate::App), use [`App::nest`](crate::App::nest).
    #[track_caller]
    pub fn nest<T>(&mut self, server: Server<T>) -> &mut Self
    where
        T: Clone + Send + Sync + 'static,
    {
        self.table.mount(self.route.path(), Location::caller());
        self.table
            .add_unknown(self.route.path(), Location::caller());
        self.route.nest(server);
        self
    }

    /// Serves the files of a directory below this path, for GET and HEAD.
    ///
    /// # Errors
    /// The directory does not exist or is not readable.
    #[track_caller]
    pub fn serve_dir(&mut self, directory: impl AsRef<Path>) -> io::Result<()> {
        let prefix = self.route.path().to_owned();
        self.route
            .at("")
            .with(MapFileErrors { prefix })
            .serve_dir(directory)?;
        let files = self.route.at("*");
        self.table.add(
            MethodFilter::One(Method::Get),
            files.path(),
            Location::caller(),
        );
        Ok(())
    }

    /// Serves one file at this path, for GET and HEAD.
    ///
    /// # Errors
    /// The file's path cannot be resolved.
    #[track_caller]
    pub fn serve_file(&mut self, file: impl AsRef<Path>) -> io::Result<()> {
        self.route.serve_file(file)?;
        self.table.add(
            MethodFilter::One(Method::Get),
            self.route.path(),
            Location::caller(),
        );
        Ok(())
    }

    /// Adds an endpoint for one method.
    #[track_caller]
    pub fn method(&mut self, method: Method, endpoint: impl Endpoint<S>) -> &mut Self {
        self.table.add(
            MethodFilter::One(method),
            self.route.path(),
            Location::caller(),
        );
        self.route.method(method, endpoint);
        self
    }

    /// Adds an endpoint for every method that has no endpoint of its own.
    #[track_caller]
    pub fn all(&mut self, endpoint: impl Endpoint<S>) -> &mut Self {
        self.table
            .add(MethodFilter::Any, self.route.path(), Location::caller());
        self.route.all(endpoint);
        self
    }
}

/// Defines a function for each common method.
macro_rules! methods {
    ($($name:ident $method:ident $text:literal,)*) => {
        impl<S: Clone + Send + Sync + 'static> Route<'_, S> {
            $(
                #[doc = concat!("Adds an endpoint for ", $text, ".")]
                #[track_caller]
                pub fn $name(&mut self, endpoint: impl Endpoint<S>) -> &mut Self {
                    self.method(Method::$method, endpoint)
                }
            )*
        }
    };
}

methods! {
    get Get "GET. It also answers HEAD if HEAD has no endpoint of its own",
    head Head "HEAD",
    post Post "POST",
    put Put "PUT",
    patch Patch "PATCH",
    delete Delete "DELETE",
    options Options "OPTIONS",
    trace Trace "TRACE",
}

impl<S> fmt::Debug for Route<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").finish_non_exhaustive()
    }
}
