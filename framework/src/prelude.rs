//! What most files of an application need: `use slackwater::prelude::*;`.
//!
//! The application, the route attributes, the extractors, the answers, and what is added to requests. It names no
//! `Result`, `main` or `test` and no derive, so that it can stand beside anything.

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
