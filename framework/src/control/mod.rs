//! The control socket: how `APP status`, `reload`, `upgrade` and the like reach the process that runs.
//!
//! - [`protocol`]: what is said, as types and lines of JSON
//! - [`path`]: where the socket is
//! - [`socket`]: how it is put in place, handed to the next process and taken away
//! - [`server`]: the running process' side of it; what is asked is the lifecycle's to answer
//! - [`client`]: the command's side of it, and [`show`]: what it prints

mod client;
mod path;
pub(crate) mod protocol;
mod server;
mod show;
mod socket;

#[cfg(feature = "control")]
pub(crate) use client::Client;
pub(crate) use path::{Around, Places};
pub(crate) use server::Server;
#[cfg(feature = "control")]
pub(crate) use show::{command, status};
pub(crate) use socket::Socket;
