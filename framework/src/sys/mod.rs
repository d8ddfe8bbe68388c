//! The layer to the operating system below std; nothing else talks to it.

pub(crate) mod limits;
pub(crate) mod pid_file;
pub(crate) mod stdio;
