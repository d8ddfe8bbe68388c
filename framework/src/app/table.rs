//! The table of routes: lists them for `APP routes` and rejects duplicates.

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;

use tide::http::Method;

use super::typed::RouteInfo;
use crate::error::{Error, Kind};

/// A line of `APP routes`.
#[derive(Clone, Debug)]
pub(crate) struct ListedRoute {
    /// `GET`, or `ANY` for an endpoint of every method.
    pub(crate) method: String,
    /// `/greet/:name`
    pub(crate) path: String,
    /// The code that defines the route: `src/lib.rs:12`, after the function's name if it is a typed route.
    pub(crate) source: String,
    /// Description of the route, if it is a typed route.
    #[cfg(feature = "openapi")]
    pub(crate) info: Option<RouteInfo>,
}

/// Routes and mounts in the order in which they were added.
#[derive(Default)]
pub(super) struct Table {
    routes: Vec<RouteDefinition>,
    /// Paths of nested applications. tide routes every method of such a path, and every path below it, to the
    /// application.
    mounts: Vec<RouteDefinition>,
}

/// A route or a mount as the application added it.
#[derive(Clone)]
struct RouteDefinition {
    methods: MethodFilter,
    path: String,
    source: RouteSource,
}

/// The code that defines a route.
#[derive(Clone, Copy)]
pub(super) enum RouteSource {
    /// A call of [`Route::get`](super::Route::get) or a similar method.
    Call(&'static Location<'static>),
    /// A function with a route attribute.
    Function(RouteInfo),
}

impl From<&'static Location<'static>> for RouteSource {
    fn from(location: &'static Location<'static>) -> Self {
        RouteSource::Call(location)
    }
}

/// The methods that a route answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum MethodFilter {
    One(Method),
    Any,
}

impl Table {
    pub(super) fn add(
        &mut self,
        methods: MethodFilter,
        path: &str,
        source: impl Into<RouteSource>,
    ) {
        self.routes.push(RouteDefinition {
            methods,
            path: with_slash(path),
            source: source.into(),
        });
    }

    pub(super) fn mount(&mut self, path: &str, source: &'static Location<'static>) {
        self.mounts.push(RouteDefinition {
            methods: MethodFilter::Any,
            path: with_slash(path),
            source: source.into(),
        });
    }

    /// Adds a catch-all route for a server below `path` whose routes cannot be listed.
    pub(super) fn add_unknown(&mut self, path: &str, source: &'static Location<'static>) {
        self.add(MethodFilter::Any, &join(path, "/*"), source);
    }

    /// Adds the routes of an application that is nested under `prefix`.
    pub(super) fn nest(&mut self, prefix: &str, inner: Table) {
        let prefixed = |route: RouteDefinition| RouteDefinition {
            path: join(prefix, &route.path),
            ..route
        };
        self.routes.extend(inner.routes.into_iter().map(prefixed));
        self.mounts.extend(inner.mounts.into_iter().map(prefixed));
    }

    /// Returns the routes.
    ///
    /// # Errors
    /// Two routes or two mounts are duplicates.
    pub(super) fn check(self) -> Result<Vec<ListedRoute>, Error> {
        let mut duplicates = duplicates(&self.routes);
        duplicates.extend(self::duplicates(&self.mounts));
        if duplicates.is_empty() {
            Ok(self.routes.iter().map(RouteDefinition::listed).collect())
        } else {
            Err(Error::new(Kind::App, duplicates.join("; ")))
        }
    }
}

/// Returns an error text for each pair of routes that tide's router cannot tell apart. The router would keep the second
/// one without an error.
fn duplicates(routes: &[RouteDefinition]) -> Vec<String> {
    let mut seen: HashMap<(MethodFilter, String), &RouteDefinition> = HashMap::new();
    let mut duplicates = Vec::new();
    for route in routes {
        let key = (route.methods, shape(&route.path));
        match seen.get(&key) {
            Some(first) => duplicates.push(format!("duplicate route: {first} and {route}")),
            None => drop(seen.insert(key, route)),
        }
    }
    duplicates
}

/// Returns a path without the names of its parameters, because the router ignores them.
fn shape(path: &str) -> String {
    let segment = |segment: &str| match segment.as_bytes().first() {
        Some(b':') => ":".to_owned(),
        Some(b'*') => "*".to_owned(),
        _ => segment.to_owned(),
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

fn with_slash(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

fn join(prefix: &str, path: &str) -> String {
    match path {
        "/" => with_slash(prefix),
        _ => with_slash(&format!("{}{path}", prefix.trim_end_matches('/'))),
    }
}

impl RouteDefinition {
    fn listed(&self) -> ListedRoute {
        ListedRoute {
            method: self.methods.to_string(),
            path: self.path.clone(),
            source: self.source.to_string(),
            #[cfg(feature = "openapi")]
            info: match self.source {
                RouteSource::Call(_) => None,
                RouteSource::Function(info) => Some(info),
            },
        }
    }
}

impl fmt::Display for MethodFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MethodFilter::Any => f.write_str("ANY"),
            MethodFilter::One(method) => method.fmt(f),
        }
    }
}

impl fmt::Display for RouteDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RouteDefinition {
            methods,
            path,
            source,
        } = self;
        write!(f, "{methods} {path} ({source})")
    }
}

impl fmt::Display for RouteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteSource::Call(location) => write!(f, "{}:{}", location.file(), location.line()),
            RouteSource::Function(info) => {
                write!(f, "`{}`, {}:{}", info.name(), info.file(), info.line())
            }
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.routes.iter().map(RouteDefinition::to_string))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::app::App;

    async fn nothing(_: tide::Request<()>) -> tide::Result {
        Ok("".into())
    }

    fn routes(build: impl FnOnce(&mut App)) -> Result<Vec<String>, String> {
        let mut app = App::new();
        build(&mut app);
        match app.build() {
            Ok(parts) => Ok(parts
                .routes
                .iter()
                .map(|route| format!("{} {}", route.method, route.path))
                .collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn every_route_is_listed_with_its_method_and_path() {
        let listed = routes(|app| {
            app.at("/").get(nothing).post(nothing);
            app.at("plain").all(nothing);
            app.at("/a").at("b").at("/:c").delete(nothing);
            let mut inner = App::new();
            inner.at("/").get(nothing);
            inner.at("/x").get(nothing);
            app.nest("/inner", inner);
            app.at("/tide").nest(tide::new());
            app.at("/files").serve_dir(".").unwrap();
        });
        let expected = [
            "GET /",
            "POST /",
            "ANY /plain",
            "DELETE /a/b/:c",
            "GET /inner",
            "GET /inner/x",
            "ANY /tide/*",
            "GET /files/*",
        ];
        assert_eq!(listed.unwrap(), expected);
    }

    #[test]
    fn two_routes_that_tide_cannot_tell_apart_are_rejected_with_both_source_lines() {
        let error = routes(|app| {
            app.at("/a/:b").get(nothing);
            app.at("a/:c").get(nothing);
        })
        .unwrap_err();
        let (first, second) = (line!() - 4, line!() - 3);
        assert_eq!(
            error,
            format!(
                "duplicate route: GET /a/:b ({file}:{first}) and GET /a/:c ({file}:{second})",
                file = file!()
            )
        );
    }

    #[test]
    fn a_route_of_a_nested_application_can_duplicate_a_route_outside_it() {
        let nested = |path: &str| {
            let mut inner = App::new();
            inner.at(path).get(nothing);
            inner
        };
        assert!(routes(|app| {
            app.at("/api/x").get(nothing);
            app.nest("/api", nested("/x"));
        })
        .is_err());
        assert!(routes(|app| {
            app.nest("/api", nested("/x"));
            app.nest("/api", nested("/y"));
        })
        .is_err());
        assert!(routes(|app| {
            app.at("/api/x").get(nothing).post(nothing).all(nothing);
            app.nest("/api", nested("/y"));
        })
        .is_ok());
    }
}
