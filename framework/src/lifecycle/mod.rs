//! The life of a process: start, reload, pause, drain, end. [`machine`] decides, [`driver`] carries out.

mod counting;
mod desk;
mod driver;
mod ears;
mod generations;
mod giving;
mod handle;
mod handover;
mod happening;
mod heard;
mod lineage;
mod live;
mod machine;
mod named;
mod predecessor;
mod reload;
mod signal;
mod stand_in;
mod steps;
mod successor;
mod upgrade;
mod waiter;
mod waits;
mod watch;

use std::process::ExitCode;

pub(crate) use desk::Build;
pub(crate) use driver::Driver;
pub use handle::{DeadlineExceeded, Handle, Report};
pub(crate) use lineage::Lineage;
pub(crate) use machine::Event;
pub(crate) use predecessor::Predecessor;
pub(crate) use reload::{build, Ownership, Plan};
pub(crate) use signal::Signals;
#[cfg(feature = "dev")]
pub(crate) use waiter::{be_subreaper, pass_on, Family, Newest, PASSED_ON};

/// Is what this program was executed for, where that is not the application.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    waiter::run_if_asked().or_else(stand_in::run_if_asked)
}
