//! Starts a program under test with its settings, environment, inherited sockets and working directory.

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
use crate::process::{Process, ProgramOutput};
use crate::program;

/// The name of the settings file in the program's working directory.
pub const SETTINGS: &str = "slackwater.toml";

/// The program to start and its surroundings. Can be started more than once.
#[derive(Clone, Debug)]
pub struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    sockets: Vec<(String, Arc<OwnedFd>)>,
    settings: Option<String>,
    stdout: Option<Arc<OwnedFd>>,
    /// The working directory, relative to `dir`.
    subdirectory: PathBuf,
    dir: Arc<Dir>,
}

impl Launch {
    /// Starts the playground on a free loopback port, with a log of JSON lines.
    #[must_use]
    pub fn playground() -> Self {
        Launch::program(&program::playground()).settings("")
    }

    /// Starts the fixture of this package on a free loopback port, with a log of JSON lines.
    #[must_use]
    pub fn fixture() -> Self {
        Launch::program(&program::fixture()).settings("")
    }

    /// Starts any program: no arguments, no settings, a clean environment, an empty working directory.
    #[must_use]
    pub fn program(path: &Path) -> Self {
        Launch {
            program: path.to_owned(),
            args: vec![],
            env: vec![],
            sockets: vec![],
            settings: None,
            stdout: None,
            subdirectory: PathBuf::new(),
            dir: Arc::new(Dir::new()),
        }
    }

    /// The environment variable that marks a program and its descendants. Its value is the directory of the launch.
    pub(crate) const MARKER: &str = "TESTED_IN";

    /// Replaces the program: a path relative to the directory, or a name that is looked up in PATH.
    #[must_use]
    pub fn with_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Sets the working directory to a new subdirectory. The settings file stays in the parent.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be created.
    #[must_use]
    pub fn in_subdirectory(mut self, name: &str) -> Self {
        let path = self.dir.path().join(name);
        std::fs::create_dir(&path)
            .unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        self.subdirectory = name.into();
        self
    }

    /// Sets the content of [`SETTINGS`]: [`ANY_PORT`], then `text`.
    #[must_use]
    pub fn settings(self, text: &str) -> Self {
        self.whole_settings(&format!("{ANY_PORT}{text}"))
    }

    /// Sets the content of [`SETTINGS`] to exactly `text`.
    #[must_use]
    pub fn whole_settings(mut self, text: &str) -> Self {
        self.settings = Some(text.to_owned());
        self
    }

    /// Writes no [`SETTINGS`] file.
    #[must_use]
    pub fn no_settings(mut self) -> Self {
        self.settings = None;
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Passes a socket to the program as the next of `LISTEN_FDS`, with a name in `LISTEN_FDNAMES`.
    ///
    /// The caller keeps its own handle, so the socket stays open when the program exits.
    ///
    /// # Panics
    ///
    /// Panics if no descriptor is left.
    #[must_use]
    pub fn socket(mut self, name: &str, socket: &impl AsFd) -> Self {
        let fd = socket
            .as_fd()
            .try_clone_to_owned()
            .expect("a descriptor to pass on");
        self.sockets.push((name.to_owned(), Arc::new(fd)));
        self
    }

    /// Redirects standard output. Without this it goes to the file that the test reads.
    ///
    /// # Panics
    ///
    /// Panics if no descriptor is left.
    #[must_use]
    pub fn stdout(mut self, to: &impl AsFd) -> Self {
        self.stdout = Some(Arc::new(
            to.as_fd()
                .try_clone_to_owned()
                .expect("a descriptor to pass on"),
        ));
        self
    }

    /// Returns the directory of the launch.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Starts the program without waiting for it. See [`Process::ready`].
    ///
    /// # Panics
    ///
    /// Panics if it cannot be started.
    #[must_use]
    pub fn start(&self) -> Process {
        let output =
            File::create(self.dir.path().join(Process::OUTPUT)).expect("a file for its output");
        let child = self.spawn(output.try_clone().expect("a descriptor"), output);
        Process::new(child, self.dir.clone())
    }

    /// Starts the program and waits until it is ready.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be started or is not ready in time.
    #[must_use]
    pub fn serve(&self) -> Process {
        let mut process = self.start();
        process.ready();
        process
    }

    /// Runs the program until it exits.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be started or does not exit within `within`; in the second case it is killed.
    #[must_use]
    pub fn run(&self, within: Duration) -> ProgramOutput {
        let file = |name| File::create(self.dir.path().join(name)).expect("a file for its output");
        let child = self.spawn(file("stdout"), file("stderr"));
        let status = Process::new(child, self.dir.clone()).wait_exit(within);
        ProgramOutput {
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

    /// Returns the command with its arguments, environment and working directory.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .current_dir(self.dir.path().join(&self.subdirectory))
            .env_clear();
        for name in ["PATH", "HOME", "TMPDIR"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
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
        // LISTEN_PID stays unset, because the pid is not known before the fork
        command
            .env("LISTEN_FDS", self.sockets.len().to_string())
            .env("LISTEN_FDNAMES", names);
        Ok(())
    }
}

/// The settings line with which a program listens on a free port.
pub const ANY_PORT: &str = "listen = \"127.0.0.1:0\"\n";
