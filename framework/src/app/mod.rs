//! The application: its routes, its background tasks and its hooks.

mod answer;
mod application;
mod build;
mod check;
mod extract;
mod files;
mod future;
mod hook;
mod rejection;
mod request;
mod route;
pub mod sse;
mod table;
mod typed;
#[cfg(feature = "ws")]
pub mod ws;

pub use answer::{Created, Html, IntoResponse, NoContent, ResponsePart};
pub use application::App;
#[cfg(test)]
pub(crate) use build::with_cause_middleware;
pub use build::IntoApplication;
pub(crate) use build::{Application, ApplicationParts};
pub(crate) use check::Check;
#[cfg(feature = "cookies")]
pub use extract::Cookies;
pub use extract::{
    BodyStream, Draining, Form, FromRequest, Header, Json, Path, Peer, Query, State,
};
#[cfg(feature = "dev")]
pub(crate) use future::BoxFuture;
pub(crate) use hook::{Hook, Task};
pub use rejection::{FieldError, Rejection};
pub use request::{BodyLimit, RequestExt};
pub use route::Route;
pub(crate) use table::ListedRoute;
pub(crate) use typed::support;
pub use typed::{Handler, IntoRoutes, RouteInfo, Routes};
