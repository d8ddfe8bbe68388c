//! Extractors: types that a typed route can have as arguments.

mod body;
mod connection;
#[cfg(feature = "cookies")]
mod cookies;
mod deserialize;
mod form;
mod header;
mod json;
mod path;
mod state;
mod stream;
pub(super) mod text;

pub use connection::{Draining, Peer};
#[cfg(feature = "cookies")]
pub use cookies::Cookies;
pub use form::{Form, Query};
pub use header::Header;
pub use json::Json;
pub use path::Path;
pub use state::State;
pub use stream::BodyStream;

use std::future::Future;

use tide::Request;

use super::typed::RouteInfo;
use super::Rejection;

/// An extractor: a type that an argument of a typed route can have.
///
/// | extractor | value |
/// |---|---|
/// | an argument with the name of a path segment | this segment |
/// | [`Path<T>`](crate::Path) | all segments as a tuple or a struct, or the only segment |
/// | [`Query<T>`](crate::Query) | the query |
/// | [`Header<T>`](crate::Header) | headers |
/// | [`Cookies`](crate::Cookies) | the cookies; it can also set cookies |
/// | [`State<S>`](crate::State) | the application's state |
/// | [`Json<T>`](crate::Json), [`Form<T>`](crate::Form) | the body, deserialized |
/// | `String`, [`Bytes`](crate::Bytes), [`BodyStream`](crate::BodyStream) | the raw body |
/// | [`Peer`](crate::Peer), [`Draining`](crate::Draining) | the client's address; the drain signal |
/// | `Option<E>` | the value of `E`, or `None` if it is absent |
/// | `Result<E, Rejection>` | the value of `E`, or the rejection |
/// | [`Request<S>`](crate::Request) | the whole request; only as the last argument |
///
/// Implement this trait for your own extractors. An implementation can call other extractors:
///
/// ```
/// use slackwater::prelude::*;
/// use slackwater::{FromRequest, Rejection, Request};
///
/// struct Token(String);
///
/// impl<S: Send + Sync> FromRequest<S> for Token {
///     async fn from_request(request: &mut Request<S>) -> Result<Self, Rejection> {
///         let header = request.header("x-token").ok_or_else(|| Rejection::unauthorized("log in first").absent())?;
///         Ok(Token(header.last().as_str().to_owned()))
///     }
/// }
///
/// #[get("/me")]
/// async fn me(token: Token) -> String {
///     token.0
/// }
/// ```
///
/// An extractor that needs the application's state implements `FromRequest<Shop>`. A route with such an argument must
/// also have an argument `State<Shop>`, or name the state in its attribute: `#[get("/me", state = Shop)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an extractor for an application with the state `{S}`",
    label = "cannot be extracted from a request",
    note = "to extract a segment of the path, give the argument the name of the segment: `#[get(\"/users/:id\")] async fn user(id: u64)`",
    note = "extractors of the body are `Json<T>`, `Form<T>`, `String`, `Bytes` and `BodyStream`; others are `Path<T>`, `Query<T>`, \
            `Header<T>`, `Cookies`, `State<S>`, `Peer`, `Draining`, and `Option<E>` and `Result<E, Rejection>` of these",
    note = "your own extractor must implement `slackwater::FromRequest<S>`; if it needs a certain state, name the state in the \
            route's attribute: `#[get(\"/path\", state = Shop)]`"
)]
pub trait FromRequest<S>: Sized + Send {
    /// True if the extractor reads the body. A route with two such arguments does not compile, because the body can
    /// be read only once.
    const READS_BODY: bool = false;

    /// Extracts the value from the request.
    ///
    /// # Errors
    /// The value is absent or invalid. The rejection becomes the response.
    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send;

    #[doc(hidden)]
    fn from_route(
        request: &mut Request<S>,
        _route: &'static RouteInfo,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        Self::from_request(request)
    }
}

/// `None` if the value is absent. An invalid value is still rejected.
impl<S, E: FromRequest<S>> FromRequest<S> for Option<E> {
    const READS_BODY: bool = E::READS_BODY;

    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let value = E::from_request(request);
        async { none_if_absent(value.await) }
    }

    fn from_route(
        request: &mut Request<S>,
        route: &'static RouteInfo,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let value = E::from_route(request, route);
        async { none_if_absent(value.await) }
    }
}

fn none_if_absent<E>(value: Result<E, Rejection>) -> Result<Option<E>, Rejection> {
    match value {
        Ok(value) => Ok(Some(value)),
        Err(rejection) if rejection.is_absent() => Ok(None),
        Err(rejection) => Err(rejection),
    }
}

/// Never rejects the request: the handler gets the rejection.
impl<S, E: FromRequest<S>> FromRequest<S> for Result<E, Rejection> {
    const READS_BODY: bool = E::READS_BODY;

    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let value = E::from_request(request);
        async { Ok(value.await) }
    }

    fn from_route(
        request: &mut Request<S>,
        route: &'static RouteInfo,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let value = E::from_route(request, route);
        async { Ok(value.await) }
    }
}
