//! What systemd is told of this process (sd_notify(3)).
//!
//! Everything here is best effort: a manager that cannot be reached is no reason to stop serving.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_io::Async;
use async_std::future::timeout;
use async_std::sync::{Mutex, MutexGuard};
use sd_notify::NotifyState;

use crate::sys::pass::pass;
use crate::sys::program::Program;

/// How long a message may wait for a place in the manager's queue.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it may take to work off its queue.
const BARRIER: Duration = Duration::from_secs(5);

/// The service manager of this process, if it has one that wants to know.
#[derive(Debug)]
pub(crate) struct Systemd {
    /// NOTIFY_SOCKET.
    socket: Option<OsString>,
    /// WATCHDOG_USEC, where it is for us.
    watchdog: Option<Duration>,
    main: Mutex<Main>,
    /// The first failure is a warning, the rest is for those who look closely.
    warned: AtomicBool,
}

/// Who the manager was told is the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Main {
    /// This process, or whoever started it: nothing has been said here.
    This,
    /// The one that takes over.
    Another,
}

impl Systemd {
    /// The manager that the environment names, as it was when the program was started.
    ///
    /// WATCHDOG_PID is heeded: pings are another process's business if it names one. An upgrade takes it out of the
    /// environment of the successor, which then pings.
    pub(crate) fn of(program: &Program) -> Self {
        let watchdog = program.variable("WATCHDOG_USEC");
        Systemd {
            socket: program
                .variable("NOTIFY_SOCKET")
                .filter(|name| !name.is_empty())
                .map(OsStr::to_owned),
            watchdog: watchdog_interval(
                watchdog,
                program.variable("WATCHDOG_PID"),
                std::process::id(),
            ),
            main: Mutex::new(Main::This),
            warned: AtomicBool::new(false),
        }
    }

    /// Nobody, for a guest in somebody else's process.
    pub(crate) fn nobody() -> Self {
        Systemd {
            socket: None,
            watchdog: None,
            main: Mutex::new(Main::This),
            warned: AtomicBool::new(false),
        }
    }

    /// The one that listens at `socket`.
    pub(crate) fn named(socket: OsString) -> Self {
        Systemd {
            socket: Some(socket),
            ..Systemd::nobody()
        }
    }

    /// Where it listens, if there is one.
    pub(crate) fn socket(&self) -> Option<OsString> {
        self.socket.clone()
    }

    /// It has started, or it is done with a reload, well or not: `READY=1` and what there is to say.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// A reload begins; [`ready`](Systemd::ready) has to follow whatever comes of it, or `systemctl reload` hangs.
    pub(crate) fn reloading(&self, status: &str) {
        let status = one_line(status);
        let mut states = vec![NotifyState::Reloading, NotifyState::Status(&status)];
        // systemd 253 and later take no RELOADING without the time
        states.extend(NotifyState::monotonic_usec_now().ok());
        self.send(&states);
    }

    /// The service ends; not for a generation that leaves to its successor.
    pub(crate) fn stopping(&self, status: &str) {
        self.send(&[
            NotifyState::Stopping,
            NotifyState::Status(&one_line(status)),
        ]);
    }

    /// Another process is the service now.
    pub(crate) async fn give_main(&self, pid: u32) {
        let mut main = self.main.lock().await;
        if *main == Main::This {
            *main = Main::Another;
            self.main_pid(pid);
        }
    }

    /// This process is the service, whoever was it for a moment.
    pub(crate) async fn take_main(&self) {
        let mut main = self.main.lock().await;
        *main = Main::This;
        self.main_pid(std::process::id());
    }

    /// Who is the service, until what is returned is dropped.
    pub(crate) async fn main(&self) -> MutexGuard<'_, Main> {
        self.main.lock().await
    }

    /// It takes NotifyAccess=all, for this process may not be the main one.
    pub(crate) fn main_pid(&self, pid: u32) {
        self.send(&[NotifyState::MainPid(pid)]);
    }

    /// Waits until the manager has worked off all that was said until now (`BARRIER=1`), for [`BARRIER`] at most.
    pub(crate) async fn barrier(&self) {
        let Some(name) = &self.socket else { return };
        let over = barrier(name).and_then(Async::new);
        if let Ok(over) = over {
            let _ = timeout(BARRIER, over.readable()).await;
        }
    }

    /// What `systemctl status` shows.
    pub(crate) fn status(&self, text: &str) {
        self.send(&[NotifyState::Status(&one_line(text))]);
    }

    /// Starting, reloading or stopping goes on for so long from now, 71 minutes at most.
    pub(crate) fn extend_timeout(&self, by: Duration) {
        let micros = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
        self.send(&[NotifyState::ExtendTimeoutUsec(micros)]);
    }

    /// This process is alive.
    pub(crate) fn watchdog(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// How often to say so: half of what the manager waits. `None` if nobody asks.
    pub(crate) fn watchdog_interval(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.watchdog)
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(name) = &self.socket else { return };
        if let Err(error) = send(name, &Message(states).to_string()) {
            let level = match self.warned.swap(true, Ordering::Relaxed) {
                false => log::Level::Warn,
                true => log::Level::Debug,
            };
            log::log!(
                level,
                "the service manager could not be told (NOTIFY_SOCKET={}): {error}",
                name.to_string_lossy()
            );
        }
    }
}

fn watchdog_interval(micros: Option<&OsStr>, pid: Option<&OsStr>, ours: u32) -> Option<Duration> {
    let number = |text: &OsStr| text.to_str()?.parse::<u64>().ok();
    let micros = micros.and_then(number).filter(|micros| *micros > 0)?;
    let whose = pid.filter(|pid| !pid.is_empty());
    if whose.is_some_and(|pid| number(pid) != Some(ours.into())) {
        return None;
    }
    Some(Duration::from_micros(micros) / 2)
}

/// A line each, as the protocol has it.
struct Message<'a>(&'a [NotifyState<'a>]);

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|state| writeln!(f, "{state}"))
    }
}

/// A second line would be another message.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// As the `notify` of sd-notify does, which knows neither abstract sockets nor any but the environment's.
fn send(name: &OsStr, message: &str) -> io::Result<()> {
    connect(name)?.send(message.as_bytes()).map(drop)
}

/// Sends a descriptor, which the manager closes in its turn; gives the other end of it.
fn barrier(name: &OsStr) -> io::Result<OwnedFd> {
    let (over, closed) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    pass(connect(name)?, b"BARRIER=1\n", closed)?;
    Ok(over)
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect_addr(&address(name)?)?;
    Ok(socket)
}

/// An absolute path, or a name in the abstract namespace after an `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "neither a path nor an abstract socket",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;
    use std::time::Instant;

    use super::*;

    /// A manager of our own, and what it hears.
    fn manager(name: &str) -> (UnixDatagram, Systemd) {
        let name = format!("slackwater-test-{}-{name}", std::process::id());
        let socket =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        (socket, told(Some(format!("@{name}"))))
    }

    fn told(socket: Option<String>) -> Systemd {
        Systemd {
            socket: socket.map(OsString::from),
            watchdog: Some(Duration::from_secs(1)),
            main: Mutex::new(Main::This),
            warned: AtomicBool::new(false),
        }
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_barrier_is_over_when_the_manager_closes_what_it_was_sent() {
        let (socket, systemd) = manager("barrier");
        let closed = async {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = rustix::net::RecvAncillaryBuffer::new(&mut space);
            let mut message = [0; 64];
            let buffer = &mut [io::IoSliceMut::new(&mut message)];
            let flags = rustix::net::RecvFlags::CMSG_CLOEXEC;
            let received = rustix::net::recvmsg(&socket, buffer, &mut ancillary, flags).unwrap();
            assert_eq!(&message[..received.bytes], b"BARRIER=1\n");
            Instant::now()
            // and the descriptor goes with `ancillary`
        };
        let begun = Instant::now();
        let over = async {
            systemd.barrier().await;
            Instant::now()
        };
        let both = futures_lite::future::zip(over, closed);
        let (over, closed) = async_std::task::block_on(both);
        assert!(begun <= closed && closed <= over && over < begun + BARRIER);
    }

    #[test]
    fn each_message_is_what_sd_notify_says() {
        let (socket, systemd) = manager("messages");
        systemd.ready("serving\nREADY=0");
        assert_eq!(heard(&socket), "READY=1\nSTATUS=serving READY=0\n");
        systemd.stopping("draining");
        assert_eq!(heard(&socket), "STOPPING=1\nSTATUS=draining\n");
        systemd.main_pid(77);
        assert_eq!(heard(&socket), "MAINPID=77\n");
        systemd.status("3 connections");
        assert_eq!(heard(&socket), "STATUS=3 connections\n");
        systemd.extend_timeout(Duration::from_millis(1500));
        assert_eq!(heard(&socket), "EXTEND_TIMEOUT_USEC=1500000\n");
        systemd.extend_timeout(Duration::from_secs(86_400));
        assert_eq!(heard(&socket), "EXTEND_TIMEOUT_USEC=4294967295\n");
        systemd.watchdog();
        assert_eq!(heard(&socket), "WATCHDOG=1\n");
        assert_eq!(systemd.watchdog_interval(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_reload_says_when_it_began() {
        let (socket, systemd) = manager("reloading");
        let now = || NotifyState::monotonic_usec_now().unwrap().to_string();
        let before = now();
        systemd.reloading("reloading");
        let message = heard(&socket);
        let lines: Vec<&str> = message.lines().collect();
        assert_eq!(lines[..2], ["RELOADING=1", "STATUS=reloading"]);
        assert!(
            before.as_str() <= lines[2] && lines[2] <= now().as_str(),
            "{message}"
        );
    }

    #[test]
    fn a_path_is_as_good_as_an_abstract_name() {
        let path = std::env::temp_dir().join(format!("slackwater-{}-systemd", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        told(path.to_str().map(str::to_owned)).status("on");
        assert_eq!(heard(&socket), "STATUS=on\n");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn nobody_to_tell_is_no_error() {
        let systemd = told(None);
        systemd.ready("");
        assert_eq!(systemd.watchdog_interval(), None);
        for name in ["/nonexistent/notify", "vsock:2:1", "relative"] {
            let systemd = told(Some(name.into()));
            systemd.ready("");
            assert!(systemd.warned.load(Ordering::Relaxed));
        }
    }

    #[test]
    fn the_watchdog_is_fed_at_half_its_time_by_whom_it_watches() {
        let interval = |micros: Option<&str>, pid: Option<&str>| {
            watchdog_interval(micros.map(OsStr::new), pid.map(OsStr::new), 7)
        };
        assert_eq!(
            interval(Some("3000000"), None),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(
            interval(Some("3000000"), Some("7")),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(interval(Some("3000000"), Some("8")), None);
        assert_eq!(interval(Some("3000000"), Some("me")), None);
        assert_eq!(interval(Some("0"), None), None);
        assert_eq!(interval(Some("soon"), None), None);
        assert_eq!(interval(None, None), None);
    }
}
