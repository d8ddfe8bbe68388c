//! slackwater (skeleton).
mod config;
mod error;
mod http;
mod token;
pub use error::{BoxError, Error, Result};
pub use token::Token;
