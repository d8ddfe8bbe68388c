//! An application framework on async-std and tide whose runtime owns everything between `main` and the routes:
//! configuration, sockets, connections, signals, reload, upgrade and shutdown. Application code defines routes.
//!
//! ```no_run
//! use slackwater::prelude::*;
//!
//! #[slackwater::main]
//! async fn app() -> slackwater::Result<App> {
//!     let mut app = App::new();
//!     app.mount("/", routes![greet]);
//!     Ok(app)
//! }
//!
//! #[get("/greet/:name")]
//! async fn greet(name: String) -> String {
//!     format!("Hello, {name}!")
//! }
//! ```
//!
//! - [`App`] is what the application hands in: routes, background tasks, hooks. Its function may take its settings (any
//!   type that implements `serde::Deserialize`, read from `[app]`) and a [`Setup`], and is called anew at each reload.
//! - [`Runner`] is the process around it, for a `main` of one's own; `#[slackwater::main]` makes one.
//! - [`Server`] and its [`Handle`] are for tests and for embedding: nothing of them is process-wide.
//! - [`sse`] and, with the feature, `ws`: event streams and WebSockets that end when their generation does.
//! - A route is a function with an attribute: [`macro@get`] and the like. [`FromRequest`] lists what its arguments may be,
//!   [`IntoResponse`] what it may give, and [`Rejection`] is what a client is told that asked for something else.
//! - Middleware and types are tide's, and so may handlers be: `app.at("/").get(|request| …)`. [`RequestExt`] adds what such
//!   a handler can ask of this framework. What a tide user finds changed is told in [`docs::from_tide`].
//!
//! # Operating it
//!
//! [`docs::signals`] (and commands), [`docs::reload`], [`docs::upgrade`], [`docs::shutdown`], [`docs::monitor`] (health and
//! metrics), [`docs::deploy`] (systemd, containers, Kubernetes, balancers), [`docs::settings`], and [`docs::troubleshoot`]
//! by message.
//!
//! # Features
//!
//! | feature | default | brings |
//! |---|---|---|
//! | `macros` | yes | `#[slackwater::main]`, the route attributes |
//! | `cli` | yes | the command line that every application has: `serve`, `check`, `config`, `routes`; completions, a man page |
//! | `cookies` | yes | tide's cookies |
//! | `sessions` | no | tide's sessions |
//! | `tokio` | no | handlers, `app` and background tasks run inside a tokio context: [`docs::tokio`] |
//! | `openapi` | no | descriptions of routes in OpenAPI 3.1: the module `openapi`, `APP routes --openapi` |
//! | `testing` | no | a client for tests of an application: the module `testing` |
//! | `control` | yes | the control socket, and the commands that use it: `status`, `reload`, `upgrade`, `rollback`, `pause`, `resume`, `drain`, `stop`, `reopen` |
//! | `http2` | no | HTTP/2 by prior knowledge, on the same sockets |
//! | `ws` | no | WebSockets: the module `ws` |
//! | `metrics` | no | counters for Prometheus, on a path or a listener of their own |
//! | `dev` | no | `APP dev`: the program is built anew beside itself and swapped in when it changes |
//! | `tls` | no | nothing yet |
//!
//! The [guide] goes from hello to production. How the framework is built is told in its ARCHITECTURE.md.

/// The README's example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

mod app;
mod cli;
mod config;
#[cfg_attr(
    not(feature = "control"),
    allow(dead_code, reason = "without the feature nobody asks")
)]
mod control;
#[cfg(feature = "dev")]
mod dev;
pub mod docs;
mod error;
pub mod guide;
mod http;
mod lifecycle;
mod observe;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod prelude;
mod run;
mod serve;
mod server;
mod setup;
mod socket;
mod sync;
mod sys;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "ws")]
pub use app::ws;
#[cfg(feature = "cookies")]
pub use app::Cookies;
pub use app::{
    sse, App, BodyLimit, BodyStream, Created, Draining, FieldError, Form, FromRequest, Handler,
    Header, Html, IntoApplication, IntoResponse, IntoRoutes, Json, NoContent, Path, Peer, Query,
    Rejection, RequestExt, ResponsePart, Route, RouteInfo, Routes, State,
};
pub use bytes::Bytes;
pub use cli::Command;
pub use config::Secret;
pub use error::{BoxError, Error, Result};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use http::fuzz;
pub use lifecycle::{DeadlineExceeded, Handle, Report};
pub use run::Runner;
pub use serve::Cut;
pub use server::Server;
pub use setup::{Reason, Setup};
#[cfg(all(feature = "macros", feature = "testing"))]
pub use slackwater_macros::test;
#[cfg(feature = "macros")]
pub use slackwater_macros::{delete, get, head, main, options, patch, post, put, route};
pub use sync::token::Token;
#[cfg(feature = "cookies")]
pub use tide::http::cookies::Cookie;
pub use tide::{Body, Redirect, Request, Response, StatusCode};

/// What the macros need of this crate.
#[doc(hidden)]
pub mod __private {
    pub use crate::app::support::*;
}
