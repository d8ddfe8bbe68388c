//! Responses of a fixed kind: JSON, HTML, 201 Created, 204 No Content.

use std::borrow::Cow;

use serde::Serialize;
use tide::http::headers::{CONTENT_TYPE, LOCATION};
use tide::{Body, Response, StatusCode};

use super::IntoResponse;
use crate::app::extract::Json;

/// Responds 500 if the value cannot be serialized. The log contains the error.
impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => {
                let mut response = Response::new(StatusCode::Ok);
                response.set_body(Body::from_bytes(bytes));
                response.insert_header(CONTENT_TYPE, "application/json");
                response
            }
            Err(error) => tide::Error::new(StatusCode::InternalServerError, error).into_response(),
        }
    }
}

/// An HTML response. The application must escape the values that it inserts.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[get("/")]
/// async fn index() -> Html<&'static str> {
///     Html("<h1>Hello</h1>")
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Html<T>(pub T);

impl<T: IntoResponse> IntoResponse for Html<T> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        response.insert_header(CONTENT_TYPE, "text/html;charset=utf-8");
        response
    }
}

/// 201 Created: a response with the URL of the created resource in `Location`.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[post("/todos")]
/// async fn create(title: String) -> Created<Json<String>> {
///     Created::at("/todos/7", Json(title))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created<T> {
    location: Cow<'static, str>,
    answer: T,
}

impl<T> Created<T> {
    /// Creates the response. `location` is a path or a URL, `answer` is the body.
    pub fn at(location: impl Into<Cow<'static, str>>, answer: T) -> Self {
        Created {
            location: location.into(),
            answer,
        }
    }
}

impl<T: IntoResponse> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = self.answer.into_response();
        response.set_status(StatusCode::Created);
        response.insert_header(LOCATION, &*self.location);
        response
    }
}

/// 204 No Content: the request succeeded, and the response has no body.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[delete("/todos/:id")]
/// async fn remove(id: u64) -> NoContent {
///     println!("removed {id}");
///     NoContent
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoContent;

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        Response::new(StatusCode::NoContent)
    }
}
