//! Settings that were read: the typed ones, the application's, and where each came from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use figment::value::{Dict, Tag, Value};
use figment::Figment;

use super::origin::{Fault, KeyPath, Lines, Origin};
use super::secret::is_secret;
use super::values::{Form, Given};
use super::Config;
use crate::error::{Error, Kind};

/// Settings that were read, and where each came from.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// What is odd, but no reason to refuse: one line each.
    pub(crate) warnings: Vec<String>,
    /// Every file that was read: the configuration file first, then those that `…_FILE` variables name.
    pub(crate) files: Vec<PathBuf>,
    /// The configuration file, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// The selected profile.
    pub(crate) profile: String,
    pub(super) figment: Figment,
    pub(super) values: Dict,
    pub(super) lines: Lines,
    /// The files that `…_FILE` variables of the application name, by variable.
    pub(super) named_files: BTreeMap<String, NamedFile>,
    /// Keys of `[app]` that the application reads as [`Secret`](super::Secret).
    pub(super) secrets: BTreeSet<String>,
    /// For hints: where a missing setting could be put.
    pub(super) home: PathBuf,
    pub(super) env_prefix: String,
}

/// A file that a `…_FILE` variable names.
#[derive(Clone, Debug)]
pub(super) struct NamedFile {
    pub(super) path: String,
    /// Why it could not be read. No fault yet: the application may have a setting of that name that is a path.
    pub(super) failure: Option<String>,
}

impl Loaded {
    /// Reads each key of the framework into its place; all faults at once, in the order of lines.
    pub(super) fn read(&mut self, mut faults: Vec<Fault>) -> Result<(), Error> {
        let (config, misread) = self.read_each();
        faults.extend(misread);
        for (keys, what) in config.contradictions() {
            let origin = |key| {
                self.value(key)
                    .map_or(Origin::Default, |value| self.origin(value.tag()))
            };
            let set = keys
                .into_iter()
                .find(|key| origin(key) != Origin::Default)
                .unwrap_or(keys[0]);
            faults.push(self.fault(set, &origin(set), what));
        }
        if faults.is_empty() {
            self.config = config;
            return Ok(());
        }
        faults.sort_by_key(|fault| fault.line);
        let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
        Err(Error::new(Kind::Config, lines.join("\n")))
    }

    /// Reads what can be read; the rest is as it is by default.
    #[cfg(feature = "control")]
    pub(super) fn read_what_can_be(&mut self) {
        self.config = self.read_each().0;
    }

    fn read_each(&self) -> (Config, Vec<Fault>) {
        let (mut config, mut faults) = (Config::default(), Vec::new());
        for field in Config::FIELDS {
            let Some(value) = self.value(field.key) else {
                continue;
            };
            let origin = self.origin(value.tag());
            let form = if origin.is_text() {
                Form::Text
            } else {
                Form::Typed
            };
            if let Err(what) = (field.read)(&mut config, Given { value, form }) {
                faults.push(self.fault(field.key, &origin, what));
            }
        }
        (config, faults)
    }

    pub(super) fn fault(&self, key: &str, origin: &Origin, what: impl Into<String>) -> Fault {
        Fault {
            origin: Some(origin.clone()),
            line: self.line(key, origin),
            key: key.into(),
            what: what.into(),
        }
    }

    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        let mut parts = key.split('.');
        let first = self.values.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.as_dict()?.get(part))
    }

    pub(super) fn origin(&self, tag: Tag) -> Origin {
        Origin::of(&self.figment, tag)
    }

    /// The line of a key in the file, if that is where it comes from.
    pub(super) fn line(&self, key: &str, origin: &Origin) -> Option<usize> {
        match origin {
            Origin::File(_) => self.lines.line(key),
            Origin::Profile(_, name) => self.lines.line(&format!("{}.{key}", profile_path(name))),
            _ => None,
        }
    }

    /// Whether a value is kept out of what is shown.
    pub(super) fn is_secret(&self, key: &str, origin: &Origin) -> bool {
        is_secret(key)
            || self.secrets.iter().any(|noted| hides(noted, key))
            || key.starts_with("app.") && matches!(origin, Origin::VariableFile(_))
    }

    /// The file's name for messages.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }
}

/// Whether what was read as a secret at `noted` is the value of `key`, holds it, or is one of its elements. A variable of
/// the environment tells no case.
fn hides(noted: &str, key: &str) -> bool {
    let plain = |path: &str| {
        let outside = path
            .split('[')
            .map(|piece| piece.split_once(']').map_or(piece, |(_, rest)| rest));
        outside.collect::<String>().to_lowercase()
    };
    let (noted, key) = (plain(noted), plain(key));
    key.strip_prefix(&noted)
        .is_some_and(|below| below.is_empty() || below.starts_with('.'))
}

/// `profile.NAME`, as the lines of a file have it.
pub(super) fn profile_path(name: &str) -> String {
    KeyPath::Key(&KeyPath::Key(&KeyPath::Root, "profile"), name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_hides_what_it_holds_and_the_list_that_holds_it() {
        for (noted, key) in [
            ("app.pin", "app.pin"),
            ("app.smtp", "app.smtp.user"),
            ("app.pins[0]", "app.pins"),
            ("app.servers[1].pin", "app.servers.pin"),
            ("app.accountPin", "app.accountpin"),
        ] {
            assert!(hides(noted, key), "{noted} {key}");
        }
        for (noted, key) in [
            ("app.pin", "app.pins"),
            ("app.smtp.pin", "app.smtp"),
            ("app.a", "app.b"),
        ] {
            assert!(!hides(noted, key), "{noted} {key}");
        }
    }
}
