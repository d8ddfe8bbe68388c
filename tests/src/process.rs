//! A running program under test: waits for it, signals it, reads its log. `Drop` kills and reaps it.

use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{kill_process, Pid};

use crate::addr::Addr;
use crate::conn::{Conn, PATIENCE};
use crate::dir::Dir;
use crate::launch::{ANY_PORT, SETTINGS};
use crate::log_texts;
use crate::proc::Proc;
use crate::wait;

/// The longest time in which a debug build starts on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    dir: Arc<Dir>,
}

/// The result of a program that has exited.
#[derive(Clone, Debug)]
pub struct ProgramOutput {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl ProgramOutput {
    /// Returns its exit code, or `None` if a signal killed it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl Process {
    /// The file with its standard output and error.
    pub(crate) const OUTPUT: &'static str = "output";

    pub(crate) fn new(child: Child, dir: Arc<Dir>) -> Self {
        Process { child, dir }
    }

    /// Returns its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its readings from `/proc`.
    #[must_use]
    pub fn proc(&self) -> Proc {
        Proc(self.pid())
    }

    /// Returns the directory of its launch.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Waits until it has logged its address and answers `/readyz` with 200.
    ///
    /// # Panics
    ///
    /// Panics if it exits or is not ready in time.
    pub fn ready(&mut self) {
        let ready = wait::maybe(START, || {
            if self.has_ended() {
                return Some(false);
            }
            let addr = self.addresses().into_iter().next()?;
            let answer = Conn::open(&addr)
                .and_then(|mut conn| conn.fetch("/readyz"))
                .ok()?;
            (answer.status == 200).then_some(true)
        });
        assert_eq!(ready, Some(true), "not ready; its output:\n{}", self.log());
    }

    /// Returns the addresses that it logged, in that order.
    #[must_use]
    pub fn addresses(&self) -> Vec<Addr> {
        let log = self.log();
        // one line for each address; an address that was closed later is still returned
        let texts = log
            .lines()
            .filter(|line| !line.contains("no longer"))
            .flat_map(|line| line.split("listening on ").skip(1));
        texts
            .filter_map(|rest| Addr::parse(rest.split(['"', ' ', ',', '\n', '\\']).next()?))
            .collect()
    }

    /// Returns the first address that it logged.
    ///
    /// # Panics
    ///
    /// Panics if it has logged no address.
    #[must_use]
    pub fn addr(&self) -> Addr {
        let addr = self.addresses().into_iter().next();
        addr.unwrap_or_else(|| panic!("it has logged no address; its output:\n{}", self.log()))
    }

    /// Opens a connection to it.
    ///
    /// # Panics
    ///
    /// Panics if the connection fails.
    #[must_use]
    pub fn conn(&self) -> Conn {
        Conn::open(&self.addr())
            .unwrap_or_else(|failure| panic!("{failure:?}; its output:\n{}", self.log()))
    }

    /// Requests `path` on a new connection; returns the body of the answer.
    ///
    /// # Panics
    ///
    /// Panics unless the answer is 2xx.
    pub fn get(&self, path: &str) -> String {
        match self.conn().fetch(path) {
            Ok(answer) if answer.is_success() => answer.text(),
            other => panic!("GET {path}: {other:?}; its output:\n{}", self.log()),
        }
    }

    /// Returns its standard output and error so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.dir.read(Self::OUTPUT)
    }

    /// Returns the present length of its output, for [`log_since`](Self::log_since) and the `wait_for_…` methods.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.log().len()
    }

    /// Returns its output after a [`mark`](Self::mark).
    #[must_use]
    pub fn log_since(&self, mark: usize) -> String {
        self.log().get(mark..).unwrap_or_default().to_owned()
    }

    /// Waits for a line after `mark` that contains `text`, ignoring case; returns that line.
    ///
    /// # Panics
    ///
    /// Panics if no such line appears in time.
    pub fn wait_for_log(&self, mark: usize, text: &str) -> String {
        self.wait_for_any(mark, &[text])
    }

    /// Waits for a line after `mark` that contains any of `texts`, ignoring case; returns that line.
    ///
    /// # Panics
    ///
    /// Panics if no such line appears in time.
    pub fn wait_for_any(&self, mark: usize, texts: &[&str]) -> String {
        let texts_lower: Vec<_> = texts.iter().map(|text| text.to_lowercase()).collect();
        let matches = |line: &&str| {
            let line = line.to_lowercase();
            texts_lower.iter().any(|text| line.contains(text))
        };
        let line = || {
            let log = self.log_since(mark);
            // leave out the last line while its newline is missing
            let complete = log.rfind('\n').map_or("", |end| &log[..end]);
            complete.lines().find(matches).map(str::to_owned)
        };
        wait::maybe(PATIENCE, line).unwrap_or_else(|| {
            panic!(
                "no log line contains any of {texts:?}; its output:\n{}",
                self.log()
            )
        })
    }

    /// Replaces its settings file by [`ANY_PORT`] and `text`. Sends no signal.
    pub fn settings(&self, text: &str) {
        self.whole_settings(&format!("{ANY_PORT}{text}"));
    }

    /// Replaces its settings file by exactly `text`. Sends no signal.
    pub fn whole_settings(&self, text: &str) {
        self.dir.write(SETTINGS, text);
    }

    /// Sends a signal to it.
    ///
    /// # Panics
    ///
    /// Panics if it no longer exists.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        kill_process(pid, signal)
            .unwrap_or_else(|error| panic!("{signal:?}: {error}; its output:\n{}", self.log()));
    }

    /// Sends SIGHUP and waits until the reload is live; returns its log line.
    pub fn reload(&self) -> String {
        let mark = self.mark();
        self.signal(Signal::HUP);
        self.wait_for_log(mark, log_texts::RELOADED)
    }

    /// Sends SIGHUP and waits until the reload is refused; returns the log line with the reason.
    pub fn reload_refused(&self) -> String {
        let mark = self.mark();
        self.signal(Signal::HUP);
        self.wait_for_log(mark, log_texts::RELOAD_REFUSED)
    }

    /// Kills it if it still runs, and reaps it.
    pub fn kill(&mut self) {
        // both fail if the process has exited and was reaped already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Returns true if it has exited.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits until it exits.
    ///
    /// # Panics
    ///
    /// Panics if that takes longer than `within`.
    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        wait::maybe(within, || self.child.try_wait().ok().flatten()).unwrap_or_else(|| {
            panic!(
                "still running after {within:?}; its output:\n{}",
                self.log()
            )
        })
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
    fn a_program_runs_in_its_own_directory_until_it_exits() {
        let launch =
            shell("cat slackwater.toml; echo $GREETING >&2; exit 3").whole_settings("a = 1\n");
        let result = launch.env("GREETING", "hi").run(PATIENCE);
        assert_eq!(
            (
                result.code(),
                result.stdout.as_str(),
                result.stderr.as_str()
            ),
            (Some(3), "a = 1\n", "hi\n")
        );
    }

    #[test]
    fn a_process_logs_receives_a_signal_and_exits() {
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
    fn a_dropped_process_is_killed_and_its_directory_removed() {
        let process = shell("exec sleep 60").start();
        let (proc, dir) = (process.proc(), process.dir().path().to_owned());
        assert!(proc.is_alive());
        drop(process);
        assert!(!proc.is_alive());
        assert!(!dir.exists());
    }

    #[test]
    fn sockets_are_inherited_with_their_names() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let launch = shell(
            "echo $LISTEN_FDS $LISTEN_FDNAMES; readlink /proc/$$/fd/3 /proc/$$/fd/4 | cut -c 1-7",
        );
        let result = launch
            .socket("web", &listener)
            .socket("admin", &listener)
            .run(PATIENCE);
        assert_eq!(result.stdout, "2 web:admin\nsocket:\nsocket:\n");
    }
}
