//! OpenAPI 3.1 documents of the typed routes: parameters, bodies, responses and rejections.
//!
//! ```
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//! use slackwater::openapi::OpenApi;
//! use slackwater::prelude::*;
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Todo { title: String, done: bool }
//!
//! /// One todo.
//! #[get("/todos/:id")]
//! async fn todo(id: u64) -> Option<Json<Todo>> {
//!     (id == 1).then(|| Json(Todo { title: "rest".into(), done: false }))
//! }
//!
//! let mut app = App::new();
//! app.mount("/", routes![todo]).openapi("/openapi.json", OpenApi::new("Todos", "1.0.0"));
//! ```
//!
//! `APP routes --openapi` prints the same document. The crate `schemars` describes types: derive
//! `schemars::JsonSchema` for the types of arguments and return values. A type without it is missing from the
//! document, and its operation lists it under `x-undescribed`. The first paragraph of a function's doc comment is the
//! operation's summary, the rest its description.
//!
//! To describe your own extractors and return types, implement [`DescribeRequest`] and [`DescribeResponse`].

mod document;
mod operation;
#[doc(hidden)]
pub mod probe;
mod requests;
mod responses;

pub(crate) use document::{document, Document};
pub use operation::Operation;

/// Title, version and description of the document.
///
/// ```
/// use slackwater::openapi::OpenApi;
///
/// let api = OpenApi::new("Todos", env!("CARGO_PKG_VERSION")).description("A list of *todos*.");
/// ```
#[derive(Clone, Debug)]
pub struct OpenApi {
    title: String,
    version: String,
    description: Option<String>,
}

impl OpenApi {
    /// Creates a document's head from the title of the service and the version of its interface.
    pub fn new(title: impl Into<String>, version: impl Into<String>) -> Self {
        OpenApi {
            title: title.into(),
            version: version.into(),
            description: None,
        }
    }

    /// Sets the description, in Markdown.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }
}

/// An extractor that describes its input and its rejections.
///
/// ```
/// use slackwater::openapi::{DescribeRequest, Operation};
///
/// struct Token(String);
///
/// impl DescribeRequest for Token {
///     fn describe(operation: &mut Operation<'_>) {
///         let schema = operation.schema::<String>();
///         operation.parameter("header", "x-token", true, schema);
///         operation.problem(401, "the token is missing");
///     }
/// }
/// ```
pub trait DescribeRequest {
    /// Adds parameters, the body and rejections to an operation.
    fn describe(operation: &mut Operation<'_>);
}

/// A return type that describes its responses.
///
/// ```
/// use slackwater::openapi::{DescribeResponse, Operation};
///
/// struct Csv(Vec<String>);
///
/// impl DescribeResponse for Csv {
///     fn describe(operation: &mut Operation<'_>) {
///         let schema = operation.schema::<String>();
///         operation.answer("200", "the report", Some(("text/csv", schema)));
///     }
/// }
/// ```
pub trait DescribeResponse {
    /// Adds the responses to an operation.
    fn describe(operation: &mut Operation<'_>);
}
