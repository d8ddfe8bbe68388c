//! Extractors: what a typed route may take from a request, each in the type of an argument.

mod body;
mod connection;
#[cfg(feature = "cookies")]
mod cookies;
mod fault;
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

/// What an argument of a typed route is taken from a request with.
///
/// | extractor | takes |
/// |---|---|
/// | an argument named like a segment of the path | that segment |
/// | [`Path<T>`](crate::Path) | all segments, as a tuple, a struct, or the only one |
/// | [`Query<T>`](crate::Query) | the query |
/// | [`Header<T>`](crate::Header) | headers |
/// | [`Cookies`](crate::Cookies) | cookies, and sets some |
/// | [`State<S>`](crate::State) | the application's state |
/// | [`Json<T>`](crate::Json), [`Form<T>`](crate::Form) | the body, read as that |
/// | `String`, [`Bytes`](crate::Bytes), [`BodyStream`](crate::BodyStream) | the body as it is |
/// | [`Peer`](crate::Peer), [`Draining`](crate::Draining) | who asks; whether the handler is to finish |
/// | `Option<E>` | what `E` takes, if it is there at all |
/// | `Result<E, Rejection>` | what `E` takes, or why it cannot |
/// | [`Request<S>`](crate::Request) | everything: as the last argument |
///
/// An application's own extractor implements this trait; it may use others:
///
/// ```
/// use slackwater::prelude::*;
/// use slackwater::{FromRequest, Rejection, Request};
///
/// struct Token(String);
///
/// impl<S: Send + Sync> FromRequest<S> for Token {
///     async fn from_request(request: &mut Request<S>) -> Result<Self, Rejection> {
///         let header = request.header("x-token").ok_or_else(|| Rejection::unauthorized("who are you?").absent())?;
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
/// One that needs the state implements it for that state alone, and a route that takes it either takes `State<Shop>` as
/// well or says `#[get("/me", state = Shop)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no extractor for an application with the state `{S}`",
    label = "cannot be taken from a request",
    note = "for a segment of the path, name the argument like it: `#[get(\"/users/:id\")] async fn user(id: u64)`",
    note = "a body is taken as `Json<T>`, `Form<T>`, `String`, `Bytes` or `BodyStream`; the rest as `Path<T>`, `Query<T>`, \
            `Header<T>`, `Cookies`, `State<S>`, `Peer`, `Draining`, and `Option<E>` and `Result<E, Rejection>` of these",
    note = "an extractor of your own implements `slackwater::FromRequest<S>`; where it needs a certain state, the route \
            says which: `#[get(\"/path\", state = Shop)]`"
)]
pub trait FromRequest<S>: Sized + Send {
    /// Whether it reads the body: there is one, so a route with two such arguments does not compile.
    const READS_BODY: bool = false;

    /// Takes it from the request, or says why it cannot be taken.
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

/// `None` where the request does not have it at all; what is there and wrong is still rejected.
impl<S, E: FromRequest<S>> FromRequest<S> for Option<E> {
    const READS_BODY: bool = E::READS_BODY;

    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let taken = E::from_request(request);
        async { if_there(taken.await) }
    }

    fn from_route(
        request: &mut Request<S>,
        route: &'static RouteInfo,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let taken = E::from_route(request, route);
        async { if_there(taken.await) }
    }
}

fn if_there<E>(taken: Result<E, Rejection>) -> Result<Option<E>, Rejection> {
    match taken {
        Ok(value) => Ok(Some(value)),
        Err(rejection) if rejection.is_absent() => Ok(None),
        Err(rejection) => Err(rejection),
    }
}

/// Never rejected: the handler decides.
impl<S, E: FromRequest<S>> FromRequest<S> for Result<E, Rejection> {
    const READS_BODY: bool = E::READS_BODY;

    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let taken = E::from_request(request);
        async { Ok(taken.await) }
    }

    fn from_route(
        request: &mut Request<S>,
        route: &'static RouteInfo,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let taken = E::from_route(request, route);
        async { Ok(taken.await) }
    }
}
