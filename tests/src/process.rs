//! A program under test while it runs: awaited, signalled, measured; killed and reaped in `Drop`.

use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{kill_process, Pid};

use crate::addr::Addr;
use crate::conn::{Conn, PATIENCE};
use crate::dir::Dir;
use crate::launch::{ANY_PORT, SETTINGS};
use crate::proc::Proc;
use crate::said;
use crate::wait;

/// How long a debug build on a busy machine may take to start.
const START: Duration = Duration::from_secs(60);

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    dir: Arc<Dir>,
}

/// A program that ran to its end.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Its exit code; `None` when a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl Process {
    /// The file that holds its standard output and error.
    pub(crate) const OUTPUT: &'static str = "output";

    pub(crate) fn new(child: Child, dir: Arc<Dir>) -> Self {
        Process { child, dir }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the kernel knows of it.
    #[must_use]
    pub fn proc(&self) -> Proc {
        Proc(self.pid())
    }

    /// The directory that it works in.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Waits until it says where it listens and answers 200 on `/readyz`.
    ///
    /// # Panics
    ///
    /// When it ended, or took longer than a start may take.
    pub fn ready(&mut self) {
        let ready = wait::maybe(START, || {
            if self.has_ended() {
                return Some(false);
            }
            let addr = self.addresses().into_iter().next()?;
            let answer = Conn::open(&addr)
                .and_then(|mut conn| conn.ask("/readyz"))
                .ok()?;
            (answer.status == 200).then_some(true)
        });
        assert_eq!(ready, Some(true), "not ready; its output:\n{}", self.log());
    }

    /// Where it said that it listens, in the order in which it said so.
    #[must_use]
    pub fn addresses(&self) -> Vec<Addr> {
        let log = self.log();
        // each address in a line of its own; one that was given up later was still said
        let said = log
            .lines()
            .filter(|line| !line.contains("no longer"))
            .flat_map(|line| line.split("listening on ").skip(1));
        said.filter_map(|rest| Addr::parse(rest.split(['"', ' ', ',', '\n', '\\']).next()?))
            .collect()
    }

    /// Where it listens first.
    ///
    /// # Panics
    ///
    /// When it has not said so.
    #[must_use]
    pub fn addr(&self) -> Addr {
        let addr = self.addresses().into_iter().next();
        addr.unwrap_or_else(|| panic!("listens nowhere; its output:\n{}", self.log()))
    }

    /// A new connection to it.
    ///
    /// # Panics
    ///
    /// When it cannot be had.
    #[must_use]
    pub fn conn(&self) -> Conn {
        Conn::open(&self.addr())
            .unwrap_or_else(|failure| panic!("{failure:?}; its output:\n{}", self.log()))
    }

    /// Asks for `path` on a new connection; gives the body of a 2xx answer.
    ///
    /// # Panics
    ///
    /// When there was no such answer.
    pub fn get(&self, path: &str) -> String {
        match self.conn().ask(path) {
            Ok(answer) if answer.is_success() => answer.text(),
            other => panic!("GET {path}: {other:?}; its output:\n{}", self.log()),
        }
    }

    /// All that it wrote to its standard output and error so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.dir.read(Self::OUTPUT)
    }

    /// Where its output ends now: what comes later is [`log_since`](Self::log_since) this place.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.log().len()
    }

    /// What it wrote after a [`mark`](Self::mark).
    #[must_use]
    pub fn log_since(&self, mark: usize) -> String {
        self.log().get(mark..).unwrap_or_default().to_owned()
    }

    /// Waits until a line that it wrote after `mark` holds `text`, in any case; gives that line.
    ///
    /// # Panics
    ///
    /// When none does in time.
    pub fn wait_for_log(&self, mark: usize, text: &str) -> String {
        self.wait_for_any(mark, &[text])
    }

    /// As [`wait_for_log`](Self::wait_for_log), with several texts any of which will do.
    ///
    /// # Panics
    ///
    /// When no line holds one of them in time.
    pub fn wait_for_any(&self, mark: usize, texts: &[&str]) -> String {
        let wanted: Vec<_> = texts.iter().map(|text| text.to_lowercase()).collect();
        let is_it = |line: &&str| {
            let line = line.to_lowercase();
            wanted.iter().any(|text| line.contains(text))
        };
        let line = || {
            let log = self.log_since(mark);
            // a line that is not ended yet may still grow
            let whole = log.rfind('\n').map_or("", |end| &log[..end]);
            whole.lines().find(is_it).map(str::to_owned)
        };
        wait::maybe(PATIENCE, line).unwrap_or_else(|| {
            panic!(
                "its log does not say any of {texts:?}; its output:\n{}",
                self.log()
            )
        })
    }

    /// Replaces its settings, after [`ANY_PORT`]; it has not been told yet.
    pub fn settings(&self, text: &str) {
        self.whole_settings(&format!("{ANY_PORT}{text}"));
    }

    /// Replaces all of its settings; it has not been told yet.
    pub fn whole_settings(&self, text: &str) {
        self.dir.write(SETTINGS, text);
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// When it is no longer there.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        kill_process(pid, signal)
            .unwrap_or_else(|error| panic!("{signal:?}: {error}; its output:\n{}", self.log()));
    }

    /// Tells it to reload and waits until it has; gives the line that says so.
    pub fn reload(&self) -> String {
        let mark = self.mark();
        self.signal(Signal::HUP);
        self.wait_for_log(mark, said::RELOADED)
    }

    /// Tells it to reload and waits until it has refused; gives the line that says why.
    pub fn refuse_reload(&self) -> String {
        let mark = self.mark();
        self.signal(Signal::HUP);
        self.wait_for_log(mark, said::RELOAD_REFUSED)
    }

    /// Kills it, if it is still there, and reaps it.
    pub fn kill(&mut self) {
        // it may have ended by itself; then there is nothing to kill, and it is reaped already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not end within `within`.
    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        wait::maybe(within, || self.child.try_wait().ok().flatten())
            .unwrap_or_else(|| panic!("still there after {within:?}; its output:\n{}", self.log()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- output of process {}:\n{}---", self.pid(), self.log());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::Launch;

    fn shell(script: &str) -> Launch {
        Launch::program("/bin/sh".as_ref()).args(["-c", script])
    }

    #[test]
    fn a_program_runs_to_its_end_in_a_directory_of_its_own() {
        let launch =
            shell("cat slackwater.toml; echo $GREETING >&2; exit 3").whole_settings("a = 1\n");
        let finished = launch.env("GREETING", "hi").run(PATIENCE);
        assert_eq!(
            (
                finished.code(),
                finished.stdout.as_str(),
                finished.stderr.as_str()
            ),
            (Some(3), "a = 1\n", "hi\n")
        );
    }

    #[test]
    fn a_process_is_heard_signalled_and_awaited() {
        let script =
            "trap 'echo bye; exit 4' TERM; echo listening on 127.0.0.1:99; while :; do sleep 0.01; done";
        let mut process = shell(script).start();
        process.wait_for_log(0, "LISTENING");
        assert_eq!(process.addr().to_string(), "127.0.0.1:99");
        let mark = process.mark();
        process.signal(Signal::TERM);
        assert_eq!(process.wait_exit(PATIENCE).code(), Some(4));
        assert_eq!(process.log_since(mark), "bye\n");
    }

    #[test]
    fn a_process_that_is_dropped_is_gone() {
        let process = shell("exec sleep 60").start();
        let (seen, dir) = (process.proc(), process.dir().path().to_owned());
        assert!(seen.is_alive());
        drop(process);
        assert!(!seen.is_alive());
        assert!(!dir.exists());
    }

    #[test]
    fn sockets_are_inherited_with_their_names() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let launch = shell(
            "echo $LISTEN_FDS $LISTEN_FDNAMES; readlink /proc/$$/fd/3 /proc/$$/fd/4 | cut -c 1-7",
        );
        let finished = launch
            .socket("web", &listener)
            .socket("admin", &listener)
            .run(PATIENCE);
        assert_eq!(finished.stdout, "2 web:admin\nsocket:\nsocket:\n");
    }
}
