//! The life of a process: start, reload, pause, drain, end. [`machine`] decides, [`driver`] carries out.

mod driver;
mod handle;
mod live;
mod machine;
mod reload;
mod signal;
mod watch;

pub(crate) use driver::Driver;
pub use handle::{DeadlineExceeded, Handle, Report};
pub(crate) use machine::Event;
pub(crate) use reload::{build, Ownership, Plan};
pub(crate) use signal::Signals;
