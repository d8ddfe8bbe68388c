//! How the keeper starts the program where none runs: with the sockets that outlive it.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::link::VARIABLE;
use crate::config::{ConfigSources, LoadedConfig};
use crate::error::{Error, Kind};
use crate::lifecycle::Newest;
use crate::observe;
use crate::socket::{InheritedSockets, Listener, Sockets, NEWEST};
use crate::sys::limits::OpenFiles;
use crate::sys::spawn::{ChildEnvironment, PassedFd, Program};

/// What production may set otherwise: here each new build of this very program takes over by itself.
const OURS: [(&str, &str); 3] = [
    ("UPGRADE__MODE", "auto"),
    ("UPGRADE__EXEC", ""),
    ("UPGRADE__HANDSHAKE", "slackwater"),
];

/// All that the first of some generations is started with.
pub(super) struct Start {
    sources: ConfigSources,
    sockets: Sockets,
    listeners: Vec<Arc<Listener>>,
    program: Program,
    keeper: PathBuf,
}

impl Start {
    /// `keeper` is where the program finds the keeper.
    pub(super) fn new(
        sources: ConfigSources,
        inherited: InheritedSockets,
        program: &Program,
        keeper: PathBuf,
    ) -> Self {
        let program = program.with_arguments(arguments(&sources));
        Start {
            sources,
            sockets: Sockets::new(inherited),
            listeners: Vec::new(),
            program,
            keeper,
        }
    }

    /// Reads the settings as the program does, apart from `[app]`, which only it can read.
    ///
    /// # Errors
    /// They are refused.
    pub(super) fn load(&self) -> Result<LoadedConfig, Error> {
        self.sources.load()
    }

    /// The files to watch; the default one may not be there yet.
    pub(super) fn settings_files(&self, loaded: &LoadedConfig) -> Vec<PathBuf> {
        let mut files = loaded.files.clone();
        if loaded.file.is_none() {
            files.push(self.sources.default_file.clone());
        }
        files
    }

    /// Starts the program; it announces itself in `newest` when it is live.
    ///
    /// # Errors
    /// The settings are refused, a socket cannot be had, or the program cannot be started.
    pub(super) fn start(&mut self, executable: &Path, newest: &Newest) -> Result<(), Error> {
        let loaded = self.load()?;
        let config = &loaded.config;
        let acquired =
            self.sockets
                .acquire(config.listen.as_deref(), config.backlog, &self.listeners)?;
        acquired.notes.iter().for_each(|note| log::warn!("{note}"));
        self.listeners = acquired.listeners;
        let failed = |error| Error::new(Kind::Io, "no descriptors for the program").because(error);
        let parcel = newest.parcel().map_err(failed)?;
        let sockets = self.sockets.for_new_process(&self.listeners);
        let mut passed: Vec<PassedFd<'_>> = sockets
            .iter()
            .map(|(fd, name)| PassedFd {
                fd: fd.as_fd(),
                name: name.clone(),
            })
            .collect();
        passed.push(PassedFd {
            fd: parcel.as_fd(),
            name: NEWEST.to_owned(),
        });
        let mut environment =
            ChildEnvironment::for_slackwater().with(VARIABLE, self.keeper.as_os_str());
        for (key, value) in OURS {
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

/// `serve`, with the flags that `dev` was given.
fn arguments(sources: &ConfigSources) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["serve".into()];
    let file = sources
        .file
        .iter()
        .flat_map(|file| ["-c".into(), file.into()]);
    let profile = sources
        .profile
        .iter()
        .flat_map(|profile| ["-p".into(), profile.into()]);
    let sets = sources
        .sets
        .iter()
        .flat_map(|set| ["--set".into(), set.into()]);
    arguments.extend(file.chain(profile).chain(sets));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_given_the_flags_of_the_loop() {
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
