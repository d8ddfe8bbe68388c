//! The main process of a service for a moment, so that systemd looks at the real one anew.
//!
//! systemd asks whether the main process is its own child when it is told of it (`MAINPID=`, sd_notify(3)), and never
//! again. A new process has to be told of while the old one, its parent, is still there: so it counts as a stranger's,
//! and a stop gives it no time: where nothing else is left in the unit's control group, KILL follows TERM at once
//! (`service_set_main_pid`, `unit_kill_context`, `service_enter_signal` in the source of systemd 252). Once the old process
//! is gone the new one is systemd's child. To be looked at again it names another main process, this one, which names
//! the real one. That it is this one which does it matters where only the main process may speak (`NotifyAccess=main`).

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_io::Async;
use async_std::future::timeout;
use async_std::task::spawn_blocking;
use rustix::process::{getppid, kill_process, pidfd_open, PidfdFlags, Signal};
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::observe::systemd::{MainProcess, Systemd};

/// What makes this program a stand-in.
const ASKED: &str = "SLACKWATER_STAND_IN";

/// What may be sent to the main process alone. What ends a service is sent to all its processes.
const MEANT_FOR_MAIN: [i32; 4] = [SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH];

/// How long that may take: meanwhile nobody else becomes the main process.
const AT_MOST: Duration = Duration::from_secs(10);

/// The process that has started this one.
pub(crate) struct Parent(Option<Async<OwnedFd>>);

impl Parent {
    pub(crate) fn now() -> Self {
        let open = |pid| Async::new(pidfd_open(pid, PidfdFlags::empty())?);
        Parent(getppid().and_then(|pid| open(pid).ok()))
    }

    /// Waits until its children are others'.
    async fn gone(self) {
        if let Some(pidfd) = self.0 {
            let _ = pidfd.readable().await;
        }
    }
}

/// Has the manager look at this process, its main one, once `parent` is gone.
pub(crate) async fn look_anew(systemd: Arc<Systemd>, parent: Parent) {
    let Some(socket) = systemd.socket() else {
        return;
    };
    parent.gone().await;
    let main = systemd.main().await;
    if *main == MainProcess::Other {
        // should it become this one again, the manager looks then
        return;
    }
    let stood_in = timeout(AT_MOST, stand_in(&systemd, socket)).await;
    match stood_in.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
        Ok(()) => log::info!("systemd treats this process as its child, and waits for its exit when the service stops"),
        Err(error) => log::warn!(
            "systemd does not treat this process as its child, and may not wait for its exit when the service stops: \
             the helper process failed: {error}"
        ),
    }
}

async fn stand_in(systemd: &Systemd, socket: OsString) -> io::Result<()> {
    let (mut child, mut word) = spawn_blocking(move || start(&socket)).await?;
    systemd.main_pid(child.id());
    word.write_all(b"\n")?;
    systemd.barrier().await;
    drop(word);
    spawn_blocking(move || child.wait()).await.map(drop)
}

/// Starts it, and waits until no signal can end it any more.
fn start(socket: &OsString) -> io::Result<(Child, ChildStdin)> {
    let mut command = Command::new("/proc/self/exe");
    command
        .env(ASKED, std::process::id().to_string())
        .env("NOTIFY_SOCKET", socket);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    match (stdin, stdout.map(|mut stdout| stdout.read_exact(&mut [0]))) {
        (Some(stdin), Some(Ok(()))) => Ok((child, stdin)),
        (_, ready) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(ready
                .and_then(Result::err)
                .unwrap_or_else(|| ErrorKind::BrokenPipe.into()))
        }
    }
}

/// Is the stand-in, if that is what this program was executed for. To be called first thing in `main`.
pub(super) fn run_if_asked() -> Option<ExitCode> {
    let main = std::env::var(ASKED).ok()?;
    std::env::remove_var(ASKED);
    // whoever is told this by mistake is an ordinary program
    let main = getppid().filter(|parent| main == parent.as_raw_nonzero().to_string())?;
    let systemd = Systemd::at(std::env::var_os("NOTIFY_SOCKET")?);
    let mut caught = Signals::new(MEANT_FOR_MAIN).ok()?;
    let mut word = io::stdin().lock();
    if io::stdout()
        .write_all(b"\n")
        .and_then(|()| io::stdout().flush())
        .is_err()
    {
        return Some(ExitCode::FAILURE);
    }
    if word.read_exact(&mut [0]).is_ok() {
        systemd.main_pid(main.as_raw_nonzero().get().unsigned_abs());
    }
    // until the manager knows
    let _ = word.read_to_end(&mut vec![]);
    for signal in caught.pending().filter_map(Signal::from_named_raw) {
        let _ = kill_process(main, signal);
    }
    Some(ExitCode::SUCCESS)
}
