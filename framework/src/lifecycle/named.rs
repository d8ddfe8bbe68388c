//! What names this process to others: its pid file, its control socket.

use std::path::PathBuf;

use super::driver::Driver;
use super::reload::Ownership;
use super::successor::Successor;
use crate::sys::pid_file::PidFile;

impl Driver {
    /// Commands are for this process from now on. Without a control socket it still serves.
    pub(super) fn take_control_socket(&self) {
        let Some(control) = &self.plan.control else {
            return;
        };
        let before = self
            .plan
            .program
            .as_ref()
            .and_then(|(_, lineage)| lineage.newest.live());
        let family: Vec<u32> = before
            .into_iter()
            .chain(self.successor.as_ref().map(Successor::pid))
            .collect();
        if let Err(error) = control.take_path(&family) {
            log::warn!(
                "{}; taken once it is free, serving all the same",
                error.chain()
            );
        }
    }

    pub(super) fn take_pid_file(&mut self) {
        self.pid_file = self.write_pid_file("");
        remove_pid_file(self.old_pid_file.take());
    }

    /// Writes the pid file under its name and `suffix`. A process without one still serves.
    pub(super) fn write_pid_file(&self, suffix: &str) -> Option<PidFile> {
        let written = PidFile::write(&self.pid_file_path(suffix)?);
        written
            .map_err(|error| log::warn!("{}; serving all the same", error.chain()))
            .ok()
    }

    pub(super) fn pid_file_path(&self, suffix: &str) -> Option<PathBuf> {
        let path = self
            .live
            .as_ref()
            .and_then(|live| live.config().pid_file.clone());
        let mut path = path
            .filter(|_| self.plan.ownership == Ownership::Process)?
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
