//! A temporary directory of one test, removed at the end of the test.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

/// A new, empty directory. `Drop` removes it with its content.
#[derive(Debug)]
pub struct Dir(PathBuf);

impl Dir {
    /// Creates a directory below the system's temporary directory. Its path is short enough for a Unix socket in it.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be created.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("slackwater-{}-{number}", process::id()));
        fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        Dir(path)
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it atomically: concurrent readers see the old content or the new.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, fresh) = (self.0.join(name), self.0.join(format!(".{name}.new")));
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &path))
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }

    /// Installs `program` in it as `name` and replaces an existing file by a rename, as a deployment does.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be installed.
    pub fn install(&self, program: &Path, name: &str) -> PathBuf {
        let (path, fresh) = (self.0.join(name), self.0.join(format!("{name}.new")));
        let _ = fs::remove_file(&fresh);
        // a hard link instead of a copy: no file is open for writing while another test forks (ETXTBSY). A symbolic link
        // replaces it across file systems
        fs::hard_link(program, &fresh)
            .or_else(|_| symlink(program, &fresh))
            .and_then(|()| fs::rename(&fresh, &path))
            .unwrap_or_else(|error| panic!("cannot install {}: {error}", path.display()));
        // a rename onto a link to the same file does nothing and leaves the temporary name
        let _ = fs::remove_file(&fresh);
        path
    }

    /// Returns the content of a file in it, or an empty string if the file does not exist.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        fs::read(self.0.join(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Default for Dir {
    fn default() -> Self {
        Dir::new()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // a leftover directory is harmless, and a panic here would hide the panic of the test
        let _ = fs::remove_dir_all(&self.0);
    }
}
