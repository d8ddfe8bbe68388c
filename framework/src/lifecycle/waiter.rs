//! The first process after it was replaced: it has given its memory back, and waits for the newest generation's end.
//!
//! Somebody watches its pid: a container, a supervisor, a shell. So it stays, passes on the signals that it is sent,
//! reaps whatever is orphaned below it, and ends as the newest generation ends.
//!
//! It is the running program executed once more, in the same process: pid, children and the subreaper attribute
//! survive execve(2), while memory, threads and descriptors do not. [`run_if_asked`] is where it begins.

mod echo;
mod family;
mod newest;
mod watched;

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::process::{self, Pid};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::SignalsInfo;
use signal_hook::low_level::siginfo::{Cause, Origin};

pub(crate) use echo::{Echoes, From};
pub(crate) use family::Family;
pub(crate) use newest::{Newest, MAX_DRAINING};
use watched::leads_session;
pub(crate) use watched::Watched;

use crate::observe;
use crate::sys::spawn::Program;

/// What makes this program a waiter: the descriptor of [`Newest`], and the name of the process.
const ASKED: &str = "SLACKWATER_WAITER";

/// What it passes on.
pub(crate) const PASSED_ON: [i32; 7] =
    [SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGQUIT, SIGTERM, SIGINT];

/// The same, and that of children, in the words of nix, which can block them without unsafe code.
const BLOCKED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGCHLD,
];

/// Makes this process the parent of all that is orphaned below it. To be called before the first upgrade starts a
/// process: the generation after the next is no child of ours otherwise.
///
/// # Errors
/// The operating system knows no subreapers.
pub(crate) fn be_subreaper() -> io::Result<()> {
    // any process stands for "yes"; the attribute is this one's
    Ok(process::set_child_subreaper(Some(process::getpid()))?)
}

/// Makes this process the waiter. It returns only where that fails: then [`wait`] does the same with the memory that
/// there is.
///
/// No signal kills it on the way, and next to none is lost. Those to come are blocked in this thread, the only one that
/// execve(2) leaves; what is pending stays pending (std leaves the mask as it is), until the waiter has its handlers.
/// What another thread caught since this function began is passed on right before. That leaves the moment between
/// that and the end of the other threads, some microseconds: closing it would take signals that are blocked in all of
/// them, from birth, and in all children of the application therefore.
pub(crate) fn becomes_waiter(program: &Program, newest: &Newest) -> io::Error {
    let prepared = SignalsInfo::<WithOrigin>::new(PASSED_ON)
        .and_then(|caught| Ok((caught, command(program, newest)?, newest.stays_open()?)));
    let (mut caught, mut command, open) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return error,
    };
    let before = blocked().thread_swap_mask(SigmaskHow::SIG_BLOCK);
    caught.pending().for_each(|origin| pass_on(&origin, newest));
    let error = command.exec();
    drop(open);
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    error
}

fn command(program: &Program, newest: &Newest) -> io::Result<Command> {
    // the file that runs, under whatever name, even if it has been deleted
    let mut command = Command::new("/proc/self/exe");
    command.args(program.args()).arg0(program.argv0());
    // otherwise it would be known as `exe`
    let name = fs::read_to_string("/proc/self/comm").unwrap_or_default();
    command.env(ASKED, format!("{} {}", newest.number(), name.trim_end()));
    command.stdout(Stdio::from(observe::log::original_stdout()?));
    Ok(command)
}

fn blocked() -> SigSet {
    BLOCKED.into_iter().collect()
}

/// Is the waiter, if that is what this program was executed for, until the newest generation has ended.
///
/// To be called first thing in `main`, before the command line is looked at.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let asked = std::env::var(ASKED).ok()?;
    // whoever is told this by mistake is an ordinary program
    std::env::remove_var(ASKED);
    let (number, name) = asked.split_once(' ')?;
    let newest = Newest::inherited(number.parse().ok()?).ok()?;
    if let Ok(name) = CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
    Some(wait(&newest))
}

/// Waits for the end of the newest generation, and ends as it did: with its status, or 128 and the signal.
pub(crate) fn wait(newest: &Newest) -> ExitCode {
    let mut signals = SignalsInfo::<WithOrigin>::new(PASSED_ON.into_iter().chain([SIGCHLD])).ok();
    let _ = blocked().thread_unblock();
    let mut family = Family::default();
    loop {
        if let Some(ending) = family.reap(newest) {
            return ExitCode::from(ending.code());
        }
        match &mut signals {
            Some(signals) => signals.wait().for_each(|origin| pass_on(&origin, newest)),
            // no descriptor was left for handlers: whoever watches this pid is served by half
            None => family::wait_for_any(),
        }
    }
}

/// Passes a signal on to the newest generation, if a process has sent it.
///
/// One that comes from the terminal has reached the whole foreground process group, and a second INT would cut. Only
/// that the terminal is gone is told to nobody but the leader of its session; others would take a HUP for a reload.
pub(crate) fn pass_on(origin: &Origin, newest: &Newest) {
    let signal = match origin.cause {
        _ if origin.signal == SIGCHLD => return,
        Cause::Kernel if origin.signal == SIGHUP && leads_session() => SIGQUIT,
        Cause::Kernel => return,
        _ => origin.signal,
    };
    if let (Some(pid), Some(signal)) = (
        family::newest_alive(newest),
        process::Signal::from_named_raw(signal),
    ) {
        let _ = process::kill_process(pid, signal);
    }
}

/// A pid as the system calls take it; 0 stands for none.
fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests;
