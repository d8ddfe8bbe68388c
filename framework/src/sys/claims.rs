//! Claims: shared memory in which the new process marks each connection before it reads from it for
//! the first time.
//!
//! The memory is a file (memfd_create(2)) with one byte for each connection that is handed over.
//! The byte is written before the first read, and the file outlives the process that wrote it, even
//! if that is killed. The old process can therefore determine which connections have not been read
//! from, and take those back.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{memfd_create, MemfdFlags};
use rustix::io::Errno;

/// The file of claims. Clones refer to the same file.
#[derive(Clone, Debug)]
pub(crate) struct Claims(Arc<File>);

/// The unwritten claim of a received connection. The connection carries it until the first read.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    index: u32,
}

/// The byte of a claimed connection.
const CLAIMED: u8 = 1;

impl Claims {
    /// Creates a file without claims. It is close-on-exec.
    ///
    /// # Errors
    /// memfd_create(2) fails: no descriptor or no memory is left.
    pub(crate) fn create() -> io::Result<Self> {
        let create = |flags| memfd_create("slackwater-claims", MemfdFlags::CLOEXEC | flags);
        let file = match create(MemfdFlags::NOEXEC_SEAL) {
            // kernels before 6.3 do not support the flag; later ones may require it
            // (vm.memfd_noexec)
            Err(Errno::INVAL) => create(MemfdFlags::empty()),
            other => other,
        }?;
        Ok(Claims::from(file))
    }

    /// Claims a connection. The file grows to include its byte. The bytes in between use no memory
    /// until they are written.
    ///
    /// # Errors
    /// No memory is left. The connection must not be read from then.
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

    /// Returns true if a connection has been claimed. If the file cannot be read, the connection
    /// counts as claimed: losing it is better than having two processes read from it.
    pub(crate) fn is_claimed(&self, index: u32) -> bool {
        let mut byte = [0];
        match self.0.read_exact_at(&mut byte, u64::from(index)) {
            Ok(()) => byte != [0],
            Err(error) => error.kind() != io::ErrorKind::UnexpectedEof,
        }
    }

    /// The descriptor of the file, for the new process.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens the claims that the old process created.
impl From<OwnedFd> for Claims {
    fn from(file: OwnedFd) -> Self {
        Claims(Arc::new(File::from(file)))
    }
}

impl Claim {
    pub(crate) fn new(claims: Claims, index: u32) -> Self {
        Claim { claims, index }
    }

    /// Writes the claim. From now on only this process may read from the connection.
    ///
    /// # Errors
    /// No memory is left. The connection must not be read from then.
    pub(crate) fn write(self) -> io::Result<()> {
        self.claims.claim(self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_without_a_claim_is_unclaimed_also_past_the_end_of_the_file() {
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
    fn every_holder_of_the_file_reads_a_claim() {
        let ours = Claims::create().unwrap();
        let theirs = Claims::from(ours.fd().try_clone_to_owned().unwrap());
        Claim::new(theirs.clone(), 3).write().unwrap();
        drop(theirs);
        assert!(ours.is_claimed(3) && !ours.is_claimed(2));
    }

    #[test]
    fn a_claim_at_the_last_index_uses_one_page() {
        let claims = Claims::create().unwrap();
        claims.claim(u32::MAX).unwrap();
        assert!(claims.is_claimed(u32::MAX));
        let stat = rustix::fs::fstat(claims.fd()).unwrap();
        assert_eq!(stat.st_size, 1 << 32);
        assert!(
            stat.st_blocks * 512 <= 64 * 1024,
            "{} blocks",
            stat.st_blocks
        );
    }

    #[test]
    fn the_file_is_close_on_exec() {
        let claims = Claims::create().unwrap();
        let flags = rustix::io::fcntl_getfd(claims.fd()).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn an_unreadable_claim_counts_as_claimed_and_an_unwritable_claim_is_an_error() {
        let (pipe, _other) = rustix::pipe::pipe().unwrap();
        let claims = Claims::from(pipe);
        assert!(claims.is_claimed(0));
        let error = claims.claim(7).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot claim connection 7 of the handover: "),
            "{error}"
        );
    }
}
