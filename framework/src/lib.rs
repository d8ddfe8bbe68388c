//! slackwater (skeleton).
mod app;
mod cli;
mod config;
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
