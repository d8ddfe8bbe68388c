//! The operating system below std. Other modules make no system calls of this kind themselves.

pub(crate) mod child;
pub(crate) mod claims;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod pass;
pub(crate) mod pid_file;
pub(crate) mod program;
pub(crate) mod spawn;
pub(crate) mod stdio;
