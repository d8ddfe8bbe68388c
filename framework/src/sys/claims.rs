//! The claims: shared memory in which the one who accepts marks each connection that it is about to read first.
//!
//! A byte for each connection that travels, in a file that exists in memory only (memfd_create(2)). It is written
//! before the first read and outlives the one who wrote it, however that one ends. So the other one knows which
//! connections nobody has read, and may take those back.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{memfd_create, MemfdFlags};
use rustix::io::Errno;

/// The file. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Claims(Arc<File>);

/// What a connection that was taken over carries until it is read for the first time.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    index: u32,
}

/// The byte of a connection that somebody has read, or is about to.
const CLAIMED: u8 = 1;

impl Claims {
    /// A file without claims, close-on-exec.
    ///
    /// # Errors
    /// The system has no descriptor or no memory for it.
    pub(crate) fn create() -> io::Result<Self> {
        let create = |flags| memfd_create("slackwater-claims", MemfdFlags::CLOEXEC | flags);
        let file = match create(MemfdFlags::NOEXEC_SEAL) {
            // a kernel before 6.3 does not know the flag; a hardened one later insists on it (vm.memfd_noexec)
            Err(Errno::INVAL) => create(MemfdFlags::empty()),
            other => other,
        }?;
        Ok(Claims::from(file))
    }

    /// Claims a connection. The file grows up to its byte; what lies between takes no memory until it is claimed.
    ///
    /// # Errors
    /// There is no memory for it. The connection must not be read then.
    pub(crate) fn claim(&self, index: u32) -> io::Result<()> {
        self.0
            .write_all_at(&[CLAIMED], u64::from(index))
            .map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot claim connection {index} of the handover: {error}"),
                )
            })
    }

    /// Whether a connection has been claimed. One that cannot be told counts as claimed: better to lose it than to
    /// have it read twice.
    pub(crate) fn is_claimed(&self, index: u32) -> bool {
        let mut byte = [0];
        match self.0.read_exact_at(&mut byte, u64::from(index)) {
            Ok(()) => byte != [0],
            Err(error) => error.kind() != io::ErrorKind::UnexpectedEof,
        }
    }

    /// What the one who is to claim is sent.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The file that the other generation has created.
impl From<OwnedFd> for Claims {
    fn from(file: OwnedFd) -> Self {
        Claims(Arc::new(File::from(file)))
    }
}

impl Claim {
    pub(crate) fn new(claims: Claims, index: u32) -> Self {
        Claim { claims, index }
    }

    /// Writes it: from now on the connection is this process' alone.
    ///
    /// # Errors
    /// There is no memory for it. The connection must not be read then.
    pub(crate) fn write(self) -> io::Result<()> {
        self.claims.claim(self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_claimed_is_unclaimed_wherever_the_file_ends() {
        let claims = Claims::create().unwrap();
        assert!(!claims.is_claimed(0));
        claims.claim(5).unwrap();
        for index in [0, 4, 6, u32::MAX] {
            assert!(!claims.is_claimed(index), "{index}");
        }
        assert!(claims.is_claimed(5));
        claims.claim(5).unwrap();
        assert!(claims.is_claimed(5));
    }

    #[test]
    fn a_claim_is_seen_by_all_who_hold_the_file() {
        let ours = Claims::create().unwrap();
        let theirs = Claims::from(ours.fd().try_clone_to_owned().unwrap());
        Claim::new(theirs.clone(), 3).write().unwrap();
        drop(theirs);
        assert!(ours.is_claimed(3) && !ours.is_claimed(2));
    }

    #[test]
    fn the_last_place_costs_one_page() {
        let claims = Claims::create().unwrap();
        claims.claim(u32::MAX).unwrap();
        assert!(claims.is_claimed(u32::MAX));
        let kept = rustix::fs::fstat(claims.fd()).unwrap();
        assert_eq!(kept.st_size, 1 << 32);
        assert!(
            kept.st_blocks * 512 <= 64 * 1024,
            "{} blocks",
            kept.st_blocks
        );
    }

    #[test]
    fn it_is_closed_in_programs_that_are_started() {
        let claims = Claims::create().unwrap();
        let flags = rustix::io::fcntl_getfd(claims.fd()).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn a_claim_that_cannot_be_told_counts_as_claimed_and_one_that_cannot_be_written_is_an_error() {
        let (nothing, _other) = rustix::pipe::pipe().unwrap();
        let claims = Claims::from(nothing);
        assert!(claims.is_claimed(0));
        let error = claims.claim(7).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot claim connection 7 of the handover: "),
            "{error}"
        );
    }
}
