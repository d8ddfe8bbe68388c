//! The original standard output of the process, and a pipe that replaces it.
//!
//! Descriptors 0 to 2 are always open, because std opens /dev/null before `main` in place of
//! each closed one.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{pipe_with, PipeFlags};

/// Duplicates standard output. The copy stays valid when a pipe replaces descriptor 1.
///
/// # Errors
/// No descriptor is left.
pub(crate) fn duplicate_stdout() -> io::Result<OwnedFd> {
    // 3 or higher, because 0 to 2 have a fixed meaning
    Ok(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?)
}

/// Replaces standard output with a pipe and returns its reading end. While that end is open, no
/// write to standard output can fail, even if the original output does.
///
/// # Errors
/// No descriptor is left.
pub(crate) fn divert_stdout() -> io::Result<OwnedFd> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::stdio::dup2_stdout(&writer)?;
    Ok(reader)
}
