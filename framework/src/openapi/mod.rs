//! OpenAPI 3.1, from the routes: what each takes, what it answers, and what a client is told that asks for something else.
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
//! `APP routes --openapi` prints the same document. Types are described by the crate `schemars`: those that an argument or
//! an answer is made of derive `schemars::JsonSchema`. One that does not leaves a gap, and the operation names it under
//! `x-undescribed`. A function's doc comment is its summary, and what follows the first paragraph its description.
//!
//! Extractors and answers of an application's own describe themselves with [`DescribeRequest`] and [`DescribeResponse`].

mod document;
mod operation;
#[doc(hidden)]
pub mod probe;
mod requests;
mod responses;

pub(crate) use document::{document, Document};
pub use operation::Operation;

/// What stands at the head of the document.
///
/// ```
/// use slackwater::openapi::OpenApi;
///
/// let api = OpenApi::new("Todos", env!("CARGO_PKG_VERSION")).description("What is still to be done.");
/// ```
#[derive(Clone, Debug)]
pub struct OpenApi {
    title: String,
    version: String,
    description: Option<String>,
}

impl OpenApi {
    /// The service's title, and the version of its interface.
    ///
    /// ```
    /// let api = slackwater::openapi::OpenApi::new("Todos", "1.0.0");
    /// ```
    pub fn new(title: impl Into<String>, version: impl Into<String>) -> Self {
        OpenApi {
            title: title.into(),
            version: version.into(),
            description: None,
        }
    }

    /// What it is for, in Markdown.
    ///
    /// ```
    /// let api = slackwater::openapi::OpenApi::new("Todos", "1.0.0").description("What is *still* to be done.");
    /// ```
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }
}

/// An extractor that says what it takes.
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
///         operation.problem(401, "it is not known who asks");
///     }
/// }
/// ```
pub trait DescribeRequest {
    /// Adds what it takes, and how it rejects.
    fn describe(operation: &mut Operation<'_>);
}

/// An answer that says what it is.
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
    /// Adds the answers that it may be.
    fn describe(operation: &mut Operation<'_>);
}
