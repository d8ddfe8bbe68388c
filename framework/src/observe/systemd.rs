//! Notifications to systemd (sd_notify(3)).
//!
//! All notifications are best effort: the process keeps serving if the service manager cannot be
//! reached.

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

/// The time that a message may wait for space in the queue of the service manager.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The time that the service manager may take to process its queue.
const BARRIER: Duration = Duration::from_secs(5);

/// The service manager of this process, if there is one.
#[derive(Debug)]
pub(crate) struct Systemd {
    /// NOTIFY_SOCKET. `None` disables all notifications.
    socket: Option<OsString>,
    /// Half of WATCHDOG_USEC, if the watchdog is enabled for this process.
    watchdog: Option<Duration>,
    main: Mutex<MainProcess>,
    /// Set after the first failure, which is logged as a warning. Later ones are logged at level
    /// debug.
    warned: AtomicBool,
}

/// The process that the service manager regards as the main process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MainProcess {
    /// This process or the parent that started it. Nothing was sent to change that.
    This,
    /// The new process of an upgrade.
    Other,
}

impl Systemd {
    /// Reads the service manager from the original environment.
    ///
    /// If WATCHDOG_PID names another process, this process sends no watchdog pings. An upgrade
    /// removes the variable from the environment of the new process, which then sends them.
    pub(crate) fn from_environment(program: &Program) -> Self {
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
            main: Mutex::new(MainProcess::This),
            warned: AtomicBool::new(false),
        }
    }

    /// No service manager, for a server that is embedded in a process it does not own.
    pub(crate) fn none() -> Self {
        Systemd {
            socket: None,
            watchdog: None,
            main: Mutex::new(MainProcess::This),
            warned: AtomicBool::new(false),
        }
    }

    /// The service manager that listens at `socket`.
    pub(crate) fn at(socket: OsString) -> Self {
        Systemd {
            socket: Some(socket),
            ..Systemd::none()
        }
    }

    /// The address of the service manager, if there is one.
    pub(crate) fn socket(&self) -> Option<OsString> {
        self.socket.clone()
    }

    /// Reports the end of the start or of a reload, successful or not: `READY=1` and the status.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// Reports the start of a reload. [`ready`](Systemd::ready) must follow in any case, or
    /// `systemctl reload` hangs.
    pub(crate) fn reloading(&self, status: &str) {
        let status = one_line(status);
        let mut states = vec![NotifyState::Reloading, NotifyState::Status(&status)];
        // systemd 253 and later ignore RELOADING without the time
        states.extend(NotifyState::monotonic_usec_now().ok());
        self.send(&states);
    }

    /// Reports that the service stops. An old process that exits after an upgrade must not send
    /// this.
    pub(crate) fn stopping(&self, status: &str) {
        self.send(&[
            NotifyState::Stopping,
            NotifyState::Status(&one_line(status)),
        ]);
    }

    /// Makes another process the main process.
    pub(crate) async fn set_main_to(&self, pid: u32) {
        let mut main = self.main.lock().await;
        if *main == MainProcess::This {
            *main = MainProcess::Other;
            self.main_pid(pid);
        }
    }

    /// Makes this process the main process again.
    pub(crate) async fn set_main_to_self(&self) {
        let mut main = self.main.lock().await;
        *main = MainProcess::This;
        self.main_pid(std::process::id());
    }

    /// Returns the current main process. The lock prevents changes until it is dropped.
    pub(crate) async fn main(&self) -> MutexGuard<'_, MainProcess> {
        self.main.lock().await
    }

    /// Sends MAINPID. The unit needs NotifyAccess=all, because this process may not be the main
    /// process.
    pub(crate) fn main_pid(&self, pid: u32) {
        self.send(&[NotifyState::MainPid(pid)]);
    }

    /// Waits until the service manager has processed all earlier messages (`BARRIER=1`), for
    /// [`BARRIER`] at most.
    pub(crate) async fn barrier(&self) {
        let Some(name) = &self.socket else { return };
        let pipe = barrier(name).and_then(Async::new);
        if let Ok(pipe) = pipe {
            let _ = timeout(BARRIER, pipe.readable()).await;
        }
    }

    /// Sets the text that `systemctl status` shows.
    pub(crate) fn status(&self, text: &str) {
        self.send(&[NotifyState::Status(&one_line(text))]);
    }

    /// Extends the timeout of the start, reload or stop in progress by this time from now, at most
    /// 71 minutes.
    pub(crate) fn extend_timeout(&self, by: Duration) {
        let micros = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
        self.send(&[NotifyState::ExtendTimeoutUsec(micros)]);
    }

    /// Sends a watchdog ping.
    pub(crate) fn watchdog(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// The interval of watchdog pings: half of the watchdog timeout. `None` if the watchdog is
    /// disabled.
    pub(crate) fn watchdog_interval(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.watchdog)
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(name) = &self.socket else { return };
        if let Err(error) = send(name, &NotifyMessage(states).to_string()) {
            let level = match self.warned.swap(true, Ordering::Relaxed) {
                false => log::Level::Warn,
                true => log::Level::Debug,
            };
            log::log!(
                level,
                "cannot notify the service manager (NOTIFY_SOCKET={}): {error}",
                name.to_string_lossy()
            );
        }
    }
}

fn watchdog_interval(micros: Option<&OsStr>, pid: Option<&OsStr>, ours: u32) -> Option<Duration> {
    let number = |text: &OsStr| text.to_str()?.parse::<u64>().ok();
    let micros = micros.and_then(number).filter(|micros| *micros > 0)?;
    let pid = pid.filter(|pid| !pid.is_empty());
    if pid.is_some_and(|pid| number(pid) != Some(ours.into())) {
        return None;
    }
    Some(Duration::from_micros(micros) / 2)
}

/// A message of the protocol: one state a line.
struct NotifyMessage<'a>(&'a [NotifyState<'a>]);

impl fmt::Display for NotifyMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|state| writeln!(f, "{state}"))
    }
}

/// Replaces control characters, because a newline would start another state.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Sends a message. `sd_notify::notify` supports neither abstract sockets nor an address other than
/// that of the environment.
fn send(name: &OsStr, message: &str) -> io::Result<()> {
    connect(name)?.send(message.as_bytes()).map(drop)
}

/// Sends the writing end of a pipe, which the service manager closes when it processes the message.
/// Returns the reading end.
fn barrier(name: &OsStr) -> io::Result<OwnedFd> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    pass(connect(name)?, b"BARRIER=1\n", writer)?;
    Ok(reader)
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    socket.connect_addr(&address(name)?)?;
    Ok(socket)
}

/// Parses an absolute path, or an abstract name after `@`.
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

    /// Returns a socket in the role of the service manager, and a `Systemd` that sends to it.
    fn manager(name: &str) -> (UnixDatagram, Systemd) {
        let name = format!("slackwater-test-{}-{name}", std::process::id());
        let socket =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        (socket, systemd_at(Some(format!("@{name}"))))
    }

    fn systemd_at(socket: Option<String>) -> Systemd {
        Systemd {
            socket: socket.map(OsString::from),
            watchdog: Some(Duration::from_secs(1)),
            main: Mutex::new(MainProcess::This),
            warned: AtomicBool::new(false),
        }
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_barrier_ends_when_the_manager_closes_the_descriptor() {
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
            // the received descriptor is closed with `ancillary`
        };
        let start = Instant::now();
        let over = async {
            systemd.barrier().await;
            Instant::now()
        };
        let both = futures_lite::future::zip(over, closed);
        let (over, closed) = async_std::task::block_on(both);
        assert!(start <= closed && closed <= over && over < start + BARRIER);
    }

    #[test]
    fn each_message_follows_the_protocol() {
        let (socket, systemd) = manager("messages");
        systemd.ready("serving\nREADY=0");
        assert_eq!(received(&socket), "READY=1\nSTATUS=serving READY=0\n");
        systemd.stopping("draining");
        assert_eq!(received(&socket), "STOPPING=1\nSTATUS=draining\n");
        systemd.main_pid(77);
        assert_eq!(received(&socket), "MAINPID=77\n");
        systemd.status("3 connections");
        assert_eq!(received(&socket), "STATUS=3 connections\n");
        systemd.extend_timeout(Duration::from_millis(1500));
        assert_eq!(received(&socket), "EXTEND_TIMEOUT_USEC=1500000\n");
        systemd.extend_timeout(Duration::from_secs(86_400));
        assert_eq!(received(&socket), "EXTEND_TIMEOUT_USEC=4294967295\n");
        systemd.watchdog();
        assert_eq!(received(&socket), "WATCHDOG=1\n");
        assert_eq!(systemd.watchdog_interval(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_reload_message_contains_its_start_time() {
        let (socket, systemd) = manager("reloading");
        let now = || NotifyState::monotonic_usec_now().unwrap().to_string();
        let before = now();
        systemd.reloading("reloading");
        let message = received(&socket);
        let lines: Vec<&str> = message.lines().collect();
        assert_eq!(lines[..2], ["RELOADING=1", "STATUS=reloading"]);
        assert!(
            before.as_str() <= lines[2] && lines[2] <= now().as_str(),
            "{message}"
        );
    }

    #[test]
    fn the_manager_may_listen_at_a_path() {
        let path = std::env::temp_dir().join(format!("slackwater-{}-systemd", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        systemd_at(path.to_str().map(str::to_owned)).status("on");
        assert_eq!(received(&socket), "STATUS=on\n");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_missing_manager_is_not_an_error() {
        let systemd = systemd_at(None);
        systemd.ready("");
        assert_eq!(systemd.watchdog_interval(), None);
        for name in ["/nonexistent/notify", "vsock:2:1", "relative"] {
            let systemd = systemd_at(Some(name.into()));
            systemd.ready("");
            assert!(systemd.warned.load(Ordering::Relaxed));
        }
    }

    #[test]
    fn the_watchdog_interval_is_half_its_timeout_and_only_for_the_named_process() {
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
