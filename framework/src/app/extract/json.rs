//! JSON bodies of requests and responses.

use std::future::Future;

use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tide::{Request, StatusCode};

use super::body::{bytes, has_media_type, unsupported};
use super::deserialize::ValueError;
use super::FromRequest;
use crate::app::Rejection;

/// A JSON body. As an argument it is deserialized from the request, as a return value it is serialized into the
/// response.
///
/// A request with another `Content-Type` is answered 415, a body that is not JSON 400, and JSON that does not match
/// `T` 422. The response names the field, the expected value and the value that was found.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[derive(serde::Deserialize, serde::Serialize)]
/// struct Todo { title: String, done: bool }
///
/// #[post("/todos")]
/// async fn create(Json(todo): Json<Todo>) -> Json<Todo> {
///     Json(Todo { done: false, ..todo })
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<S, T: DeserializeOwned + Send> FromRequest<S> for Json<T> {
    const READS_BODY: bool = true;

    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let is_json = has_media_type(request, |essence| {
            essence == "application/json"
                || essence.starts_with("application/") && essence.ends_with("+json")
        });
        let (rejection, body) = (
            (!is_json).then(|| unsupported(request, "application/json")),
            bytes(request),
        );
        async {
            if let Some(rejection) = rejection {
                return Err(rejection);
            }
            read(&body.await?).map(Json)
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Rejection> {
    let error = match serde_json::from_slice(body) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    match error.classify() {
        Category::Data => {
            Err(locate::<T>(body, &error).reject(StatusCode::UnprocessableEntity, "body"))
        }
        // a syntax error: serde_json's message contains the line and the column
        _ => Err(
            ValueError::without_path(error.to_string().replacen(" at line ", ", line ", 1))
                .reject(StatusCode::BadRequest, "body"),
        ),
    }
}

/// Deserializes again to find the path of the field that fails.
fn locate<T: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> ValueError {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(error) => ValueError::with_path(&error),
        Ok(_) => ValueError::without_path(error),
    }
}
