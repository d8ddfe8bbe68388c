//! The routes that are known: for `APP routes`, and so that no two of them are the same.

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;

use tide::http::Method;

use super::typed::RouteInfo;
use crate::error::{Error, Kind};

/// One line of `APP routes`.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// `GET`; `ANY` for an endpoint of every method.
    pub(crate) method: String,
    /// `/greet/:name`
    pub(crate) path: String,
    /// Where it comes from: `src/lib.rs:12`, with the function where it is one.
    pub(crate) source: String,
    /// What more is known of it, where it is a function with an attribute.
    #[cfg(feature = "openapi")]
    pub(crate) info: Option<RouteInfo>,
}

/// What was added, in the order in which it was.
#[derive(Default)]
pub(super) struct Table {
    routes: Vec<Entry>,
    /// Where other applications were put: in tide a mount takes every method of a path and all below it.
    mounts: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    methods: Methods,
    path: String,
    source: Source,
}

/// Where a route comes from.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// A call of `get` and the like.
    Call(&'static Location<'static>),
    /// A function with a route attribute.
    Function(RouteInfo),
}

impl From<&'static Location<'static>> for Source {
    fn from(location: &'static Location<'static>) -> Self {
        Source::Call(location)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Methods {
    One(Method),
    Any,
}

impl Table {
    pub(super) fn add(&mut self, methods: Methods, path: &str, source: impl Into<Source>) {
        self.routes.push(Entry {
            methods,
            path: with_slash(path),
            source: source.into(),
        });
    }

    pub(super) fn mount(&mut self, path: &str, source: &'static Location<'static>) {
        self.mounts.push(Entry {
            methods: Methods::Any,
            path: with_slash(path),
            source: source.into(),
        });
    }

    /// A server below `path` whose routes cannot be listed.
    pub(super) fn add_unknown(&mut self, path: &str, source: &'static Location<'static>) {
        self.add(Methods::Any, &join(path, "/*"), source);
    }

    /// The routes of an application that was put under `prefix`.
    pub(super) fn take_in(&mut self, prefix: &str, inner: Table) {
        let moved = |entry: Entry| Entry {
            path: join(prefix, &entry.path),
            ..entry
        };
        self.routes.extend(inner.routes.into_iter().map(moved));
        self.mounts.extend(inner.mounts.into_iter().map(moved));
    }

    /// The routes, if no two are the same.
    pub(super) fn check(self) -> Result<Vec<Listed>, Error> {
        let mut twice = same(&self.routes);
        twice.extend(same(&self.mounts));
        if twice.is_empty() {
            Ok(self.routes.iter().map(Entry::info).collect())
        } else {
            Err(Error::new(Kind::App, twice.join("; ")))
        }
    }
}

/// Each pair that tide could not tell apart: it would silently keep the second.
fn same(entries: &[Entry]) -> Vec<String> {
    let mut seen: HashMap<(Methods, String), &Entry> = HashMap::new();
    let mut twice = Vec::new();
    for entry in entries {
        match seen.get(&(entry.methods, shape(&entry.path))) {
            Some(first) => twice.push(format!("two routes are the same: {first} and {entry}")),
            None => drop(seen.insert((entry.methods, shape(&entry.path)), entry)),
        }
    }
    twice
}

/// A path as the router sees it: the names of its parameters make no difference.
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

impl Entry {
    fn info(&self) -> Listed {
        Listed {
            method: self.methods.to_string(),
            path: self.path.clone(),
            source: self.source.to_string(),
            #[cfg(feature = "openapi")]
            info: match self.source {
                Source::Call(_) => None,
                Source::Function(info) => Some(info),
            },
        }
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Methods::Any => f.write_str("ANY"),
            Methods::One(method) => method.fmt(f),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry {
            methods,
            path,
            source,
        } = self;
        write!(f, "{methods} {path} ({source})")
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Call(location) => write!(f, "{}:{}", location.file(), location.line()),
            Source::Function(info) => {
                write!(f, "`{}`, {}:{}", info.name(), info.file(), info.line())
            }
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.routes.iter().map(Entry::to_string))
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
            Ok(built) => Ok(built
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
    fn two_routes_that_tide_cannot_tell_apart_are_refused_with_both_places() {
        let error = routes(|app| {
            app.at("/a/:b").get(nothing);
            app.at("a/:c").get(nothing);
        })
        .unwrap_err();
        let (first, second) = (line!() - 4, line!() - 3);
        assert_eq!(
            error,
            format!(
                "two routes are the same: GET /a/:b ({file}:{first}) and GET /a/:c ({file}:{second})",
                file = file!()
            )
        );
    }

    #[test]
    fn a_route_of_a_nested_application_collides_with_one_outside() {
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
