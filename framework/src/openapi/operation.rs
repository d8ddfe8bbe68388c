//! [`Operation`]: the description of a method of a path.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{json, Map, Value};

/// The description of an operation, filled by [`DescribeRequest`](super::DescribeRequest) and
/// [`DescribeResponse`](super::DescribeResponse).
///
/// ```
/// # use slackwater::openapi::Operation;
/// fn describe(operation: &mut Operation<'_>) {
///     let page = operation.schema::<u32>();
///     operation.parameter("query", "page", false, page);
///     let text = operation.schema::<String>();
///     operation.body("text/plain", text);
///     operation.answer("202", "accepted", None);
///     operation.problem(409, "the resource was changed by another client");
/// }
/// ```
#[derive(Debug)]
pub struct Operation<'a> {
    generator: &'a mut SchemaGenerator,
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<Value>,
    pub(super) responses: Map<String, Value>,
    pub(super) undescribed: Vec<&'static str>,
}

impl<'a> Operation<'a> {
    pub(super) fn new(generator: &'a mut SchemaGenerator) -> Self {
        Operation {
            generator,
            parameters: vec![],
            body: None,
            responses: Map::new(),
            undescribed: vec![],
        }
    }

    /// Returns the schema of a type, usually a reference to a shared schema in `components`.
    pub fn schema<T: JsonSchema>(&mut self) -> Schema {
        self.generator.subschema_for::<T>()
    }

    /// Returns the schema of a type inline, for reading its fields.
    pub(super) fn fields<T: JsonSchema>(&mut self) -> Schema {
        T::json_schema(self.generator)
    }

    /// Adds a parameter. `place` is `path`, `query`, `header` or `cookie`. If the operation has a parameter of this
    /// place and name, nothing changes.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a schema is created for the call"
    )]
    pub fn parameter(&mut self, place: &str, name: &str, required: bool, schema: Schema) {
        let is_known = self
            .parameters
            .iter()
            .any(|known| known["in"] == place && known["name"] == name);
        if !is_known {
            self.parameters
                .push(json!({ "name": name, "in": place, "required": required, "schema": schema }));
        }
    }

    /// Sets the request body.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a schema is created for the call"
    )]
    pub fn body(&mut self, media_type: &str, schema: Schema) {
        self.body =
            Some(json!({ "required": true, "content": { media_type: { "schema": schema } } }));
    }

    /// Adds a response. `status` is `200`, `4XX`, or `default` for every other status; `meaning` is its description;
    /// `body` is its media type and schema.
    pub fn answer(&mut self, status: &str, meaning: &str, body: Option<(&str, Schema)>) {
        let answer = self
            .responses
            .entry(status)
            .or_insert_with(|| json!({ "description": meaning }));
        if let Some((media_type, schema)) = body {
            answer["content"][media_type] = json!({ "schema": schema });
        }
    }

    /// Adds a response whose body is a problem document (RFC 9457).
    pub fn problem(&mut self, status: u16, meaning: &str) {
        self.problem_as(&status.to_string(), meaning);
    }

    pub(super) fn problem_as(&mut self, status: &str, meaning: &str) {
        let schema = self.schema::<ProblemSchema>();
        self.answer(status, meaning, Some(("application/problem+json", schema)));
    }
}

/// The reason a request failed (RFC 9457).
#[derive(JsonSchema)]
#[schemars(rename = "Problem")]
#[expect(
    dead_code,
    reason = "used only for its schema; `Rejection` writes the document"
)]
struct ProblemSchema {
    /// A URI that identifies this kind of problem; about:blank if absent.
    #[schemars(rename = "type")]
    kind: Option<String>,
    /// The reason phrase of the status.
    title: String,
    /// The status of the response.
    status: u16,
    /// A text for people that describes the problem.
    detail: Option<String>,
    /// The invalid and missing values.
    errors: Option<Vec<ProblemFieldSchema>>,
}

/// An invalid or missing value in a request.
#[derive(JsonSchema)]
#[schemars(rename = "ProblemField")]
#[expect(dead_code, reason = "used only for its schema")]
struct ProblemFieldSchema {
    /// The part of the request.
    #[schemars(rename = "in")]
    place: String,
    /// The path of the value in that part, such as items[0].price.
    field: String,
    /// A text for people that describes the error.
    detail: String,
    /// The expected value.
    expected: Option<String>,
    /// The value that was found.
    found: Option<String>,
}
