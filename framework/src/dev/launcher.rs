//! Starts the program with the sockets that the `dev` process holds.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::protocol::SOCKET_VARIABLE;
use crate::config::{ConfigSources, LoadedConfig};
use crate::error::{Error, Kind};
use crate::lifecycle::Newest;
use crate::observe;
use crate::socket::{InheritedSockets, Listener, Sockets, NEWEST};
use crate::sys::limits::OpenFiles;
use crate::sys::spawn::{ChildEnvironment, PassedFd, Program};

/// Settings that `dev` overrides, because each new build of this program takes over by itself. The
/// configuration file may set them differently for production.
const OVERRIDES: [(&str, &str); 3] = [
    ("UPGRADE__MODE", "auto"),
    ("UPGRADE__EXEC", ""),
    ("UPGRADE__HANDSHAKE", "slackwater"),
];

/// Starts the program when no process of it runs.
pub(super) struct Launcher {
    sources: ConfigSources,
    sockets: Sockets,
    listeners: Vec<Arc<Listener>>,
    program: Program,
    dev_socket: PathBuf,
}

impl Launcher {
    /// `dev_socket` is the path of the socket on which the `dev` process listens.
    pub(super) fn new(
        sources: ConfigSources,
        inherited: InheritedSockets,
        program: &Program,
        dev_socket: PathBuf,
    ) -> Self {
        let program = program.with_arguments(arguments(&sources));
        Launcher {
            sources,
            sockets: Sockets::new(inherited),
            listeners: Vec::new(),
            program,
            dev_socket,
        }
    }

    /// Reads the settings. The table `[app]` is not checked, because only the program can read it.
    ///
    /// # Errors
    /// The settings are invalid.
    pub(super) fn load(&self) -> Result<LoadedConfig, Error> {
        self.sources.load()
    }

    /// Returns the files to watch. The default configuration file may not exist yet.
    pub(super) fn settings_files(&self, loaded: &LoadedConfig) -> Vec<PathBuf> {
        let mut files = loaded.files.clone();
        if loaded.file.is_none() {
            files.push(self.sources.default_file.clone());
        }
        files
    }

    /// Starts the program. It writes its pid to `newest` when it is live.
    ///
    /// # Errors
    /// The settings are invalid, a socket cannot be bound, or the program cannot be started.
    pub(super) fn start(&mut self, executable: &Path, newest: &Newest) -> Result<(), Error> {
        let loaded = self.load()?;
        let config = &loaded.config;
        let acquired =
            self.sockets
                .acquire(config.listen.as_deref(), config.backlog, &self.listeners)?;
        for note in &acquired.notes {
            log::warn!("{note}");
        }
        self.listeners = acquired.listeners;
        let failed =
            |error| Error::new(Kind::Io, "cannot create the descriptors to pass on").because(error);
        let record = newest.parcel().map_err(failed)?;
        let sockets = self.sockets.for_new_process(&self.listeners);
        let mut passed: Vec<PassedFd<'_>> = sockets
            .iter()
            .map(|(fd, name)| PassedFd {
                fd: fd.as_fd(),
                name: name.clone(),
            })
            .collect();
        passed.push(PassedFd {
            fd: record.as_fd(),
            name: NEWEST.to_owned(),
        });
        let mut environment =
            ChildEnvironment::for_slackwater().with(SOCKET_VARIABLE, self.dev_socket.as_os_str());
        for (key, value) in OVERRIDES {
            environment = environment.with(&format!("{}{key}", self.sources.env_prefix), value);
        }
        let stdout = observe::log::original_stdout().map_err(failed)?;
        let path = executable.to_string_lossy();
        let child =
            self.program
                .start(&path, &passed, environment, stdout, &OpenFiles::unchanged())?;
        newest.expect(child.pid());
        Ok(())
    }
}

/// Returns the command `serve` with the flags of `dev`.
fn arguments(sources: &ConfigSources) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["serve".into()];
    if let Some(file) = &sources.file {
        arguments.extend(["-c".into(), file.into()]);
    }
    if let Some(profile) = &sources.profile {
        arguments.extend(["-p".into(), profile.into()]);
    }
    for set in &sources.sets {
        arguments.extend(["--set".into(), set.into()]);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_gets_the_flags_of_the_loop() {
        let mut sources = ConfigSources::new("shop");
        assert_eq!(arguments(&sources), ["serve"]);
        sources.file = Some("a.toml".into());
        sources.profile = Some("dev".into());
        sources.sets = vec!["x=1".into(), "y=2".into()];
        let expected = [
            "serve", "-c", "a.toml", "-p", "dev", "--set", "x=1", "--set", "y=2",
        ];
        assert_eq!(arguments(&sources), expected);
    }
}
