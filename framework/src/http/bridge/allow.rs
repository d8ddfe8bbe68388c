//! `Allow`: what a 405 must say and tide does not (RFC 9110, section 15.5.6).

use std::collections::BTreeMap;

use hyper::header::HeaderValue;
use route_recognizer::Router;

/// The methods of each known path, matched as tide's own router does.
#[derive(Default)]
pub(crate) struct Allow(BTreeMap<String, Router<()>>);

impl Allow {
    /// Of routes as `(method, path)`. One that takes every method is never the reason for a 405, and left out.
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

    /// The methods that are known for a path, with HEAD where there is GET; nothing where none is known.
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
        // names of methods are tokens: they are always a valid value
        (!names.is_empty())
            .then(|| HeaderValue::from_str(&names.join(", ")).ok())
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_methods_of_a_path_are_those_of_its_routes() {
        let allow = Allow::of([
            ("GET", "/"),
            ("POST", "/note/:id"),
            ("PUT", "/note/:id"),
            ("GET", "/files/*"),
            ("ANY", "/any"),
        ]);
        let said = |path| {
            allow
                .methods(path)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(said("/").as_deref(), Some("GET, HEAD"));
        assert_eq!(said("/note/7").as_deref(), Some("POST, PUT"));
        assert_eq!(said("/files/a/b").as_deref(), Some("GET, HEAD"));
        assert_eq!((said("/any"), said("/nowhere")), (None, None));
    }
}
