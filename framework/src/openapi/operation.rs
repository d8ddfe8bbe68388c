//! One operation: a method of a path.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{json, Map, Value};

/// One operation in the making, for [`DescribeRequest`](super::DescribeRequest) and
/// [`DescribeResponse`](super::DescribeResponse).
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

    /// The schema of a type: most often a reference to where it is described once.
    ///
    /// ```
    /// # use slackwater::openapi::Operation;
    /// # fn doc(operation: &mut Operation<'_>) {
    /// let schema = operation.schema::<Vec<u64>>();
    /// # }
    /// ```
    pub fn schema<T: JsonSchema>(&mut self) -> Schema {
        self.generator.subschema_for::<T>()
    }

    /// The schema of a type in place, where its fields are asked for.
    pub(super) fn fields<T: JsonSchema>(&mut self) -> Schema {
        T::json_schema(self.generator)
    }

    /// A parameter, `in` the `path`, the `query`, a `header` or a `cookie`. One that is known already stays as it is.
    ///
    /// ```
    /// # use slackwater::openapi::Operation;
    /// # fn doc(operation: &mut Operation<'_>) {
    /// let schema = operation.schema::<u32>();
    /// operation.parameter("query", "page", false, schema);
    /// # }
    /// ```
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

    /// The body, of one type.
    ///
    /// ```
    /// # use slackwater::openapi::Operation;
    /// # fn doc(operation: &mut Operation<'_>) {
    /// let schema = operation.schema::<String>();
    /// operation.body("text/plain", schema);
    /// # }
    /// ```
    pub fn body(&mut self, media_type: &str, schema: Schema) {
        self.body =
            Some(json!({ "required": true, "content": { media_type: { "schema": schema } } }));
    }

    /// An answer with a status: `200`, `4XX`, or `default` for every other; what it means, and its body.
    ///
    /// ```
    /// # use slackwater::openapi::Operation;
    /// # fn doc(operation: &mut Operation<'_>) {
    /// operation.answer("202", "it will be done", None);
    /// # }
    /// ```
    pub fn answer(&mut self, status: &str, meaning: &str, body: Option<(&str, Schema)>) {
        let answer = self
            .responses
            .entry(status)
            .or_insert_with(|| json!({ "description": meaning }));
        if let Some((media_type, schema)) = body {
            answer["content"][media_type] = json!({ "schema": schema });
        }
    }

    /// An answer that is a problem document (RFC 9457).
    ///
    /// ```
    /// # use slackwater::openapi::Operation;
    /// # fn doc(operation: &mut Operation<'_>) {
    /// operation.problem(409, "somebody else has changed it meanwhile");
    /// # }
    /// ```
    pub fn problem(&mut self, status: u16, meaning: &str) {
        self.problem_as(&status.to_string(), meaning);
    }

    pub(super) fn problem_as(&mut self, status: &str, meaning: &str) {
        let schema = self.schema::<Problem>();
        self.answer(status, meaning, Some(("application/problem+json", schema)));
    }
}

/// What a client is told whose request cannot be answered as it wished (RFC 9457).
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is wanted; `Rejection` writes it")]
struct Problem {
    /// A URI that names this kind of problem; about:blank where there is none.
    #[schemars(rename = "type")]
    kind: Option<String>,
    /// The status in words.
    title: String,
    /// The status of the answer.
    status: u16,
    /// What is wrong, in words.
    detail: Option<String>,
    /// The values that are wrong.
    errors: Option<Vec<ProblemField>>,
}

/// What is wrong with one value of a request.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is wanted")]
struct ProblemField {
    /// The part of the request.
    #[schemars(rename = "in")]
    place: String,
    /// Its path within that, such as items[0].price.
    field: String,
    /// What is wrong, in words.
    detail: String,
    /// What would be right.
    expected: Option<String>,
    /// What was there.
    found: Option<String>,
}
