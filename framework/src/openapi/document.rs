//! The OpenAPI document: head, paths, and the schemas that the paths refer to.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use schemars::generate::SchemaSettings;
use schemars::{json_schema, SchemaGenerator};
use serde_json::{json, Map, Value};

use super::{OpenApi, Operation};
use crate::app::{IntoResponse, ListedRoute, RouteInfo};

/// A document that an application serves. Its text is generated when the application is built, because all routes are
/// known then.
pub(crate) struct Document {
    pub(crate) api: OpenApi,
    /// The path that the application is mounted under. The document describes only routes below it.
    pub(crate) prefix: String,
    pub(crate) text: Arc<OnceLock<Bytes>>,
}

impl Document {
    pub(crate) fn new(api: OpenApi) -> Self {
        Document {
            api,
            prefix: String::new(),
            text: Arc::default(),
        }
    }

    /// Adds the path that the application is nested under.
    pub(crate) fn below(mut self, prefix: &str) -> Self {
        self.prefix = format!("/{}{}", prefix.trim_matches('/'), self.prefix);
        self
    }

    /// Returns an endpoint that serves the document.
    pub(crate) fn endpoint<S: Clone + Send + Sync + 'static>(&self) -> impl tide::Endpoint<S> {
        let text = self.text.clone();
        move |_| {
            let text = text.get().cloned().unwrap_or_default();
            async {
                tide::Result::Ok(([("content-type", "application/json")], text).into_response())
            }
        }
    }

    /// Generates the text of the document.
    pub(crate) fn fill(&self, routes: &[ListedRoute]) {
        let is_below_prefix = |route: &&ListedRoute| {
            let below = route.path.strip_prefix(&self.prefix);
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let text = document(&self.api, routes.iter().filter(is_below_prefix));
        let _ = self.text.set(text.into());
    }
}

/// Generates the document of `routes` as JSON.
pub(crate) fn document<'a>(api: &OpenApi, routes: impl Iterator<Item = &'a ListedRoute>) -> String {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let paths = paths(&mut generator, routes);
    let mut info = json!({ "title": api.title, "version": api.version });
    if let Some(description) = &api.description {
        info["description"] = description.as_str().into();
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": info,
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) },
    });
    // cannot fail: the document consists of strings, numbers and maps
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

fn paths<'a>(
    generator: &mut SchemaGenerator,
    routes: impl Iterator<Item = &'a ListedRoute>,
) -> Map<String, Value> {
    let mut paths = Map::new();
    let mut ids = HashSet::new();
    for route in routes {
        let (Some(info), Some(method)) = (&route.info, method(&route.method)) else {
            continue;
        };
        let (path, names) = template(&route.path);
        let mut operation = operation(generator, info, &names);
        operation["operationId"] = id(info, method, &mut ids).into();
        paths.entry(path).or_insert_with(|| json!({}))[method] = operation;
    }
    paths
}

/// Returns the key of a method in a path item; `None` for a method that OpenAPI does not support.
fn method(method: &str) -> Option<&'static str> {
    let known = [
        "get", "put", "post", "delete", "options", "head", "patch", "trace",
    ];
    known
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(method))
}

/// Converts `/todos/:id` into `/todos/{id}`. Also returns the names of the parameters.
fn template(path: &str) -> (String, Vec<&str>) {
    let mut names = Vec::new();
    let segment = |segment| match str::strip_prefix(segment, [':', '*']) {
        Some(name) => {
            names.push(name);
            format!("{{{name}}}")
        }
        None => segment.to_owned(),
    };
    let path = path.split('/').map(segment).collect::<Vec<_>>().join("/");
    (path, names)
}

fn operation(generator: &mut SchemaGenerator, info: &RouteInfo, names: &[&str]) -> Value {
    let mut operation = Operation::new(generator);
    (info.describe)(&mut operation);
    if !info.segments().is_empty() {
        operation.problem(404, "not found");
    }
    for name in names {
        // segments that no argument describes: the function reads them from its request, or the mount's prefix
        // contains them
        operation.parameter("path", name, true, json_schema!({ "type": "string" }));
    }
    let Operation {
        mut parameters,
        body,
        mut responses,
        undescribed,
        ..
    } = operation;
    parameters.retain(|parameter| {
        parameter["in"] != "path" || names.iter().any(|name| parameter["name"] == *name)
    });
    if responses.is_empty() {
        responses.insert("default".into(), json!({ "description": "any response" }));
    }
    let mut operation = json!({ "responses": responses });
    let (summary, description) = info.doc().split_once("\n\n").unwrap_or((info.doc(), ""));
    let members = [
        ("summary", Value::from(summary.replace('\n', " "))),
        ("description", description.trim().into()),
        ("parameters", parameters.into()),
        ("requestBody", body.unwrap_or_default()),
        ("x-undescribed", undescribed.into()),
    ];
    for (name, value) in members {
        if !(value == "" || value.is_null() || value.as_array().is_some_and(Vec::is_empty)) {
            operation[name] = value;
        }
    }
    operation
}

/// Returns a unique operation id: the function's path without the crate, such as `todo.list`. If it is taken, the
/// method is appended, and then a number.
fn id(info: &RouteInfo, method: &str, ids: &mut HashSet<String>) -> String {
    let name = info
        .name()
        .split_once("::")
        .map_or(info.name(), |(_, name)| name)
        .replace("::", ".");
    let with_method = format!("{name}.{method}");
    let mut candidates = [name, with_method.clone()]
        .into_iter()
        .chain((2..).map(|n| format!("{with_method}.{n}")));
    // always finds one: the candidates are infinite
    let id = candidates.find(|id| !ids.contains(id)).unwrap_or_default();
    ids.insert(id.clone());
    id
}
