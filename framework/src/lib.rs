//! slackwater (skeleton).
mod cli;
mod config;
mod error;
mod http;
mod observe;
mod socket;
mod sys;
mod token;
pub use cli::Command;
pub use config::Secret;
pub use error::{BoxError, Error, Result};
pub use token::Token;
