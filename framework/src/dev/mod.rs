//! The development loop, `APP dev`: the program serves while its next version is built beside it, and is upgraded
//! when that passes.
//!
//! Two sides, in different processes. The [`keeper`] is what `APP dev` runs: it owns sockets and terminal, has the
//! program as its child ([`running`] says how that stands), and knows by [`watch`] and [`build`] what to do with it;
//! [`package`] says what to build, [`pages`] what open pages are told. In the program itself, [`link`] leads to the keeper, and [`overlay`] stands
//! before the application and puts the script into its pages.

mod build;
mod child;
mod keeper;
mod link;
mod overlay;
mod package;
mod pages;
mod running;
mod times;
mod watch;

pub(crate) use keeper::keep;
pub(crate) use link::Link;
pub(crate) use overlay::Overlaid;
