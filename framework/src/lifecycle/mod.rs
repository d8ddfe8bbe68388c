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
mod steps;
mod successor;
mod upgrade;
mod waiter;
mod waits;
mod watch;

pub(crate) use desk::Build;
pub(crate) use driver::Driver;
pub use handle::{DeadlineExceeded, Handle, Report};
pub(crate) use lineage::Lineage;
pub(crate) use machine::Event;
pub(crate) use predecessor::Predecessor;
pub(crate) use reload::{build, Ownership, Plan};
pub(crate) use signal::Signals;
pub(crate) use waiter::run_if_asked;
#[cfg(feature = "dev")]
pub(crate) use waiter::{be_subreaper, pass_on, Family, Newest, PASSED_ON};
