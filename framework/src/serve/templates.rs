//! Finds the template of a request's route. Metrics are labelled with templates, because the number of paths is unlimited.

use std::sync::Arc;

use route_recognizer::Router;

/// The templates of all routes. Paths are matched as tide's own router does.
pub(super) struct Templates(Router<Arc<str>>);

impl Templates {
    pub(super) fn of<'a>(paths: impl Iterator<Item = &'a str>) -> Self {
        let mut router = Router::new();
        for path in paths {
            router.add(path, Arc::from(path));
        }
        Templates(router)
    }

    pub(super) fn find(&self, path: &str) -> Option<Arc<str>> {
        self.0
            .recognize(path)
            .ok()
            .map(|route| (*route.handler).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_the_templates_of_their_routes() {
        let templates = Templates::of(["/", "/greet/:name", "/files/*"].into_iter());
        let found = |path| templates.find(path).map(|template| template.to_string());
        assert_eq!(found("/greet/ann").as_deref(), Some("/greet/:name"));
        assert_eq!(found("/files/a/b").as_deref(), Some("/files/*"));
        assert_eq!(
            (found("/").as_deref(), found("/nowhere")),
            (Some("/"), None)
        );
    }
}
