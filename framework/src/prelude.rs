//! The items that most files of an application use: `use slackwater::prelude::*;`.
//!
//! The prelude contains `App`, the route attributes, the extractors, the responses and the extension of requests. It
//! contains no `Result`, `main`, `test` or derive macro, so it does not conflict with the names of other crates.

#[cfg(feature = "cookies")]
pub use crate::app::Cookies;
pub use crate::app::{
    App, BodyStream, Created, Draining, Form, Header, Html, Json, NoContent, Path, Peer, Query,
    RequestExt, State,
};
pub use crate::routes;
pub use crate::setup::Setup;
#[cfg(feature = "macros")]
pub use slackwater_macros::{delete, get, head, options, patch, post, put, route};
