//! Merges the sources of settings and reads them, at start and at every reload.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use figment::value::{Dict, Value};
use figment::Figment;

use super::field::Field;
use super::layers::{
    assignment, classify_variable, segments, unknown_key, EnvVariable, File, Layer,
};
use super::loaded_config::{profile_path, LoadedConfig, VariableFile};
use super::origin::{key_text, LineIndex, SettingError, ValueOrigin};
use super::suggest::suggestion;
use super::Config;
use crate::error::{Error, Kind};

/// The sources of settings.
#[derive(Clone)]
pub(crate) struct ConfigSources {
    /// The application's name.
    pub(crate) name: String,
    /// The file that is read from the working directory if it exists and no other file is given.
    pub(crate) default_file: PathBuf,
    /// The file given with `-c`, which must exist. Without `-c` the variable `SLACKWATER_CONFIG` gives it.
    pub(crate) file: Option<PathBuf>,
    /// The prefix of environment variables: `SLACKWATER_`.
    pub(crate) env_prefix: String,
    /// The profile given with `-p`. Without `-p` the variable `SLACKWATER_PROFILE` gives it, or the kind of build.
    pub(crate) profile: Option<String>,
    /// `KEY=VALUE` of each `--set`.
    pub(crate) sets: Vec<String>,
    /// The application's layer, which the file overrides.
    pub(crate) figment: Option<Figment>,
    /// The environment, read once at the start of the process.
    pub(crate) env: Vec<(OsString, OsString)>,
}

impl ConfigSources {
    /// Returns the sources of an application with this name: `slackwater.toml` and an empty environment.
    pub(crate) fn new(name: impl Into<String>) -> ConfigSources {
        ConfigSources {
            name: name.into(),
            default_file: "slackwater.toml".into(),
            file: None,
            env_prefix: "SLACKWATER_".into(),
            profile: None,
            sets: Vec::new(),
            figment: None,
            env: Vec::new(),
        }
    }

    /// Reads all sources.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`] with every error in the framework's settings, one per line; [`Kind::Usage`] for a `--set` that
    /// is not `KEY=VALUE`.
    pub(crate) fn load(&self) -> Result<LoadedConfig, Error> {
        self.merge_all()?.finish()
    }

    /// Reads all sources, and uses the default of every setting that is wrong.
    ///
    /// For commands to a running process, such as `APP status`: a mistake in the file must not prevent them.
    ///
    /// # Errors
    /// [`Kind::Config`] if the file cannot be read or parsed.
    #[cfg(feature = "control")]
    pub(crate) fn load_despite_errors(&self) -> Result<LoadedConfig, Error> {
        let (mut loaded, _) = self.merge_all()?.loaded();
        loaded.read_valid();
        Ok(loaded)
    }

    fn merge_all(&self) -> Result<Loader<'_>, Error> {
        let mut load = Loader::new(self)?;
        load.application()?;
        let file = self.read_file()?;
        load.file(file);
        load.port(self.variable("PORT"));
        load.environment();
        load.sets()?;
        Ok(load)
    }

    fn read_file(&self) -> Result<Option<File>, Error> {
        let variable = format!("{}CONFIG", self.env_prefix);
        let required = match (&self.file, self.variable(&variable)) {
            (Some(path), _) => Some((path.clone(), "-c")),
            (None, Some(path)) if !path.is_empty() => Some((path.into(), variable.as_str())),
            _ => None,
        };
        let Some((path, given_by)) = required else {
            return File::read(&self.default_file);
        };
        let missing = || {
            format!(
                "configuration file {} (given with {given_by}) does not exist",
                path.display()
            )
        };
        File::read(&path)?
            .map(Some)
            .ok_or_else(|| Error::new(Kind::Config, missing()))
    }

    fn variable(&self, name: &str) -> Option<&OsString> {
        self.env
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    fn selected_profile(&self) -> Result<String, Error> {
        let variable = format!("{}PROFILE", self.env_prefix);
        let from_build = if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        };
        match (&self.profile, self.variable(&variable)) {
            (Some(name), _) => Ok(name.clone()),
            (None, Some(name)) if !name.is_empty() => {
                name.to_str().map(str::to_owned).ok_or_else(|| {
                    Error::new(
                        Kind::Config,
                        format!("environment {variable}: not UTF-8 text"),
                    )
                })
            }
            _ => Ok(from_build.into()),
        }
    }
}

/// Merges layers one after the other and collects their errors.
struct Loader<'a> {
    sources: &'a ConfigSources,
    profile: String,
    figment: Figment,
    lines: LineIndex,
    files: Vec<PathBuf>,
    file: Option<PathBuf>,
    variable_files: BTreeMap<String, VariableFile>,
    warnings: Vec<String>,
    errors: Vec<SettingError>,
}

impl<'a> Loader<'a> {
    fn new(sources: &'a ConfigSources) -> Result<Self, Error> {
        Ok(Loader {
            sources,
            profile: sources.selected_profile()?,
            figment: Figment::from(Layer::defaults()),
            lines: LineIndex::default(),
            files: Vec::new(),
            file: None,
            variable_files: BTreeMap::new(),
            warnings: Vec::new(),
            errors: Vec::new(),
        })
    }

    fn merge(&mut self, layer: Layer) {
        self.figment = std::mem::take(&mut self.figment).merge(layer);
    }

    fn application(&mut self) -> Result<(), Error> {
        let Some(figment) = &self.sources.figment else {
            return Ok(());
        };
        let values = figment
            .clone()
            .select(&self.profile)
            .find_value("")
            .map_err(|error| {
                Error::new(
                    Kind::Config,
                    "the application's layer of settings (Runner::figment) cannot be read",
                )
                .because(error)
            })?;
        self.merge_checked(
            ValueOrigin::Application,
            values.into_dict().unwrap_or_default(),
            "",
        );
        Ok(())
    }

    /// Merges a table, without keys that do not exist; those become errors. `above` is the path of the table in the file.
    fn merge_checked(&mut self, origin: ValueOrigin, values: Dict, above: &str) {
        let mut layer = Layer { origin, values };
        for (key, message) in layer.remove_unknown() {
            let line = self.lines.line(&format!("{above}{key}"));
            self.errors.push(SettingError {
                origin: Some(layer.origin.clone()),
                line,
                key,
                message,
            });
        }
        self.merge(layer);
    }

    fn file(&mut self, file: Option<File>) {
        let Some(File {
            path,
            lines,
            values,
            mut profiles,
        }) = file
        else {
            return;
        };
        self.lines = lines;
        self.files.push(path.clone());
        self.file = Some(path.clone());
        self.merge_checked(ValueOrigin::File(path.clone()), values, "");
        match profiles.remove(&self.profile) {
            Some(Value::Dict(_, values)) => {
                let above = format!("{}.", profile_path(&self.profile));
                self.merge_checked(
                    ValueOrigin::Profile(path, self.profile.clone()),
                    values,
                    &above,
                );
            }
            Some(_) => {
                let key = profile_path(&self.profile);
                let (line, message) = (self.lines.line(&key), "expected a table".into());
                self.errors.push(SettingError {
                    origin: Some(ValueOrigin::File(path)),
                    line,
                    key,
                    message,
                });
            }
            None if ["debug", "release"].contains(&self.profile.as_str()) => {}
            None => {
                let near = suggestion(
                    &self.profile,
                    profiles
                        .keys()
                        .map(String::as_str)
                        .chain(["debug", "release"]),
                );
                let key = profile_path(&self.profile);
                self.warnings
                    .push(format!("{}: [{key}] does not exist{near}", path.display()));
            }
        }
    }

    fn port(&mut self, port: Option<&OsString>) {
        let Some(port) = port.filter(|port| !port.is_empty()) else {
            return;
        };
        let address = if cfg!(debug_assertions) {
            "127.0.0.1"
        } else {
            "0.0.0.0"
        };
        match port
            .to_str()
            .and_then(|port| port.trim().parse::<u16>().ok())
        {
            Some(port) => {
                self.merge(Layer::single(
                    ValueOrigin::Port,
                    &segments("listen"),
                    format!("{address}:{port}"),
                ));
            }
            None => {
                let message = format!(
                    "expected a port (0 to 65535), found {:?}",
                    port.to_string_lossy()
                );
                self.error(ValueOrigin::Port, "listen", message);
            }
        }
    }

    fn environment(&mut self) {
        let below = self.figment.clone();
        let mut seen = BTreeMap::new();
        for (name, value) in self.prefixed_variables() {
            let origin = ValueOrigin::Variable(name.clone());
            let Some(value) = value else {
                self.error(origin, "", "not UTF-8 text".into());
                continue;
            };
            let (path, layer) =
                match classify_variable(&name, &value, &self.sources.env_prefix, &below) {
                    EnvVariable::Ignored => continue,
                    EnvVariable::Unknown(warning) => {
                        self.warnings.push(warning);
                        continue;
                    }
                    EnvVariable::Value(path) => (path.clone(), Layer::single(origin, &path, value)),
                    EnvVariable::File(path) => match self.value_from_file(&name, &value, &path) {
                        Some(layer) => (path, layer),
                        None => continue,
                    },
                };
            match seen.insert(path, name.clone()) {
                Some(other) => {
                    self.error(
                        layer.origin,
                        "",
                        format!("{other} sets the same key; remove one of them"),
                    );
                }
                None => self.merge(layer),
            }
        }
    }

    /// Returns the variables whose names begin with the prefix, ignoring case, sorted by name. A value that is not UTF-8
    /// is `None`.
    fn prefixed_variables(&self) -> Vec<(String, Option<String>)> {
        let prefix = self.sources.env_prefix.as_str();
        let has_prefix = |name: &str| {
            name.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let variables = self
            .sources
            .env
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value)));
        let mut found: Vec<_> = variables
            .filter(|(name, _)| has_prefix(name))
            .map(|(name, value)| (name.to_owned(), value.to_str().map(str::to_owned)))
            .collect();
        found.sort();
        found
    }

    /// Reads the value of a `…_FILE` variable, without its last newline. An unreadable file is an error later if the key is
    /// in `[app]`, because the application may have a path setting of the variable's own name.
    fn value_from_file(&mut self, name: &str, file: &str, path: &[String]) -> Option<Layer> {
        let origin = ValueOrigin::VariableFile(name.into());
        let mut failure = None;
        let text = match std::fs::read_to_string(file) {
            Ok(text) => {
                self.files.push(file.into());
                let line = text.strip_suffix('\n').unwrap_or(&text);
                line.strip_suffix('\r').unwrap_or(line).to_owned()
            }
            Err(error) => {
                failure = Some(format!("cannot read {file}: {error}"));
                String::new()
            }
        };
        if path[0] == "app" {
            self.variable_files.insert(
                name.into(),
                VariableFile {
                    path: file.into(),
                    failure,
                },
            );
        } else if let Some(failure) = failure {
            self.error(origin, "", failure);
            return None;
        }
        Some(Layer::single(origin, path, text))
    }

    fn sets(&mut self) -> Result<(), Error> {
        for set in &self.sources.sets {
            let (path, value) = assignment(set)?;
            let key = path.iter().fold(String::new(), |key, part| {
                format!(
                    "{key}{}{}",
                    if key.is_empty() { "" } else { "." },
                    key_text(part)
                )
            });
            if Field::find(&key).is_some() || path[0] == "app" && path.len() > 1 {
                self.merge(Layer::single(ValueOrigin::Set, &path, value));
            } else if Field::is_section(&key) || key == "app" {
                self.error(
                    ValueOrigin::Set,
                    &key,
                    format!("{key} is a table; set one of its keys, as in {key}.KEY=VALUE"),
                );
            } else {
                self.error(ValueOrigin::Set, &key, unknown_key(&key));
            }
        }
        Ok(())
    }

    fn error(&mut self, origin: ValueOrigin, key: &str, message: String) {
        self.errors.push(SettingError {
            origin: Some(origin),
            line: None,
            key: key.into(),
            message,
        });
    }

    fn finish(self) -> Result<LoadedConfig, Error> {
        let (mut loaded, errors) = self.loaded();
        loaded.read(errors)?;
        Ok(loaded)
    }

    /// Returns the merged values, not read into `Config` yet, and the errors so far.
    fn loaded(mut self) -> (LoadedConfig, Vec<SettingError>) {
        let values = self
            .figment
            .find_value("")
            .ok()
            .and_then(Value::into_dict)
            .unwrap_or_default();
        let sources = self.sources;
        let errors = std::mem::take(&mut self.errors);
        let loaded = LoadedConfig {
            config: Config::default(),
            warnings: self.warnings,
            files: self.files,
            hint_file: self
                .file
                .clone()
                .unwrap_or_else(|| sources.default_file.clone()),
            file: self.file,
            profile: self.profile,
            figment: self.figment,
            values,
            lines: self.lines,
            variable_files: self.variable_files,
            secrets: BTreeSet::new(),
            env_prefix: sources.env_prefix.clone(),
        };
        (loaded, errors)
    }
}
