//! An application framework on async-std and tide whose runtime owns everything between `main` and the routes:
//! configuration, sockets, connections, signals, reload, upgrade and shutdown. Application code defines routes.
//!
//! ```no_run
//! use slackwater::prelude::*;
//!
//! #[slackwater::main]
//! async fn app() -> slackwater::Result<App> {
//!     let mut app = App::new();
//!     app.at("/").get(|_| async { Ok("Hello, world!") });
//!     Ok(app)
//! }
//! ```
//!
//! - [`App`] is what the application hands in: routes, background tasks, hooks. Its function may take its settings (any
//!   type that implements `serde::Deserialize`, read from `[app]`) and a [`Setup`], and is called anew at each reload.
//! - [`Runner`] is the process around it, for a `main` of one's own; `#[slackwater::main]` makes one.
//! - [`Server`] and its [`Handle`] are for tests and for embedding: nothing of them is process-wide.
//! - Handlers, middleware and types are tide's. [`RequestExt`] adds what a handler can ask of this framework.
//!
//! # Features
//!
//! | feature | default | brings |
//! |---|---|---|
//! | `macros` | yes | `#[slackwater::main]` |
//! | `cli` | yes | the command line that every application has: `serve`, `check`, `config`, `routes`; completions, a man page |
//! | `cookies` | yes | tide's cookies |
//! | `sessions` | no | tide's sessions |
//! | `tokio` | no | handlers and `app` run inside a tokio context |
//! | `control` | yes | the control socket, and the commands that use it: `status`, `reload`, `upgrade`, `rollback`, `pause`, `resume`, `drain`, `stop`, `reopen` |
//! | `dev`, `http2`, `metrics`, `openapi`, `testing`, `tls`, `ws` | no | nothing yet |
//!
//! How the framework is built is told in its ARCHITECTURE.md.

mod app;
mod cli;
mod config;
#[cfg_attr(not(feature = "control"), allow(dead_code, reason = "without the feature nobody asks"))]
mod control;
mod error;
mod http;
mod lifecycle;
mod observe;
pub mod prelude;
mod run;
mod serve;
mod server;
mod setup;
mod socket;
mod sys;
mod token;

pub use app::{App, BodyLimit, IntoApplication, RequestExt, Route};
pub use cli::Command;
pub use config::Secret;
pub use error::{BoxError, Error, Result};
pub use lifecycle::{DeadlineExceeded, Handle, Report};
pub use run::Runner;
pub use serve::Cut;
pub use server::Server;
pub use setup::{Reason, Setup};
#[cfg(feature = "macros")]
pub use slackwater_macros::main;
pub use tide::{Request, Response};
pub use token::Token;
