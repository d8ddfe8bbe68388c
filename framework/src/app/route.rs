//! One path of an application, and what answers there.

use std::fmt;
use std::io;
use std::panic::Location;
use std::path::Path;

use tide::http::Method;
use tide::{Endpoint, Middleware, Server};

use super::files::NoFile;
use super::table::{Methods, Source, Table};
use super::typed::{IntoRoutes, TypedRoute};

/// A path of an [`App`](crate::App): takes endpoints, one for each method.
///
/// It is tide's own route; what it adds is that each endpoint is written down, for `APP routes` and so that none
/// silently replaces another.
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

    /// The route of a path below this one. It has this one's middleware.
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

    /// The path of this route, with the names of its parameters.
    ///
    /// ```
    /// # let mut app = slackwater::App::new();
    /// assert_eq!(app.at("/greet/:name").path(), "/greet/:name");
    /// ```
    #[must_use]
    pub fn path(&self) -> &str {
        self.route.path()
    }

    /// Adds a middleware for the endpoints that this route is given from here on.
    ///
    /// ```
    /// # let mut app = slackwater::App::new();
    /// app.at("/upload").with(slackwater::BodyLimit::none()).post(|_| async { Ok("taken") });
    /// ```
    pub fn with(&mut self, middleware: impl Middleware<S>) -> &mut Self {
        self.route.with(middleware);
        self
    }

    /// Takes away the middleware of this route; that of the application stays.
    ///
    /// ```
    /// # let mut app = slackwater::App::new();
    /// app.at("/").at("/plain").reset_middleware().get(|_| async { Ok("plain") });
    /// ```
    pub fn reset_middleware(&mut self) -> &mut Self {
        self.route.reset_middleware();
        self
    }

    /// Puts typed routes under this path; they have its middleware.
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
                self.table
                    .add(Methods::One(*method), route.path(), Source::Function(info));
            }
        }
        self
    }

    /// Puts a tide server under this path; its handlers see the rest of the path. Its routes cannot be listed: for
    /// another application there is [`App::nest`](crate::App::nest).
    ///
    /// ```
    /// # let mut app = slackwater::App::new();
    /// app.at("/legacy").nest(tide::new());
    /// ```
    #[track_caller]
    pub fn nest<Inner>(&mut self, server: Server<Inner>) -> &mut Self
    where
        Inner: Clone + Send + Sync + 'static,
    {
        self.table.mount(self.route.path(), Location::caller());
        self.table
            .add_unknown(self.route.path(), Location::caller());
        self.route.nest(server);
        self
    }

    /// Serves the files of a directory below this path, for GET and HEAD.
    ///
    /// ```
    /// # fn routes(app: &mut slackwater::App) -> std::io::Result<()> {
    /// app.at("/assets").serve_dir("public")
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the directory does not exist or may not be read.
    #[track_caller]
    pub fn serve_dir(&mut self, directory: impl AsRef<Path>) -> io::Result<()> {
        let below = self.route.path().to_owned();
        self.route
            .at("")
            .with(NoFile { below })
            .serve_dir(directory)?;
        let files = self.route.at("*");
        self.table
            .add(Methods::One(Method::Get), files.path(), Location::caller());
        Ok(())
    }

    /// Serves one file at this path, for GET and HEAD.
    ///
    /// ```
    /// # fn routes(app: &mut slackwater::App) -> std::io::Result<()> {
    /// app.at("/robots.txt").serve_file("public/robots.txt")
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the file's path cannot be resolved.
    #[track_caller]
    pub fn serve_file(&mut self, file: impl AsRef<Path>) -> io::Result<()> {
        self.route.serve_file(file)?;
        self.table.add(
            Methods::One(Method::Get),
            self.route.path(),
            Location::caller(),
        );
        Ok(())
    }

    /// An endpoint for one method.
    ///
    /// ```
    /// # let mut app = slackwater::App::new();
    /// app.at("/notes").method(tide::http::Method::Search, |_| async { Ok("found") });
    /// ```
    #[track_caller]
    pub fn method(&mut self, method: Method, endpoint: impl Endpoint<S>) -> &mut Self {
        self.table
            .add(Methods::One(method), self.route.path(), Location::caller());
        self.route.method(method, endpoint);
        self
    }

    /// An endpoint for every method that has none of its own.
    ///
    /// ```
    /// # let mut app = slackwater::App::new();
    /// app.at("/any").all(|_| async { Ok("any") });
    /// ```
    #[track_caller]
    pub fn all(&mut self, endpoint: impl Endpoint<S>) -> &mut Self {
        self.table
            .add(Methods::Any, self.route.path(), Location::caller());
        self.route.all(endpoint);
        self
    }
}

/// One function for each usual method, all alike.
macro_rules! methods {
    ($($name:ident $method:ident $said:literal,)*) => {
        impl<S: Clone + Send + Sync + 'static> Route<'_, S> {
            $(
                #[doc = concat!("An endpoint for ", $said, ".")]
                ///
                /// ```
                /// # let mut app = slackwater::App::new();
                #[doc = concat!("app.at(\"/\").", stringify!($name), "(|_| async { Ok(\"\") });")]
                /// ```
                #[track_caller]
                pub fn $name(&mut self, endpoint: impl Endpoint<S>) -> &mut Self {
                    self.method(Method::$method, endpoint)
                }
            )*
        }
    };
}

methods! {
    get Get "GET, and for HEAD where that has none of its own",
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
