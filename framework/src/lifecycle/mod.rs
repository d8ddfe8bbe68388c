//! The life of a process: start, reload, pause, upgrade, shutdown.
//!
//! [`machine`] decides, [`driver`] carries out its decisions.

mod counters;
mod driver;
mod event;
mod generations;
mod handle;
mod handover;
mod instance;
mod instance_actions;
mod lineage;
mod machine;
mod new_peer_reader;
mod old_peer_reader;
mod pending;
mod predecessor;
mod presence;
mod reload;
mod sender;
mod signal;
mod stand_in;
mod successor;
mod timeouts;
mod upgrade;
mod waiter;
mod watch;

use std::process::ExitCode;

pub(crate) use driver::Driver;
pub use handle::{DeadlineExceeded, Handle, Report};
pub(crate) use lineage::Lineage;
pub(crate) use pending::ProgramInfo;
pub(crate) use predecessor::Predecessor;
pub(crate) use reload::{build, Ownership, ServerContext};
pub(crate) use signal::Signals;
#[cfg(feature = "dev")]
pub(crate) use waiter::{be_subreaper, pass_on, Family, Newest, PASSED_ON};

/// Runs a helper process of this module if the program was executed as one. Returns `None` in an ordinary start.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    waiter::run_if_asked().or_else(stand_in::run_if_asked)
}
