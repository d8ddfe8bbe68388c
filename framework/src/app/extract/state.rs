//! Extractor of the application's state.

use std::future::{ready, Future};

use tide::Request;

use super::FromRequest;
use crate::app::Rejection;

/// A clone of the state that was passed to [`App::with_state`](crate::App::with_state).
///
/// The argument also determines the applications that the route can be mounted in: a route with `State<Shop>` can be
/// mounted in an `App<Shop>`.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[derive(Clone)]
/// struct Shop { name: &'static str }
///
/// #[get("/")]
/// async fn index(State(shop): State<Shop>) -> &'static str {
///     shop.name
/// }
///
/// let mut app = App::with_state(Shop { name: "Corner" });
/// app.mount("/", routes![index]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<S>(pub S);

impl<S: Clone + Send> FromRequest<S> for State<S> {
    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        ready(Ok(State(request.state().clone())))
    }
}
