//! The pid file and the control socket, by which operators find this process.

use std::path::PathBuf;

use super::driver::Driver;
use super::reload::Ownership;
use super::successor::Successor;
use crate::sys::pid_file::PidFile;

impl Driver {
    /// Takes the control socket. If that fails, the process serves without it.
    pub(super) fn take_control_socket(&self) {
        let Some(control) = &self.context.control else {
            return;
        };
        let before = self
            .context
            .program
            .as_ref()
            .and_then(|(_, lineage)| lineage.newest.live());
        let family: Vec<u32> = before
            .into_iter()
            .chain(self.successor.as_ref().map(Successor::pid))
            .collect();
        if let Err(error) = control.take_path(&family) {
            log::warn!(
                "{}; serving without it, and taking it once it is free",
                error.chain()
            );
        }
    }

    pub(super) fn take_pid_file(&mut self) {
        self.pid_file = self.write_pid_file("");
        remove_pid_file(self.old_pid_file.take());
    }

    /// Writes the pid file, with `suffix` after its name. If that fails, the process serves without it.
    pub(super) fn write_pid_file(&self, suffix: &str) -> Option<PidFile> {
        match PidFile::write(&self.pid_file_path(suffix)?) {
            Ok(file) => Some(file),
            Err(error) => {
                log::warn!("{}; serving without it", error.chain());
                None
            }
        }
    }

    pub(super) fn pid_file_path(&self, suffix: &str) -> Option<PathBuf> {
        if self.context.ownership != Ownership::Process {
            return None;
        }
        let mut path = self
            .instance
            .as_ref()?
            .config()
            .pid_file
            .clone()?
            .into_os_string();
        path.push(suffix);
        Some(path.into())
    }
}

pub(super) fn remove_pid_file(file: Option<PidFile>) {
    if let Some(Err(error)) = file.map(PidFile::remove) {
        log::warn!("{}", error.chain());
    }
}
