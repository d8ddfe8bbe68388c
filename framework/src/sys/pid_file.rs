//! The pid file. It is replaced atomically, and removed only by the process that it names.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind};

/// The pid file of this process.
#[derive(Debug)]
pub(crate) struct PidFile {
    /// Absolute, because the working directory may have changed when the file is removed.
    path: PathBuf,
    pid: u32,
}

impl PidFile {
    /// Writes the pid and a newline to a temporary file in the same directory, then renames it, so
    /// that readers never see a partial file. If that fails, a file with the pid of another process
    /// is removed: no file is better than a file that directs signals to the wrong process.
    ///
    /// # Errors
    /// The path and the reason. The caller logs it as a warning and continues.
    pub(crate) fn write(path: &Path) -> Result<Self, Error> {
        let failed = |error| failure("write", path, error);
        let file = PidFile {
            path: std::path::absolute(path).map_err(failed)?,
            pid: std::process::id(),
        };
        file.replace().map_err(|error| {
            remove_stale(&file.path);
            failed(error)
        })?;
        Ok(file)
    }

    /// Removes the file, unless it names another process now.
    ///
    /// # Errors
    /// The path and the reason.
    pub(crate) fn remove(self) -> Result<(), Error> {
        if recorded(&self.path) != Some(self.pid) {
            return Ok(());
        }
        fs::remove_file(&self.path).map_err(|error| failure("remove", &self.path, error))
    }

    fn replace(&self) -> io::Result<()> {
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(format!(".{}", self.pid));
        let temporary = PathBuf::from(temporary);
        let replaced =
            write_new(&temporary, self.pid).and_then(|()| fs::rename(&temporary, &self.path));
        if replaced.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        replaced
    }
}

/// Removes the file if it names another process.
pub(crate) fn remove_stale(path: &Path) {
    if recorded(path).is_some_and(|pid| pid != std::process::id()) {
        let _ = fs::remove_file(path);
    }
}

/// Returns the pid in a file, or `None` if it contains anything else.
fn recorded(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Writes a new file. An existing file is removed first, because a link at this path must not be
/// followed.
fn write_new(path: &Path, pid: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)?
        .write_all(format!("{pid}\n").as_bytes())
}

fn failure(verb: &str, path: &Path, error: io::Error) -> Error {
    Error::new(
        Kind::Io,
        format!("pid_file: cannot {verb} {}", path.display()),
    )
    .because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(test: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("slackwater-{}-pid-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_pid_file_replaces_a_stale_file_and_is_removed_at_the_end() {
        let directory = directory("replace");
        let path = directory.join("app.pid");
        fs::write(&path, "1\n").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        file.remove().unwrap();
        assert!(!path.exists());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_pid_file_of_the_new_process_is_not_removed() {
        let directory = directory("new-process");
        let path = directory.join("app.pid");
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        file.remove().unwrap();
        assert!(path.exists());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn an_error_names_the_path_and_the_cause() {
        let error = PidFile::write(Path::new("/nonexistent/app.pid")).unwrap_err();
        assert_eq!(
            error.chain(),
            "pid_file: cannot write /nonexistent/app.pid: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_directory_at_the_path_is_an_error_and_leaves_no_temporary_file() {
        let directory = directory("directory");
        fs::create_dir(directory.join("app.pid")).unwrap();
        assert!(PidFile::write(&directory.join("app.pid")).is_err());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }
}
