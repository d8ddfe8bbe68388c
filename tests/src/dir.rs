//! A directory that a test has for itself, gone when the test is.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

/// A fresh, empty directory; removed with all its content in `Drop`.
#[derive(Debug)]
pub struct Dir(PathBuf);

impl Dir {
    /// Makes one below the machine's directory for temporary files. Its path is short enough for a Unix socket's.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("slackwater-{}-{number}", process::id()));
        fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        Dir(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it, whole or not at all to whoever reads meanwhile.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, fresh) = (self.0.join(name), self.0.join(format!(".{name}.new")));
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &path))
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }

    /// Puts `program` in it under another name, in place of what was there: as a deploy does, by a rename.
    ///
    /// # Panics
    ///
    /// When it cannot be put there.
    pub fn install(&self, program: &Path, name: &str) -> PathBuf {
        let (path, fresh) = (self.0.join(name), self.0.join(format!("{name}.new")));
        let _ = fs::remove_file(&fresh);
        // a hard link is no copy: nothing is open for writing when another test forks. Across file systems there is none
        fs::hard_link(program, &fresh)
            .or_else(|_| symlink(program, &fresh))
            .and_then(|()| fs::rename(&fresh, &path))
            .unwrap_or_else(|error| panic!("cannot install {}: {error}", path.display()));
        // a rename onto another link of the same file does nothing
        let _ = fs::remove_file(&fresh);
        path
    }

    /// What a file in it holds; nothing when there is none.
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
        // what is left behind harms nobody, and a panic here would hide the test's own
        let _ = fs::remove_dir_all(&self.0);
    }
}
