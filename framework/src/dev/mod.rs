//! The development loop, `APP dev`: builds the program on each change while the previous build keeps
//! serving, and upgrades to the new build if it succeeds.
//!
//! Its two sides run in different processes:
//!
//! - The `dev` process runs [`dev_loop`]. It owns the sockets and the terminal and has the program as
//!   its child ([`program`], [`launcher`]). [`watch`] classifies changed files, [`package`] and
//!   [`build`] run cargo, and [`pages`] sends events to open pages.
//! - The program itself wraps the application in [`overlay`], which adds a script to HTML pages. It
//!   reaches the `dev` process through [`client`].

mod build;
mod client;
mod dev_loop;
mod event;
mod launcher;
mod overlay;
mod package;
mod pages;
mod program;
mod protocol;
mod timings;
mod watch;

pub(crate) use client::DevClient;
pub(crate) use dev_loop::run;
pub(crate) use overlay::OverlayApplication;
