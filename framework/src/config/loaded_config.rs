//! The result of a load: typed settings, the application's values, and the source of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use figment::value::{Dict, Tag, Value};
use figment::Figment;

use super::origin::{KeyPath, LineIndex, SettingError, ValueOrigin};
use super::secret::is_secret;
use super::values::{RawValue, ValueForm};
use super::Config;
use crate::error::{Error, Kind};

/// The result of a load: the settings and the source of each.
#[derive(Clone)]
pub(crate) struct LoadedConfig {
    pub(crate) config: Config,
    /// Mistakes that do not make the load fail, one line each.
    pub(crate) warnings: Vec<String>,
    /// Every file that was read: first the configuration file, then the files of `…_FILE` variables.
    pub(crate) files: Vec<PathBuf>,
    /// The configuration file, if it exists.
    pub(crate) file: Option<PathBuf>,
    /// The selected profile.
    pub(crate) profile: String,
    pub(super) figment: Figment,
    pub(super) values: Dict,
    pub(super) lines: LineIndex,
    /// The files of the application's `…_FILE` variables, by variable.
    pub(super) variable_files: BTreeMap<String, VariableFile>,
    /// The keys of `[app]` that the application reads as [`Secret`](super::Secret).
    pub(super) secrets: BTreeSet<String>,
    /// The file that error messages recommend for a missing setting.
    pub(super) hint_file: PathBuf,
    pub(super) env_prefix: String,
}

/// The file of a `…_FILE` variable.
#[derive(Clone, Debug)]
pub(super) struct VariableFile {
    pub(super) path: String,
    /// The reason why it could not be read. It becomes an error only if the application reads the value: it may instead
    /// have a path setting of the variable's own name.
    pub(super) failure: Option<String>,
}

impl LoadedConfig {
    /// Reads the framework's keys into `config`. Returns all errors at once, including `errors`, in the order of lines.
    pub(super) fn read(&mut self, mut errors: Vec<SettingError>) -> Result<(), Error> {
        let (config, unreadable) = self.read_each();
        errors.extend(unreadable);
        for (keys, message) in config.contradictions(cfg!(feature = "metrics")) {
            let origin = |key| {
                self.value(key)
                    .map_or(ValueOrigin::Default, |value| self.origin(value.tag()))
            };
            let set = keys
                .into_iter()
                .find(|key| origin(key) != ValueOrigin::Default)
                .unwrap_or(keys[0]);
            errors.push(self.error(set, &origin(set), message));
        }
        if errors.is_empty() {
            self.config = config;
            return Ok(());
        }
        errors.sort_by_key(|error| error.line);
        let lines: Vec<String> = errors.iter().map(SettingError::to_string).collect();
        Err(Error::new(Kind::Config, lines.join("\n")))
    }

    /// Reads the valid values; the other settings keep their defaults.
    #[cfg(feature = "control")]
    pub(super) fn read_valid(&mut self) {
        self.config = self.read_each().0;
    }

    fn read_each(&self) -> (Config, Vec<SettingError>) {
        let (mut config, mut errors) = (Config::default(), Vec::new());
        for field in Config::FIELDS {
            let Some(value) = self.value(field.key) else {
                continue;
            };
            let origin = self.origin(value.tag());
            let form = if origin.is_text() {
                ValueForm::Text
            } else {
                ValueForm::Typed
            };
            if let Err(message) = (field.read)(&mut config, RawValue { value, form }) {
                errors.push(self.error(field.key, &origin, message));
            }
        }
        (config, errors)
    }

    pub(super) fn error(
        &self,
        key: &str,
        origin: &ValueOrigin,
        message: impl Into<String>,
    ) -> SettingError {
        SettingError {
            origin: Some(origin.clone()),
            line: self.line(key, origin),
            key: key.into(),
            message: message.into(),
        }
    }

    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        let mut parts = key.split('.');
        let first = self.values.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.as_dict()?.get(part))
    }

    pub(super) fn origin(&self, tag: Tag) -> ValueOrigin {
        ValueOrigin::find(&self.figment, tag)
    }

    /// Returns the line of a key, if the file is its source.
    pub(super) fn line(&self, key: &str, origin: &ValueOrigin) -> Option<usize> {
        match origin {
            ValueOrigin::File(_) => self.lines.line(key),
            ValueOrigin::Profile(_, name) => {
                self.lines.line(&format!("{}.{key}", profile_path(name)))
            }
            _ => None,
        }
    }

    /// Returns true if the value must not be printed.
    pub(super) fn is_secret(&self, key: &str, origin: &ValueOrigin) -> bool {
        is_secret(key)
            || self.secrets.iter().any(|secret| hides(secret, key))
            || key.starts_with("app.") && matches!(origin, ValueOrigin::VariableFile(_))
    }

    /// Returns the file that error messages recommend for a missing setting.
    pub(super) fn hint_file(&self) -> &Path {
        &self.hint_file
    }
}

/// Returns true if the secret at the path `secret` is the value of `key`, contains it, or is one of its elements. Ignores
/// case, because the names of environment variables do not preserve it.
fn hides(secret: &str, key: &str) -> bool {
    let plain = |path: &str| {
        let outside = path
            .split('[')
            .map(|piece| piece.split_once(']').map_or(piece, |(_, rest)| rest));
        outside.collect::<String>().to_lowercase()
    };
    let (secret, key) = (plain(secret), plain(key));
    key.strip_prefix(&secret)
        .is_some_and(|below| below.is_empty() || below.starts_with('.'))
}

/// Returns `profile.NAME`, the path of a profile in a [`LineIndex`].
pub(super) fn profile_path(name: &str) -> String {
    KeyPath::Key(&KeyPath::Key(&KeyPath::Root, "profile"), name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_hides_its_fields_and_the_list_that_contains_it() {
        for (secret, key) in [
            ("app.pin", "app.pin"),
            ("app.smtp", "app.smtp.user"),
            ("app.pins[0]", "app.pins"),
            ("app.servers[1].pin", "app.servers.pin"),
            ("app.accountPin", "app.accountpin"),
        ] {
            assert!(hides(secret, key), "{secret} {key}");
        }
        for (secret, key) in [
            ("app.pin", "app.pins"),
            ("app.smtp.pin", "app.smtp"),
            ("app.a", "app.b"),
        ] {
            assert!(!hides(secret, key), "{secret} {key}");
        }
    }
}
