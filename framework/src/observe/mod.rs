//! Observability: the log with its access log, metrics, and notifications to systemd.
//!
//! [`log`] selects the logger. [`lines`] is the logger of this crate, which formats records as
//! [`json`] or [`pretty`] lines; debug builds use [`femme`]. [`output`] writes the lines.
//! [`metrics`] are scraped by Prometheus. [`systemd`] sends notifications to the service manager,
//! and [`notified`] receives them from a foreign program.

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

/// The status that nginx logs if the client disconnects before the response.
const CLIENT_GONE: u16 = 499;
