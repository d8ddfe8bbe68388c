//! Extractors of URL-encoded values: the query, and the body of a form.

use std::future::{ready, Future};

use serde::de::DeserializeOwned;
use serde_html_form::Deserializer;
use tide::{Request, StatusCode};

use super::body::{bytes, has_media_type, unsupported};
use super::{deserialize::deserialize, FromRequest};
use crate::app::Rejection;

/// The query of the URL, deserialized into `T`.
///
/// An optional field is an `Option` or has `#[serde(default)]`. A field that may occur several times is a `Vec`. If
/// deserialization fails, the response is 400 and names the field.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[derive(serde::Deserialize)]
/// struct Filter { page: Option<u32>, #[serde(default)] tag: Vec<String> }
///
/// #[get("/todos")]
/// async fn list(Query(filter): Query<Filter>) -> String {
///     format!("page {} with {} tags", filter.page.unwrap_or(1), filter.tag.len())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<S, T: DeserializeOwned + Send> FromRequest<S> for Query<T> {
    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let query = request.url().query();
        let value = read(
            query.unwrap_or("").as_bytes(),
            StatusCode::BadRequest,
            "query",
        )
        .map(Query);
        ready(value.map_err(|rejection| {
            if query.is_none() {
                rejection.absent()
            } else {
                rejection
            }
        }))
    }
}

/// A body of type `application/x-www-form-urlencoded`, deserialized into `T`.
///
/// Another `Content-Type` is answered 415. If deserialization fails, the response is 422 and names the field.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[derive(serde::Deserialize)]
/// struct Login { name: String, password: String }
///
/// #[post("/login")]
/// async fn login(Form(login): Form<Login>) -> String {
///     format!("Hello, {}!", login.name)
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form<T>(pub T);

impl<S, T: DeserializeOwned + Send> FromRequest<S> for Form<T> {
    const READS_BODY: bool = true;

    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let is_form = has_media_type(request, |essence| essence == FORM);
        let (rejection, body) = (
            (!is_form).then(|| unsupported(request, FORM)),
            bytes(request),
        );
        async {
            if let Some(rejection) = rejection {
                return Err(rejection);
            }
            read(&body.await?, StatusCode::UnprocessableEntity, "form").map(Form)
        }
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

fn read<T: DeserializeOwned>(
    text: &[u8],
    status: StatusCode,
    place: &'static str,
) -> Result<T, Rejection> {
    deserialize(|| Deserializer::from_bytes(text)).map_err(|error| error.reject(status, place))
}
