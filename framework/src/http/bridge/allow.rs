//! The header `Allow` of a 405 (RFC 9110, section 15.5.6), which tide does not send.

use std::collections::BTreeMap;

use hyper::header::HeaderValue;
use route_recognizer::Router;

/// The methods of each known path. Paths are matched as tide's own router does.
#[derive(Default)]
pub(crate) struct Allow(BTreeMap<String, Router<()>>);

impl Allow {
    /// Collects the methods of `routes`, which are pairs of method and path. A route for every method never causes a
    /// 405, so it is left out.
    pub(crate) fn of<'a>(routes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut methods = BTreeMap::new();
        for (method, path) in routes.into_iter().filter(|(method, _)| *method != "ANY") {
            methods
                .entry(method.to_owned())
                .or_insert_with(Router::new)
                .add(path, ());
        }
        Allow(methods)
    }

    /// Returns the methods of a path, with HEAD added to GET, or `None` if the path has none.
    pub(super) fn methods(&self, path: &str) -> Option<HeaderValue> {
        let known = self
            .0
            .iter()
            .filter(|(_, paths)| paths.recognize(path).is_ok());
        let mut names: Vec<&str> = known.map(|(method, _)| method.as_str()).collect();
        if names.contains(&"GET") && !names.contains(&"HEAD") {
            names.push("HEAD");
        }
        names.sort_unstable();
        // names of methods are tokens, which are always valid in a header
        (!names.is_empty())
            .then(|| HeaderValue::from_str(&names.join(", ")).ok())
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_allows_the_methods_of_its_routes() {
        let allow = Allow::of([
            ("GET", "/"),
            ("POST", "/note/:id"),
            ("PUT", "/note/:id"),
            ("GET", "/files/*"),
            ("ANY", "/any"),
        ]);
        let allowed = |path| {
            allow
                .methods(path)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(allowed("/").as_deref(), Some("GET, HEAD"));
        assert_eq!(allowed("/note/7").as_deref(), Some("POST, PUT"));
        assert_eq!(allowed("/files/a/b").as_deref(), Some("GET, HEAD"));
        assert_eq!((allowed("/any"), allowed("/nowhere")), (None, None));
    }
}
