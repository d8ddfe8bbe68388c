//! Support code for the route attributes. It is public because the code that they generate uses it; applications must
//! not use it.

use serde::de::DeserializeOwned;
use tide::Request;

pub use tide::http::Method;

pub use crate::app::extract::text::segment;
use crate::app::{IntoResponse, Rejection, RouteInfo};

/// Extracts the path segment `name` for the argument of that name.
///
/// # Errors
/// 404 if the segment cannot be deserialized into `T`, 400 if it is not UTF-8.
pub fn argument<S, T: DeserializeOwned>(
    request: &Request<S>,
    name: &'static str,
) -> Result<T, Rejection> {
    segment(request, name)
}

/// Converts the value that a route function returned into a response.
pub fn answer(answer: impl IntoResponse) -> tide::Response {
    answer.into_response()
}

/// The state type `S` of [`Request<S>`], also if the application uses a type alias for the request.
pub trait HasState {
    /// The state type.
    type State;
}

impl<S> HasState for Request<S> {
    type State = S;
}

/// The description of a function whose route attribute is invalid. Its compilation fails in any case; this constant
/// prevents a second error from rustc.
pub const NO_ROUTE: RouteInfo =
    crate::__route_info!(&[], "/", &[], "", "", ("", 0), crate::__describe!([] [] ()));

/// Creates a [`RouteInfo`]. Without the feature `openapi` it ignores the OpenAPI description.
#[cfg(not(feature = "openapi"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __route_info {
    ($methods:expr, $path:expr, $segments:expr, $name:expr, $doc:expr, $place:expr, $describe:expr) => {
        $crate::RouteInfo::new($methods, $path, $segments, $name, $doc, $place)
    };
}

/// Describes a route for OpenAPI. Without the feature `openapi` it expands to `()`.
#[cfg(not(feature = "openapi"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __describe {
    ($($types:tt)*) => {
        ()
    };
}
