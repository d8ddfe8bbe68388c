//! How a program under test is started: settings, environment, inherited sockets, a directory of its own.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};

use crate::dir::Dir;
use crate::process::{Finished, Process};
use crate::program;

/// The settings file that every program under test finds in its working directory.
pub const SETTINGS: &str = "slackwater.toml";

/// A program with all that it is started with. Can be started more than once.
#[derive(Clone, Debug)]
pub struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    sockets: Vec<(String, Arc<OwnedFd>)>,
    settings: Option<String>,
    stdout: Option<Arc<OwnedFd>>,
    /// Where in the directory it works.
    place: PathBuf,
    dir: Arc<Dir>,
}

impl Launch {
    /// The playground, on a free port of the loopback, logging JSON lines.
    #[must_use]
    pub fn playground() -> Self {
        Launch::program(&program::playground()).settings("")
    }

    /// The fixture of this package, on a free port of the loopback, logging JSON lines.
    #[must_use]
    pub fn fixture() -> Self {
        Launch::program(&program::fixture()).settings("")
    }

    /// Any program: no arguments, no settings, a clean environment and an empty directory to work in.
    #[must_use]
    pub fn program(path: &Path) -> Self {
        Launch {
            program: path.to_owned(),
            args: vec![],
            env: vec![],
            sockets: vec![],
            settings: None,
            stdout: None,
            place: PathBuf::new(),
            dir: Arc::new(Dir::new()),
        }
    }

    /// The variable by which a program and whatever it starts can be found: it holds the directory.
    pub(crate) const MARKER: &str = "TESTED_IN";

    /// Starts this in place of the program: a path, relative to the directory, or a name to be found in PATH.
    #[must_use]
    pub fn called(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Has it work in a new directory of this name within the one that it has for itself. Settings stay outside.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    pub fn works_in(mut self, name: &str) -> Self {
        let path = self.dir.path().join(name);
        std::fs::create_dir(&path)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        self.place = name.into();
        self
    }

    /// Settings to be found in [`SETTINGS`], after [`ANY_PORT`].
    #[must_use]
    pub fn settings(self, text: &str) -> Self {
        self.whole_settings(&format!("{ANY_PORT}{text}"))
    }

    /// All of [`SETTINGS`], with nothing added.
    #[must_use]
    pub fn whole_settings(mut self, text: &str) -> Self {
        self.settings = Some(text.to_owned());
        self
    }

    /// No [`SETTINGS`] at all.
    #[must_use]
    pub fn no_settings(mut self) -> Self {
        self.settings = None;
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// A socket to be inherited as the next of `LISTEN_FDS`, under a name of `LISTEN_FDNAMES`. The caller keeps its own
    /// handle, and with it the socket.
    ///
    /// # Panics
    ///
    /// When there is no descriptor left.
    #[must_use]
    pub fn socket(mut self, name: &str, socket: &impl AsFd) -> Self {
        let fd = socket
            .as_fd()
            .try_clone_to_owned()
            .expect("a descriptor to pass on");
        self.sockets.push((name.to_owned(), Arc::new(fd)));
        self
    }

    /// Where its standard output goes instead of the file that the test reads.
    ///
    /// # Panics
    ///
    /// When there is no descriptor left.
    #[must_use]
    pub fn stdout(mut self, to: &impl AsFd) -> Self {
        self.stdout = Some(Arc::new(
            to.as_fd()
                .try_clone_to_owned()
                .expect("a descriptor to pass on"),
        ));
        self
    }

    /// The directory that the program will work in.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Starts it to serve. See [`Process::ready`].
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start(&self) -> Process {
        let output =
            File::create(self.dir.path().join(Process::OUTPUT)).expect("a file for its output");
        let child = self.spawn(output.try_clone().expect("a descriptor"), output);
        Process::new(child, self.dir.clone())
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it cannot be started or is not ready in time.
    #[must_use]
    pub fn serve(&self) -> Process {
        let mut process = self.start();
        process.ready();
        process
    }

    /// Runs it to its end.
    ///
    /// # Panics
    ///
    /// When it cannot be started or does not end within `within`; it is killed then.
    #[must_use]
    pub fn run(&self, within: Duration) -> Finished {
        let file = |name| File::create(self.dir.path().join(name)).expect("a file for its output");
        let child = self.spawn(file("stdout"), file("stderr"));
        let status = Process::new(child, self.dir.clone()).wait_exit(within);
        Finished {
            status,
            stdout: self.dir.read("stdout"),
            stderr: self.dir.read("stderr"),
        }
    }

    fn spawn(&self, stdout: File, stderr: File) -> Child {
        if let Some(text) = &self.settings {
            self.dir.write(SETTINGS, text);
        }
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        if let Some(other) = &self.stdout {
            command.stdout(other.try_clone().expect("a descriptor"));
        }
        self.pass_sockets(&mut command)
            .expect("descriptors to pass on");
        command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.program.display()))
    }

    /// The program with its arguments, its environment and its directory.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .current_dir(self.dir.path().join(&self.place))
            .env_clear();
        for kept in ["PATH", "HOME", "TMPDIR"] {
            command.envs(std::env::var_os(kept).map(|value| (kept, value)));
        }
        command.env(Launch::MARKER, self.dir.path());
        command
            .env("RUST_BACKTRACE", "1")
            .env("SLACKWATER_LOG__FORMAT", "json");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn pass_sockets(&self, command: &mut Command) -> io::Result<()> {
        if self.sockets.is_empty() {
            return Ok(());
        }
        let map = |(child_fd, (_, fd)): (i32, &(String, Arc<OwnedFd>))| {
            fd.try_clone().map(|parent_fd| FdMapping {
                parent_fd,
                child_fd,
            })
        };
        let mappings = (3..)
            .zip(&self.sockets)
            .map(map)
            .collect::<io::Result<_>>()?;
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        let names = self
            .sockets
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .join(":");
        // LISTEN_PID stays unset: it cannot be known before the child exists
        command
            .env("LISTEN_FDS", self.sockets.len().to_string())
            .env("LISTEN_FDNAMES", names);
        Ok(())
    }
}

/// The line that puts a program under test on a free port.
pub const ANY_PORT: &str = "listen = \"127.0.0.1:0\"\n";
