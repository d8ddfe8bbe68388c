//! The application's state.

use std::future::{ready, Future};

use tide::Request;

use super::FromRequest;
use crate::app::Rejection;

/// The application's state, as `App::with_state` was given it: a clone, as tide makes one for each request.
///
/// It also says what application the route is for: `State<Shop>` makes it one for an `App<Shop>`.
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
