//! The control socket, by which commands such as `APP status`, `reload` and `upgrade` reach the
//! running process.
//!
//! - [`protocol`]: the messages, as types and lines of JSON
//! - [`path`]: the path of the socket
//! - [`socket`]: creates the socket, passes its path to the next process, removes it
//! - [`server`]: accepts commands in the running process; `lifecycle` carries them out
//! - [`client`]: sends commands, and [`show`] prints the responses

mod client;
mod path;
pub(crate) mod protocol;
mod server;
mod show;
mod socket;

#[cfg(feature = "control")]
pub(crate) use client::Client;
pub(crate) use path::{PathContext, SocketPaths};
pub(crate) use server::Server;
#[cfg(feature = "control")]
pub(crate) use show::{command, status};
pub(crate) use socket::Socket;
