//! Which process is the application now: a few bytes of memory that all generations and the waiter share.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{memfd_create, MemfdFlags};
use rustix::io::{fcntl_setfd, Errno, FdFlags};
use rustix::net::{
    recvmsg, socketpair, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags,
    SocketFlags, SocketType,
};
use rustix::process::test_kill_process;

use crate::socket::NEWEST;
use crate::sys::pass::pass;

/// What the file begins with.
const MARK: [u8; 4] = *b"slw1";

/// Where the pid of whom stands in the file, as four bytes.
#[derive(Clone, Copy)]
enum Slot {
    Live = 4,
    Previous = 8,
    Next = 12,
    Waiter = 16,
    /// To whom the one before has left all that comes in. Behind those who drain.
    Heir = 36,
}

/// Where the pids of those stand that were replaced and still drain, and how many they can be.
const DRAINING: u64 = 20;
pub(crate) const MAX_DRAINING: usize = 4;

/// How long the file is. One that an older version has made may be shorter: what it lacks is nobody until it is written.
const LENGTH: u64 = Slot::Heir as u64 + 4;

/// The shared record of who is live. Each pid is written by itself, and read anew each time; 0 stands for nobody.
#[derive(Debug)]
pub(crate) struct Newest(File);

/// Whom the record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Who serves.
    pub(crate) live: u32,
    /// Who takes over again should that one die.
    pub(crate) previous: u32,
    /// Who is about to take over.
    pub(crate) next: u32,
}

impl Newest {
    /// A new record that names nobody, for the first generation.
    ///
    /// # Errors
    /// The operating system gives no memory or no descriptor.
    pub(crate) fn create() -> io::Result<Self> {
        let create = |flags| memfd_create(NEWEST, MemfdFlags::CLOEXEC | flags);
        // where nothing else is allowed; Linux before 6.3 does not know it
        let file = match create(MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => create(MemfdFlags::empty())?,
            other => other?,
        };
        let file = File::from(file);
        file.write_all_at(&MARK, 0)?;
        file.set_len(LENGTH)?;
        Ok(Newest(file))
    }

    /// A socket with the record in its queue, to be passed to the next generation as [`NEWEST`].
    ///
    /// Not the file itself: without unsafe code only a socket that was passed by number can be taken, and what cannot
    /// be taken cannot be closed on exec either.
    ///
    /// # Errors
    /// The operating system gives no sockets.
    pub(crate) fn parcel(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        pass(ours, &MARK, &self.0)?;
        Ok(theirs)
    }

    /// Takes the record out of a socket that [`parcel`](Newest::parcel) has made, and writes this process down as
    /// the next one.
    ///
    /// # Errors
    /// There is none in it, or it is none of ours.
    pub(crate) fn adopt(parcel: OwnedFd) -> io::Result<Self> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut mark = [0; 4];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        recvmsg(
            parcel,
            &mut [IoSliceMut::new(&mut mark)],
            &mut ancillary,
            flags,
        )?;
        let fd = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let newest = Newest::checked(fd.ok_or_else(foreign)?.into())?;
        newest.expect(std::process::id());
        Ok(newest)
    }

    /// The record that was kept open across execve(2).
    pub(super) fn inherited(number: u32) -> io::Result<Self> {
        Newest::checked(
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(format!("/proc/self/fd/{number}"))?,
        )
    }

    fn checked(file: File) -> io::Result<Self> {
        let mut mark = [0; 4];
        file.read_exact_at(&mut mark, 0)?;
        if mark != MARK {
            return Err(foreign());
        }
        Ok(Newest(file))
    }

    /// A process was started that may become the newest: until it is live or dead, the end of the live one is not the
    /// end. To be called as soon as its pid is known.
    pub(crate) fn expect(&self, pid: u32) {
        self.write(Slot::Next, pid);
    }

    /// The process that was started has come to nothing.
    pub(crate) fn expect_nobody(&self) {
        self.write(Slot::Next, 0);
    }

    /// `pid` is live: it serves from now on, and is sent the signals. Who was live before may have to be it again.
    pub(crate) fn announce(&self, pid: u32) {
        let Named { live, next, .. } = self.read();
        if live != pid {
            self.write(Slot::Previous, live);
        }
        self.write(Slot::Live, pid);
        if next == pid {
            self.expect_nobody();
        }
    }

    /// Nobody takes over again: the upgrade is confirmed, or it has been rolled back.
    pub(crate) fn confirm(&self) {
        self.write(Slot::Previous, 0);
    }

    /// Whoever was live before accepts nothing any more: what comes in from now on is for `pid`.
    pub(crate) fn leave_to(&self, pid: u32) {
        self.write(Slot::Heir, pid);
    }

    /// Whether nobody accepts beside the live one.
    #[cfg(any(feature = "dev", test))]
    pub(crate) fn is_alone(&self) -> bool {
        self.is_proven() || self.pid(Slot::Heir) == self.read().live
    }

    /// Whether nobody takes over again, should the live one die.
    #[cfg(any(feature = "dev", test))]
    pub(crate) fn is_proven(&self) -> bool {
        match self.read().previous {
            0 => true,
            previous => !is_alive(previous),
        }
    }

    /// Those who were replaced and still drain.
    pub(crate) fn draining(&self) -> Vec<u32> {
        self.places()
            .map(|at| self.pid_at(at))
            .filter(|pid| is_alive(*pid))
            .collect()
    }

    /// `pid` has been replaced, and drains until its end.
    pub(crate) fn drains(&self, pid: u32) {
        let free = self.places().find(|at| !is_alive(self.pid_at(*at)));
        // more are never started, and one that is not counted harms nobody
        free.into_iter().for_each(|at| self.write_at(at, pid));
    }

    /// `pid` has nothing left to drain, and may go on as a waiter.
    pub(crate) fn drained(&self, pid: u32) {
        self.places()
            .filter(|at| self.pid_at(*at) == pid)
            .for_each(|at| self.write_at(at, 0));
    }

    #[expect(clippy::unused_self, reason = "the places belong to the record")]
    fn places(&self) -> impl Iterator<Item = u64> {
        (0..MAX_DRAINING as u64).map(|place| DRAINING + 4 * place)
    }

    /// Who is live; `None` as long as nobody was.
    pub(crate) fn live(&self) -> Option<u32> {
        Some(self.read().live).filter(|pid| *pid != 0)
    }

    /// This process stays for those who watch its pid, until the last one has ended.
    pub(crate) fn stays(&self) {
        self.write(Slot::Waiter, std::process::id());
    }

    /// The first process, if it has stayed. A record that an older version has made has no place for it.
    pub(crate) fn waiter(&self) -> Option<u32> {
        let is_there =
            |pid: &u32| *pid != 0 && std::path::Path::new(&format!("/proc/{pid}")).exists();
        Some(self.pid(Slot::Waiter)).filter(is_there)
    }

    pub(crate) fn read(&self) -> Named {
        Named {
            live: self.pid(Slot::Live),
            previous: self.pid(Slot::Previous),
            next: self.pid(Slot::Next),
        }
    }

    fn pid(&self, slot: Slot) -> u32 {
        self.pid_at(slot as u64)
    }

    fn write(&self, slot: Slot, pid: u32) {
        self.write_at(slot as u64, pid);
    }

    fn pid_at(&self, place: u64) -> u32 {
        let mut bytes = [0; 4];
        // it is there: the mark before it was
        let read = self.0.read_exact_at(&mut bytes, place);
        read.map_or(0, |()| u32::from_ne_bytes(bytes))
    }

    fn write_at(&self, place: u64, pid: u32) {
        // memory that exists already: nothing can fail here
        let _ = self.0.write_all_at(&pid.to_ne_bytes(), place);
    }

    pub(super) fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Keeps it open across execve(2), for as long as what is returned lives.
    pub(super) fn stays_open(&self) -> io::Result<StaysOpen<'_>> {
        fcntl_setfd(&self.0, FdFlags::empty())?;
        Ok(StaysOpen(self))
    }
}

pub(super) struct StaysOpen<'a>(&'a Newest);

impl Drop for StaysOpen<'_> {
    fn drop(&mut self) {
        let _ = fcntl_setfd(&self.0 .0, FdFlags::CLOEXEC);
    }
}

/// Whether there is such a process.
pub(super) fn is_alive(number: u32) -> bool {
    super::pid(number).is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

fn foreign() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the file is not slackwater's record of the active process",
    )
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use rustix::net::{sendmsg, SendAncillaryBuffer, SendFlags};

    use super::*;

    fn named(live: u32, previous: u32, next: u32) -> Named {
        Named {
            live,
            previous,
            next,
        }
    }

    #[test]
    fn an_upgrade_and_a_rollback_as_the_record_sees_them() {
        let newest = Newest::create().unwrap();
        assert_eq!((newest.live(), newest.read()), (None, named(0, 0, 0)));
        newest.announce(10);
        assert_eq!(newest.read(), named(10, 0, 0));
        newest.expect(11);
        assert_eq!(newest.read(), named(10, 0, 11));
        newest.announce(11);
        assert_eq!(newest.read(), named(11, 10, 0));
        newest.announce(11);
        assert_eq!(newest.read(), named(11, 10, 0));
        newest.announce(10);
        newest.confirm();
        assert_eq!(newest.read(), named(10, 0, 0));
        newest.expect(12);
        newest.expect_nobody();
        assert_eq!((newest.live(), newest.read()), (Some(10), named(10, 0, 0)));
    }

    #[test]
    fn a_predecessor_may_accept_until_it_says_otherwise_or_does_not_live() {
        let mut other = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let newest = Newest::create().unwrap();
        newest.announce(other.id());
        newest.announce(11);
        assert!(!newest.is_alone() && !newest.is_proven());
        newest.leave_to(11);
        assert!(newest.is_alone() && !newest.is_proven());
        // what was said of another one says nothing
        newest.announce(12);
        newest.write(Slot::Previous, other.id());
        assert!(!newest.is_alone());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(newest.is_alone() && newest.is_proven());
        newest.write(Slot::Previous, std::process::id());
        assert!(!newest.is_alone());
        newest.confirm();
        assert!(newest.is_alone() && newest.is_proven());
    }

    #[test]
    fn those_who_drain_are_known_until_they_end() {
        let newest = Newest::create().unwrap();
        let mut child = std::process::Command::new("/bin/cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let ourselves = std::process::id();
        newest.drains(child.id());
        newest.drains(ourselves);
        assert_eq!(newest.draining(), [child.id(), ourselves]);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(newest.draining(), [ourselves]);
        // the place of one that has ended is free again
        (0..MAX_DRAINING + 1).for_each(|_| newest.drains(ourselves));
        assert_eq!(newest.draining(), [ourselves; MAX_DRAINING]);
        newest.drained(ourselves);
        assert_eq!(newest.draining(), [0; 0]);
    }

    #[test]
    fn a_parcel_holds_the_same_record() {
        let newest = Newest::create().unwrap();
        newest.announce(10);
        let adopted = Newest::adopt(newest.parcel().unwrap()).unwrap();
        assert_eq!(newest.read(), named(10, 0, std::process::id()));
        assert!(rustix::io::fcntl_getfd(&adopted.0)
            .unwrap()
            .contains(FdFlags::CLOEXEC));
        adopted.announce(11);
        assert_eq!(newest.live(), Some(11));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        assert!(Newest::adopt(one).is_err());
        sendmsg(
            &other,
            &[IoSlice::new(&MARK)],
            &mut SendAncillaryBuffer::default(),
            SendFlags::NOSIGNAL,
        )
        .unwrap_err();
        assert!(Newest::adopt(File::open("/dev/null").unwrap().into()).is_err());
        assert!(Newest::inherited(0x7fff_ffff).is_err());
        assert!(
            Newest::checked(memfd_create("other", MemfdFlags::CLOEXEC).unwrap().into()).is_err()
        );
    }

    #[test]
    fn it_is_closed_on_exec_unless_told_otherwise() {
        let newest = Newest::create().unwrap();
        let flags = || rustix::io::fcntl_getfd(&newest.0).unwrap();
        let open = newest.stays_open().unwrap();
        assert!(!flags().contains(FdFlags::CLOEXEC));
        newest.announce(5);
        let number = newest.number().unsigned_abs();
        assert_eq!(Newest::inherited(number).unwrap().live(), Some(5));
        drop(open);
        assert!(flags().contains(FdFlags::CLOEXEC));
    }
}
