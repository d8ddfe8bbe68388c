//! What is watched, and what a change of it calls for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use notify::event::{EventKind, MetadataKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::keeper::Event;
use super::package::is_target_dir;
use crate::error::{Error, Kind};

/// Directories whose files the application reads while it runs.
const READ_AT_RUN_TIME: [&str; 4] = ["templates", "static", "assets", "public"];

/// What a change calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// The application has to be called anew.
    Settings,
    /// The same, after a build: a template may be compiled in or not.
    Templates,
    /// A build, which may find that nothing has changed.
    ConfigSources,
}

/// The watched files and directories.
#[derive(Debug)]
pub(super) struct Watch {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    settings: BTreeSet<PathBuf>,
    inputs: BTreeSet<PathBuf>,
    /// The directories of packages; all below them counts.
    packages: BTreeSet<PathBuf>,
}

impl Watch {
    /// Watches nothing yet; what changes comes as [`Event::Touched`].
    ///
    /// # Errors
    /// The operating system has no watches left.
    pub(super) fn new(events: Sender<Event>) -> Result<Self, Error> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if let Some(event) = event.ok().filter(|event| is_change(&event.kind)) {
                let _ = events.send(Event::Touched(event.paths));
            }
        });
        let watcher = watcher
            .map_err(|error| Error::new(Kind::Io, "files cannot be watched").because(error))?;
        Ok(Watch {
            watcher,
            watched: BTreeSet::new(),
            settings: BTreeSet::new(),
            inputs: BTreeSet::new(),
            packages: BTreeSet::new(),
        })
    }

    /// Watches a package: its directory and all below it, apart from what cargo builds and what is hidden.
    pub(super) fn package(&mut self, root: &Path) {
        let root = absolute(root);
        if self.packages.insert(root.clone()) {
            self.tree(&root);
        }
    }

    /// Watches the files that went into the program, wherever they are, in place of those before.
    pub(super) fn inputs(&mut self, files: Vec<PathBuf>) {
        self.inputs = files.into_iter().map(|file| absolute(&file)).collect();
        let directories: BTreeSet<PathBuf> = self
            .inputs
            .iter()
            .filter_map(|file| Some(file.parent()?.to_owned()))
            .collect();
        directories
            .iter()
            .for_each(|directory| self.directory(directory));
    }

    /// Watches the files of the settings, there or not, in place of those before.
    pub(super) fn settings(&mut self, files: &[PathBuf]) {
        self.settings = files.iter().map(|file| absolute(file)).collect();
        let directories: BTreeSet<PathBuf> = self
            .settings
            .iter()
            .filter_map(|file| Some(file.parent()?.to_owned()))
            .collect();
        directories
            .iter()
            .for_each(|directory| self.directory(directory));
    }

    /// What the change of `path` calls for; a new directory is watched from now on.
    pub(super) fn changed(&mut self, path: &Path) -> Option<Change> {
        if path.is_dir() {
            if self.packages.iter().any(|root| path.starts_with(root)) && !is_ignored(path) {
                self.tree(path);
            }
            return None;
        }
        self.meaning(path)
    }

    fn meaning(&self, path: &Path) -> Option<Change> {
        if self.settings.contains(path) {
            return Some(Change::Settings);
        }
        if self.inputs.contains(path) {
            return Some(Change::ConfigSources);
        }
        let below = self
            .packages
            .iter()
            .filter_map(|root| path.strip_prefix(root).ok());
        below.filter_map(meaning_below).max()
    }

    fn tree(&mut self, directory: &Path) {
        self.directory(directory);
        let entries = fs::read_dir(directory)
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        for entry in entries {
            // links are not followed: they may lead in circles
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory && !is_ignored(&entry.path()) {
                self.tree(&entry.path());
            }
        }
    }

    fn directory(&mut self, directory: &Path) {
        match self.watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(directory.to_owned());
            }
            // one that has gone meanwhile, or was never there
            Err(_) if !directory.exists() => {}
            Err(error) => log::warn!(
                "changes in {} will not be seen: {error}",
                directory.display()
            ),
        }
    }

    /// How many directories are watched.
    pub(super) fn len(&self) -> usize {
        self.watched.len()
    }
}

/// What a file means by its place in a package.
fn meaning_below(path: &Path) -> Option<Change> {
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
        return Some(Change::ConfigSources);
    }
    match directories.first() {
        Some(first) if READ_AT_RUN_TIME.contains(first) => Some(Change::Templates),
        Some(&"src") => Some(Change::ConfigSources),
        _ => None,
    }
}

fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Create(_) | EventKind::Remove(_) => true,
        // reading changes it too
        EventKind::Modify(ModifyKind::Metadata(MetadataKind::AccessTime)) => false,
        EventKind::Modify(_) => true,
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

/// As events name it: absolute, but with links as they are.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_means_by_its_place() {
        let table = [
            ("src/main.rs", Some(Change::ConfigSources)),
            ("src/page.html", Some(Change::ConfigSources)),
            ("build.rs", Some(Change::ConfigSources)),
            ("Cargo.toml", Some(Change::ConfigSources)),
            ("tests/shop.rs", Some(Change::ConfigSources)),
            ("templates/mail/order.html", Some(Change::Templates)),
            ("static/style.css", Some(Change::Templates)),
            ("shop.db", None),
            ("data/upload.bin", None),
            ("src/.main.rs.swp", None),
            ("src/main.rs~", None),
            ("src/4913", None),
            (".git/index", None),
            ("templates", None),
        ];
        for (path, meaning) in table {
            assert_eq!(meaning_below(path.as_ref()), meaning, "{path}");
        }
    }

    #[test]
    fn a_package_is_watched_with_what_is_made_in_it_later() {
        let root = std::env::temp_dir().join(format!("slackwater-watch-{}", std::process::id()));
        fs::create_dir_all(root.join("src")).unwrap();
        fs::create_dir_all(root.join("target/debug")).unwrap();
        fs::write(root.join("target/CACHEDIR.TAG"), "").unwrap();
        let (events, touched) = std::sync::mpsc::channel();
        let mut watch = Watch::new(events).unwrap();
        watch.package(&root);
        assert_eq!(watch.len(), 2);
        fs::create_dir(root.join("templates")).unwrap();
        assert_eq!(watch.changed(&root.join("templates")), None);
        assert_eq!(watch.len(), 3);
        fs::write(root.join("templates/index.html"), "x").unwrap();
        let within = std::time::Duration::from_secs(10);
        loop {
            let Event::Touched(paths) = touched.recv_timeout(within).unwrap() else {
                continue;
            };
            if paths.iter().any(|path| path.ends_with("index.html")) {
                assert_eq!(watch.changed(&paths[0]), Some(Change::Templates));
                break;
            }
        }
        fs::remove_dir_all(root).unwrap();
    }
}
