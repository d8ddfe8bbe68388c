//! What a process says of itself: its log, the access log in it, and what systemd is told.
//!
//! [`log`] chooses who writes and where to: [`lines`] in the looks of [`json`] or [`pretty`], or [`femme`]; [`output`]
//! gets it out. [`metrics`] are what Prometheus scrapes. [`systemd`] is told, and [`notified`] listens in its place to programs of other make.

pub(crate) mod access;
mod femme;
mod json;
mod lines;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod notified;
mod output;
mod pretty;
pub(crate) mod systemd;

/// The status that nginx writes where the client was gone before there was an answer.
const CLIENT_GONE: u16 = 499;
