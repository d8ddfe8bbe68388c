//! JSON, in and out.

use std::future::Future;

use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tide::{Request, StatusCode};

use super::body::{bytes, is_of_type, unsupported};
use super::fault::Fault;
use super::FromRequest;
use crate::app::Rejection;

/// A value as JSON: as an argument it is read from the body, as an answer it is written to it.
///
/// A body that says it is something else is 415, one that is no JSON 400, one that is not what `T` takes 422; the answer
/// names the field, what was expected and what was found.
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
        let is_json = is_of_type(request, |essence| {
            essence == "application/json"
                || essence.starts_with("application/") && essence.ends_with("+json")
        });
        let (wrong, body) = (
            (!is_json).then(|| unsupported(request, "application/json")),
            bytes(request),
        );
        async {
            if let Some(wrong) = wrong {
                return Err(wrong);
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
        // here the line and the column say where
        _ => Err(
            Fault::whole(error.to_string().replacen(" at line ", ", line ", 1))
                .reject(StatusCode::BadRequest, "body"),
        ),
    }
}

/// Read once more to learn where it fails.
fn locate<T: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> Fault {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(located) => Fault::located(&located),
        Ok(_) => Fault::whole(error),
    }
}
