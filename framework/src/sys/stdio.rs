//! Standard output: the one this process was given, and one of our own in its place.
//!
//! That descriptors 0 to 2 are open at all is std's work: before `main` it opens /dev/null for each that is not.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{pipe_with, PipeFlags};

/// The standard output that this process was given, whatever descriptor 1 becomes.
///
/// # Errors
/// No descriptor is left.
pub(crate) fn given_stdout() -> io::Result<OwnedFd> {
    // not among 0 to 2, which programs take for granted
    Ok(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?)
}

/// Puts a pipe in place of standard output and returns the end to read from: as long as that end is held, no write to
/// standard output can fail, whatever becomes of the real one.
///
/// # Errors
/// No descriptor is left.
pub(crate) fn divert_stdout() -> io::Result<OwnedFd> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::stdio::dup2_stdout(&writer)?;
    Ok(reader)
}
