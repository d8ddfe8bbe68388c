//! Descriptions of the framework's extractors.

use bytes::Bytes;
use schemars::{json_schema, JsonSchema, Schema};
use serde_json::Value;

use super::{DescribeRequest, Operation};
use crate::app::{BodyStream, Draining, Form, Header, Json, Path, Peer, Query, Rejection, State};

impl<T: JsonSchema> DescribeRequest for Json<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.schema::<T>();
        operation.body("application/json", schema);
        operation.problem(400, "the body is not valid JSON");
        reads_body(operation);
        operation.problem(415, "the Content-Type is not supported");
        operation.problem(422, "a value is invalid");
    }
}

impl<T: JsonSchema> DescribeRequest for Form<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.schema::<T>();
        operation.body("application/x-www-form-urlencoded", schema);
        reads_body(operation);
        operation.problem(415, "the Content-Type is not supported");
        operation.problem(422, "a value is invalid");
    }
}

impl DescribeRequest for String {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.schema::<String>();
        operation.body("text/plain", schema);
        operation.problem(400, "the body is not UTF-8");
        reads_body(operation);
    }
}

/// Describes extractors of raw bodies.
macro_rules! octets {
    ($($kind:ty)*) => {
        $(
            impl DescribeRequest for $kind {
                fn describe(operation: &mut Operation<'_>) {
                    operation.body("application/octet-stream", json_schema!({}));
                    reads_body(operation);
                }
            }
        )*
    };
}

octets! { Bytes Vec<u8> BodyStream }

fn reads_body(operation: &mut Operation<'_>) {
    operation.problem(413, "the body exceeds the limit");
}

impl<T: JsonSchema> DescribeRequest for Query<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.fields::<T>();
        for (name, required, schema) in fields(&schema) {
            operation.parameter("query", &name, required, schema);
        }
        operation.problem(400, "a value of the query is missing or invalid");
    }
}

impl<T: JsonSchema> DescribeRequest for Header<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.fields::<T>();
        for (name, required, schema) in fields(&schema) {
            operation.parameter("header", &name.replace('_', "-"), required, schema);
        }
        operation.problem(400, "a header is missing or invalid");
    }
}

/// Describes the fields of a struct. The elements of a tuple have no names, so the document describes them as strings.
impl<T: JsonSchema> DescribeRequest for Path<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.fields::<T>();
        for (name, _, schema) in fields(&schema) {
            operation.parameter("path", &name, true, schema);
        }
        operation.problem(404, "not found");
    }
}

/// Returns the name of each field of an object, true if it is required, and its schema.
fn fields(schema: &Schema) -> Vec<(String, bool, Schema)> {
    let required = schema.get("required").and_then(Value::as_array);
    let is_required =
        |name: &str| required.is_some_and(|names| names.iter().any(|required| required == name));
    let properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let field = |(name, schema): (&String, &Value)| {
        let schema = Schema::try_from(schema.clone()).unwrap_or_default();
        (name.clone(), is_required(name), schema)
    };
    properties.map(field).collect()
}

/// Implements an empty description for extractors that take no input from the client or accept any input.
macro_rules! no_input {
    ($([$($parameter:ident)?] $kind:ty;)*) => {
        $(impl$(<$parameter>)? DescribeRequest for $kind {
            fn describe(_: &mut Operation<'_>) {}
        })*
    };
}

no_input! { [S] State<S>; [] Peer; [] Draining; }

#[cfg(feature = "cookies")]
no_input! { [] crate::app::Cookies; }

impl<E: DescribeRequest> DescribeRequest for Option<E> {
    fn describe(operation: &mut Operation<'_>) {
        let parameters = operation.parameters.len();
        E::describe(operation);
        for parameter in &mut operation.parameters[parameters..] {
            // a path segment is always present
            parameter["required"] = Value::Bool(parameter["in"] == "path");
        }
        if let Some(body) = &mut operation.body {
            body["required"] = Value::Bool(false);
        }
    }
}

impl<E: DescribeRequest> DescribeRequest for Result<E, Rejection> {
    fn describe(operation: &mut Operation<'_>) {
        E::describe(operation);
    }
}
