//! What most files of an application need: `use slackwater::prelude::*;`.
//!
//! It names no `Result`, `main` or `test` and no derive, so that it can stand beside anything.

pub use crate::app::{App, RequestExt};
pub use crate::setup::Setup;
