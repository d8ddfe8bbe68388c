//! The pid file: put in place whole, and taken away only by the process that it names.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind};

/// A pid file of this process.
#[derive(Debug)]
pub(crate) struct PidFile {
    /// Absolute, for the working directory may be another when it is removed.
    path: PathBuf,
    pid: u32,
}

impl PidFile {
    /// Writes this process's pid and a newline under another name in the same directory, then renames it, so that no
    /// reader ever sees a part of it. Where that fails, a file of another process's pid is removed: none is better
    /// than one that has signals sent to the wrong process.
    ///
    /// # Errors
    /// The path and why it cannot be written: for the caller to warn of, not to end for.
    pub(crate) fn write(path: &Path) -> Result<Self, Error> {
        let failed = |error| refused("write", path, error);
        let file = PidFile {
            path: std::path::absolute(path).map_err(failed)?,
            pid: std::process::id(),
        };
        file.put().map_err(|error| {
            remove_stale(&file.path);
            failed(error)
        })?;
        Ok(file)
    }

    /// Removes the file, unless it names another process by now.
    ///
    /// # Errors
    /// The path and why it cannot be removed.
    pub(crate) fn remove(self) -> Result<(), Error> {
        if recorded(&self.path) != Some(self.pid) {
            return Ok(());
        }
        fs::remove_file(&self.path).map_err(|error| refused("remove", &self.path, error))
    }

    fn put(&self) -> io::Result<()> {
        let mut draft = self.path.clone().into_os_string();
        draft.push(format!(".{}", self.pid));
        let draft = PathBuf::from(draft);
        let put = write_new(&draft, self.pid).and_then(|()| fs::rename(&draft, &self.path));
        if put.is_err() {
            let _ = fs::remove_file(&draft);
        }
        put
    }
}

/// Removes a file that names another process than this one.
pub(crate) fn remove_stale(path: &Path) {
    if recorded(path).is_some_and(|pid| pid != std::process::id()) {
        let _ = fs::remove_file(path);
    }
}

/// The pid in a file, or `None` if it holds anything else.
fn recorded(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Only ever a new file: a link that somebody left under this name must not be followed.
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

fn refused(verb: &str, path: &Path, error: io::Error) -> Error {
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
    fn it_replaces_a_stale_one_and_is_removed_at_the_end() {
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
    fn one_that_a_successor_wrote_is_left_alone() {
        let directory = directory("successor");
        let path = directory.join("app.pid");
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        file.remove().unwrap();
        assert!(path.exists());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_failure_names_path_and_cause() {
        let error = PidFile::write(Path::new("/nonexistent/app.pid")).unwrap_err();
        assert_eq!(
            error.chain(),
            "pid_file: cannot write /nonexistent/app.pid: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_directory_in_its_place_is_refused_without_a_trace() {
        let directory = directory("directory");
        fs::create_dir(directory.join("app.pid")).unwrap();
        assert!(PidFile::write(&directory.join("app.pid")).is_err());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }
}
