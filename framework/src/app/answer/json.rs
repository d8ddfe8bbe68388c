//! Answers that say what they are: JSON, HTML, something new, nothing.

use std::borrow::Cow;

use serde::Serialize;
use tide::http::headers::{CONTENT_TYPE, LOCATION};
use tide::{Body, Response, StatusCode};

use super::IntoResponse;
use crate::app::extract::Json;

/// A value that cannot be serialised is the application's mistake: 500, and the log says why.
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

/// An answer in HTML. What is put into it is the application's to escape.
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

/// 201: something is there now that was not, and where.
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
    /// It is at `location`, a path or a URL; `answer` is what is said beside that.
    ///
    /// ```
    /// let answer = slackwater::Created::at("/todos/7", "made");
    /// ```
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

/// 204: it is done, and there is nothing to say.
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
