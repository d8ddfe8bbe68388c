//! Watches the files of the program with inotify and classifies changes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use notify::event::{EventKind, MetadataKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::event::LoopEvent;
use super::package::is_target_dir;
use crate::error::{Error, Kind};

/// Directories whose files the application reads while it runs.
const READ_AT_RUN_TIME: [&str; 4] = ["templates", "static", "assets", "public"];

/// The kind of a changed file. It determines the reaction of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ChangeKind {
    /// A configuration file: a reload.
    Settings,
    /// A file that is read at run time or compiled in: a build, then a reload or an upgrade.
    Templates,
    /// A source file: a build, then an upgrade if the program has changed.
    Sources,
}

/// The watched files and directories.
#[derive(Debug)]
pub(super) struct FileWatcher {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    settings: BTreeSet<PathBuf>,
    inputs: BTreeSet<PathBuf>,
    /// The directories of packages, watched with all directories below them.
    packages: BTreeSet<PathBuf>,
}

impl FileWatcher {
    /// Creates a watcher of no files. Changes are sent as [`LoopEvent::FilesChanged`].
    ///
    /// # Errors
    /// The kernel refuses an inotify instance.
    pub(super) fn new(events: Sender<LoopEvent>) -> Result<Self, Error> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if let Some(event) = event.ok().filter(|event| is_change(&event.kind)) {
                let _ = events.send(LoopEvent::FilesChanged(event.paths));
            }
        });
        let watcher = watcher
            .map_err(|error| Error::new(Kind::Io, "files cannot be watched").because(error))?;
        Ok(FileWatcher {
            watcher,
            watched: BTreeSet::new(),
            settings: BTreeSet::new(),
            inputs: BTreeSet::new(),
            packages: BTreeSet::new(),
        })
    }

    /// Watches the directory of a package and all directories below it, except hidden ones, `node_modules`
    /// and cargo's target directory.
    pub(super) fn watch_package(&mut self, root: &Path) {
        let root = absolute(root);
        if self.packages.insert(root.clone()) {
            self.watch_tree(&root);
        }
    }

    /// Watches the files that the compiler has read, in place of those of the previous build.
    pub(super) fn set_inputs(&mut self, files: &[PathBuf]) {
        self.inputs = self.watch_files(files);
    }

    /// Watches the configuration files, in place of the previous ones. A file may not exist yet.
    pub(super) fn set_settings(&mut self, files: &[PathBuf]) {
        self.settings = self.watch_files(files);
    }

    /// Watches the directories of files, because an editor may replace a file instead of writing to it.
    fn watch_files(&mut self, files: &[PathBuf]) -> BTreeSet<PathBuf> {
        let files: BTreeSet<PathBuf> = files.iter().map(|file| absolute(file)).collect();
        let directories: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
        for directory in directories {
            self.watch_directory(directory);
        }
        files
    }

    /// Returns the kind of a changed file, or `None` if the change has no effect. Watches `path` if it is
    /// a new directory.
    pub(super) fn classify(&mut self, path: &Path) -> Option<ChangeKind> {
        if path.is_dir() {
            if self.packages.iter().any(|root| path.starts_with(root)) && !is_ignored(path) {
                self.watch_tree(path);
            }
            return None;
        }
        self.kind(path)
    }

    fn kind(&self, path: &Path) -> Option<ChangeKind> {
        if self.settings.contains(path) {
            return Some(ChangeKind::Settings);
        }
        if self.inputs.contains(path) {
            return Some(ChangeKind::Sources);
        }
        let below = self
            .packages
            .iter()
            .filter_map(|root| path.strip_prefix(root).ok());
        below.filter_map(kind_in_package).max()
    }

    fn watch_tree(&mut self, directory: &Path) {
        self.watch_directory(directory);
        let entries = fs::read_dir(directory)
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        for entry in entries {
            // symbolic links are not followed, because they may form cycles
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory && !is_ignored(&entry.path()) {
                self.watch_tree(&entry.path());
            }
        }
    }

    fn watch_directory(&mut self, directory: &Path) {
        match self.watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(directory.to_owned());
            }
            // the directory was removed meanwhile, or does not exist yet
            Err(_) if !directory.exists() => {}
            Err(error) => log::warn!(
                "changes in {} are not detected: {error}",
                directory.display()
            ),
        }
    }

    /// Returns the number of watched directories.
    pub(super) fn len(&self) -> usize {
        self.watched.len()
    }
}

/// Returns the kind of a file by its path relative to its package.
fn kind_in_package(path: &Path) -> Option<ChangeKind> {
    let name = path.file_name()?.to_str()?;
    let directories: Vec<&str> = path
        .parent()?
        .components()
        .filter_map(|component| component.as_os_str().to_str())
        .collect();
    let is_temporary = name.starts_with(['.', '#']) || name.ends_with(['~', '#']) || name == "4913";
    if is_temporary
        || directories
            .iter()
            .any(|directory| directory.starts_with('.'))
    {
        return None;
    }
    if name.ends_with(".rs") || name == "Cargo.toml" || name == "Cargo.lock" {
        return Some(ChangeKind::Sources);
    }
    match directories.first() {
        Some(first) if READ_AT_RUN_TIME.contains(first) => Some(ChangeKind::Templates),
        Some(&"src") => Some(ChangeKind::Sources),
        _ => None,
    }
}

#[expect(
    clippy::match_same_arms,
    reason = "the exception must stand before the kinds that it is taken from"
)]
fn is_change(kind: &EventKind) -> bool {
    match kind {
        // reading a file changes its access time
        EventKind::Modify(ModifyKind::Metadata(MetadataKind::AccessTime)) => false,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => true,
        EventKind::Access(_) | EventKind::Any | EventKind::Other => false,
    }
}

fn is_ignored(directory: &Path) -> bool {
    let name = directory
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    name.starts_with('.') || name == "node_modules" || is_target_dir(directory)
}

/// Returns an absolute path without resolving symbolic links, which is the form in events.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_file_determines_the_kind_of_its_change() {
        let table = [
            ("src/main.rs", Some(ChangeKind::Sources)),
            ("src/page.html", Some(ChangeKind::Sources)),
            ("build.rs", Some(ChangeKind::Sources)),
            ("Cargo.toml", Some(ChangeKind::Sources)),
            ("tests/shop.rs", Some(ChangeKind::Sources)),
            ("templates/mail/order.html", Some(ChangeKind::Templates)),
            ("static/style.css", Some(ChangeKind::Templates)),
            ("shop.db", None),
            ("data/upload.bin", None),
            ("src/.main.rs.swp", None),
            ("src/main.rs~", None),
            ("src/4913", None),
            (".git/index", None),
            ("templates", None),
        ];
        for (path, kind) in table {
            assert_eq!(kind_in_package(path.as_ref()), kind, "{path}");
        }
    }

    #[test]
    fn a_package_is_watched_with_directories_that_are_created_later() {
        let root = std::env::temp_dir().join(format!("slackwater-watch-{}", std::process::id()));
        fs::create_dir_all(root.join("src")).unwrap();
        fs::create_dir_all(root.join("target/debug")).unwrap();
        fs::write(root.join("target/CACHEDIR.TAG"), "").unwrap();
        let (events, changes) = std::sync::mpsc::channel();
        let mut watcher = FileWatcher::new(events).unwrap();
        watcher.watch_package(&root);
        assert_eq!(watcher.len(), 2);
        fs::create_dir(root.join("templates")).unwrap();
        assert_eq!(watcher.classify(&root.join("templates")), None);
        assert_eq!(watcher.len(), 3);
        fs::write(root.join("templates/index.html"), "x").unwrap();
        let within = std::time::Duration::from_secs(10);
        loop {
            let LoopEvent::FilesChanged(paths) = changes.recv_timeout(within).unwrap() else {
                continue;
            };
            if paths.iter().any(|path| path.ends_with("index.html")) {
                assert_eq!(watcher.classify(&paths[0]), Some(ChangeKind::Templates));
                break;
            }
        }
        fs::remove_dir_all(root).unwrap();
    }
}
