//! Descriptions of the framework's return types.

use std::borrow::Cow;

use bytes::Bytes;
use schemars::{json_schema, JsonSchema};

use super::{DescribeResponse, Operation};
use crate::app::{BodyStream, Created, Html, Json, NoContent, Rejection};
use crate::error::BoxError;

impl<T: JsonSchema> DescribeResponse for Json<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.schema::<T>();
        operation.answer("200", "OK", Some(("application/json", schema)));
    }
}

/// Describes return types with one status and one media type.
macro_rules! plain {
    ($([$($parameter:ident $(: $bound:path)?)?] $kind:ty => $status:literal $meaning:literal $body:expr;)*) => {
        $(impl$(<$parameter $(: $bound)?>)? DescribeResponse for $kind {
            fn describe(operation: &mut Operation<'_>) {
                let body: Option<&str> = $body;
                operation.answer($status, $meaning, body.map(|media_type| (media_type, json_schema!({}))));
            }
        })*
    };
}

plain! {
    [] String => "200" "OK" Some("text/plain");
    [] &'static str => "200" "OK" Some("text/plain");
    [] Cow<'static, str> => "200" "OK" Some("text/plain");
    [T] Html<T> => "200" "OK" Some("text/html");
    [] Vec<u8> => "200" "OK" Some("application/octet-stream");
    [] &'static [u8] => "200" "OK" Some("application/octet-stream");
    [] Bytes => "200" "OK" Some("application/octet-stream");
    [] BodyStream => "200" "OK" Some("application/octet-stream");
    [] tide::Body => "200" "OK" Some("*/*");
    [] tide::Response => "default" "any response" Some("*/*");
    [] tide::StatusCode => "default" "a status without a body" None;
    [T: AsRef<str>] tide::Redirect<T> => "3XX" "redirect" None;
    [] NoContent => "204" "no content" None;
    [] () => "204" "no content" None;
}

impl<A: DescribeResponse> DescribeResponse for Created<A> {
    fn describe(operation: &mut Operation<'_>) {
        let before = operation.responses.clone();
        A::describe(operation);
        let mut answer = operation.responses.remove("200").unwrap_or_default();
        operation.responses.extend(before);
        answer["description"] = "created".into();
        answer["headers"]["Location"] = serde_json::json!({ "description": "URL of the created resource", "schema": { "type": "string" } });
        operation.responses.insert("201".into(), answer);
    }
}

impl<P, A: DescribeResponse> DescribeResponse for (P, A) {
    fn describe(operation: &mut Operation<'_>) {
        A::describe(operation);
    }
}

impl<P, Q, A: DescribeResponse> DescribeResponse for (P, Q, A) {
    fn describe(operation: &mut Operation<'_>) {
        A::describe(operation);
    }
}

impl<A: DescribeResponse> DescribeResponse for Option<A> {
    fn describe(operation: &mut Operation<'_>) {
        A::describe(operation);
        operation.problem(404, "not found");
    }
}

impl<A: DescribeResponse, E: DescribeResponse> DescribeResponse for Result<A, E> {
    fn describe(operation: &mut Operation<'_>) {
        A::describe(operation);
        E::describe(operation);
    }
}

/// Describes error types, which can have any status.
macro_rules! problems {
    ($($kind:ty)*) => {
        $(impl DescribeResponse for $kind {
            fn describe(operation: &mut Operation<'_>) {
                operation.problem_as("default", "the request failed");
            }
        })*
    };
}

problems! { Rejection BoxError tide::Error }
