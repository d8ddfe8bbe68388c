//! Values in the form of a query: in the URL, and in the body of a form.

use std::future::{ready, Future};

use serde::de::DeserializeOwned;
use serde_html_form::Deserializer;
use tide::{Request, StatusCode};

use super::body::{bytes, is_of_type, unsupported};
use super::{fault, FromRequest};
use crate::app::Rejection;

/// The query of the URL, as a type of the application's own; a field that may be missing is an `Option` or has a
/// `#[serde(default)]`, one that may come several times is a `Vec`. What does not parse is 400, with the field.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[derive(serde::Deserialize)]
/// struct Wanted { page: Option<u32>, #[serde(default)] tag: Vec<String> }
///
/// #[get("/todos")]
/// async fn list(Query(wanted): Query<Wanted>) -> String {
///     format!("page {} with {} tags", wanted.page.unwrap_or(1), wanted.tag.len())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<S, T: DeserializeOwned + Send> FromRequest<S> for Query<T> {
    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let query = request.url().query();
        let read = read(
            query.unwrap_or("").as_bytes(),
            StatusCode::BadRequest,
            "query",
        )
        .map(Query);
        ready(read.map_err(|rejection| {
            if query.is_none() {
                rejection.absent()
            } else {
                rejection
            }
        }))
    }
}

/// The body of a form, `application/x-www-form-urlencoded`, as a type of the application's own. Another type of body is
/// 415, what does not parse 422, with the field.
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
        let is_form = is_of_type(request, |essence| essence == FORM);
        let (wrong, body) = (
            (!is_form).then(|| unsupported(request, FORM)),
            bytes(request),
        );
        async {
            if let Some(wrong) = wrong {
                return Err(wrong);
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
    fault::read(|| Deserializer::from_bytes(text)).map_err(|fault| fault.reject(status, place))
}
