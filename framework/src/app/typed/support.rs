//! What the route attributes write into an application: public, because it stands there, and nobody else's business.

use serde::de::DeserializeOwned;
use tide::Request;

pub use tide::http::Method;

pub use crate::app::extract::text::segment;
use crate::app::{IntoResponse, Rejection, RouteInfo};

/// The value of the segment `name`, as the type of the argument that is named like it.
///
/// # Errors
/// 404: there is no such thing.
pub fn argument<S, T: DeserializeOwned>(
    request: &Request<S>,
    name: &'static str,
) -> Result<T, Rejection> {
    segment(request, name)
}

/// What a function gave, as a response.
pub fn answer(answer: impl IntoResponse) -> tide::Response {
    answer.into_response()
}

/// The state of a request, by whatever name the application calls the type.
pub trait OfState {
    /// It.
    type State;
}

impl<S> OfState for Request<S> {
    type State = S;
}

/// Of a function that is no route: it does not compile, and this keeps rustc from saying so twice.
pub const NO_ROUTE: RouteInfo =
    crate::__route_info!(&[], "/", &[], "", "", ("", 0), crate::__describe!([] [] ()));

/// A [`RouteInfo`]; what describes it for OpenAPI is left out where that is.
#[cfg(not(feature = "openapi"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __route_info {
    ($methods:expr, $path:expr, $segments:expr, $name:expr, $doc:expr, $place:expr, $describe:expr) => {
        $crate::RouteInfo::new($methods, $path, $segments, $name, $doc, $place)
    };
}

/// What describes a route for OpenAPI: nothing, without that feature.
#[cfg(not(feature = "openapi"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __describe {
    ($($of:tt)*) => {
        ()
    };
}
