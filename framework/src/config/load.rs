//! Lays the sources of settings over each other and reads them, at start and at every reload.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use figment::value::{Dict, Value};
use figment::Figment;

use super::field::Field;
use super::layers::{assignment, meaning, segments, unknown, File, Layer, Meaning};
use super::loaded::{profile_path, Loaded, NamedFile};
use super::nearest::suggestion;
use super::origin::{key_text, Fault, Lines, Origin};
use super::Config;
use crate::error::{Error, Kind};

/// Where settings are looked for.
#[derive(Clone)]
pub(crate) struct Sources {
    /// The application's name.
    pub(crate) name: String,
    /// Read from the current directory if it is there.
    pub(crate) default_file: PathBuf,
    /// The file that `-c` names, which must exist; without it the variable `SLACKWATER_CONFIG` does.
    pub(crate) file: Option<PathBuf>,
    /// `SLACKWATER_`
    pub(crate) env_prefix: String,
    /// The profile that `-p` names; without it the variable `SLACKWATER_PROFILE` does, or the build.
    pub(crate) profile: Option<String>,
    /// `KEY=VALUE` of each `--set`.
    pub(crate) sets: Vec<String>,
    /// The application's own layer, below the file.
    pub(crate) figment: Option<Figment>,
    /// The environment, taken once.
    pub(crate) env: Vec<(OsString, OsString)>,
}

impl Sources {
    /// The sources of an application of this name: `slackwater.toml` and an empty environment.
    pub(crate) fn new(name: impl Into<String>) -> Sources {
        Sources {
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

    /// Reads everything anew.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`] with every fault of the framework's part, a line each; [`Kind::Usage`] for a `--set` that is
    /// no `KEY=VALUE`.
    pub(crate) fn load(&self) -> Result<Loaded, Error> {
        self.lay_all()?.finish()
    }

    /// The same for a command to a running process, which needs next to nothing of it: what is wrong stays as it is by
    /// default. A mistake in the file must not keep anybody from asking how things stand.
    ///
    /// # Errors
    /// The file cannot be read at all.
    #[cfg(feature = "control")]
    pub(crate) fn load_despite_faults(&self) -> Result<Loaded, Error> {
        let (mut loaded, _) = self.lay_all()?.loaded();
        loaded.read_what_can_be();
        Ok(loaded)
    }

    fn lay_all(&self) -> Result<Load<'_>, Error> {
        let mut load = Load::new(self)?;
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
        let named = match (&self.file, self.variable(&variable)) {
            (Some(path), _) => Some((path.clone(), "-c")),
            (None, Some(path)) if !path.is_empty() => Some((path.into(), variable.as_str())),
            _ => None,
        };
        let Some((path, namer)) = named else {
            return File::read(&self.default_file);
        };
        let missing = || {
            format!(
                "configuration file {} does not exist, but {namer} names it",
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

/// A load under way: what was laid over each other so far, and what is wrong with it.
struct Load<'a> {
    sources: &'a Sources,
    profile: String,
    figment: Figment,
    lines: Lines,
    files: Vec<PathBuf>,
    file: Option<PathBuf>,
    named_files: BTreeMap<String, NamedFile>,
    warnings: Vec<String>,
    faults: Vec<Fault>,
}

impl<'a> Load<'a> {
    fn new(sources: &'a Sources) -> Result<Self, Error> {
        Ok(Load {
            sources,
            profile: sources.selected_profile()?,
            figment: Figment::from(Layer::defaults()),
            lines: Lines::default(),
            files: Vec::new(),
            file: None,
            named_files: BTreeMap::new(),
            warnings: Vec::new(),
            faults: Vec::new(),
        })
    }

    fn lay(&mut self, layer: Layer) {
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
                Error::new(Kind::Config, "application: its own settings cannot be read")
                    .because(error)
            })?;
        self.checked(
            Origin::Application,
            values.into_dict().unwrap_or_default(),
            "",
        );
        Ok(())
    }

    /// Lays a table over what there is, without what the framework's part does not know.
    fn checked(&mut self, origin: Origin, values: Dict, above: &str) {
        let mut layer = Layer { origin, values };
        for (key, what) in layer.remove_unknown() {
            let line = self.lines.line(&format!("{above}{key}"));
            self.faults.push(Fault {
                origin: Some(layer.origin.clone()),
                line,
                key,
                what,
            });
        }
        self.lay(layer);
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
        self.checked(Origin::File(path.clone()), values, "");
        match profiles.remove(&self.profile) {
            Some(Value::Dict(_, values)) => {
                let above = format!("{}.", profile_path(&self.profile));
                self.checked(Origin::Profile(path, self.profile.clone()), values, &above);
            }
            Some(_) => {
                let key = profile_path(&self.profile);
                let (line, what) = (self.lines.line(&key), "expected a table".into());
                self.faults.push(Fault {
                    origin: Some(Origin::File(path)),
                    line,
                    key,
                    what,
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
                    .push(format!("{}: there is no [{key}]{near}", path.display()));
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
                self.lay(Layer::one(
                    Origin::Port,
                    &segments("listen"),
                    format!("{address}:{port}"),
                ));
            }
            None => {
                let what = format!(
                    "expected a port (0 to 65535), found {:?}",
                    port.to_string_lossy()
                );
                self.fault(Origin::Port, "listen", what);
            }
        }
    }

    fn environment(&mut self) {
        let below = self.figment.clone();
        let mut seen = BTreeMap::new();
        for (name, value) in self.prefixed_variables() {
            let origin = Origin::Variable(name.clone());
            let Some(value) = value else {
                self.fault(origin, "", "not UTF-8 text".into());
                continue;
            };
            let (path, layer) = match meaning(&name, &value, &self.sources.env_prefix, &below) {
                Meaning::Nothing => continue,
                Meaning::Unknown(warning) => {
                    self.warnings.push(warning);
                    continue;
                }
                Meaning::Value(path) => (path.clone(), Layer::one(origin, &path, value)),
                Meaning::InFile(path) => match self.value_of_file(&name, &value, &path) {
                    Some(layer) => (path, layer),
                    None => continue,
                },
            };
            match seen.insert(path, name.clone()) {
                Some(other) => {
                    self.fault(
                        layer.origin,
                        "",
                        format!("set as well as {other}; leave one of them out"),
                    );
                }
                None => self.lay(layer),
            }
        }
    }

    /// The variables with the prefix, in whatever case, sorted by name; `None` is a value that is no text.
    fn prefixed_variables(&self) -> Vec<(String, Option<String>)> {
        let prefix = self.sources.env_prefix.as_str();
        let ours = |name: &str| {
            name.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let variables = self
            .sources
            .env
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value)));
        let mut found: Vec<_> = variables
            .filter(|(name, _)| ours(name))
            .map(|(name, value)| (name.to_owned(), value.to_str().map(str::to_owned)))
            .collect();
        found.sort();
        found
    }

    fn value_of_file(&mut self, name: &str, file: &str, path: &[String]) -> Option<Layer> {
        let origin = Origin::VariableFile(name.into());
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
            self.named_files.insert(
                name.into(),
                NamedFile {
                    path: file.into(),
                    failure,
                },
            );
        } else if let Some(failure) = failure {
            self.fault(origin, "", failure);
            return None;
        }
        Some(Layer::one(origin, path, text))
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
                self.lay(Layer::one(Origin::Set, &path, value));
            } else if Field::is_section(&key) || key == "app" {
                self.fault(
                    Origin::Set,
                    &key,
                    format!("a table has no value; set its keys, as {key}.KEY=VALUE"),
                );
            } else {
                self.fault(Origin::Set, &key, unknown(&key));
            }
        }
        Ok(())
    }

    fn fault(&mut self, origin: Origin, key: &str, what: String) {
        self.faults.push(Fault {
            origin: Some(origin),
            line: None,
            key: key.into(),
            what,
        });
    }

    fn finish(self) -> Result<Loaded, Error> {
        let (mut loaded, faults) = self.loaded();
        loaded.read(faults)?;
        Ok(loaded)
    }

    /// What was laid over each other, not read yet, and what is wrong with it so far.
    fn loaded(mut self) -> (Loaded, Vec<Fault>) {
        let values = self
            .figment
            .find_value("")
            .ok()
            .and_then(Value::into_dict)
            .unwrap_or_default();
        let sources = self.sources;
        let faults = std::mem::take(&mut self.faults);
        let loaded = Loaded {
            config: Config::default(),
            warnings: self.warnings,
            files: self.files,
            home: self
                .file
                .clone()
                .unwrap_or_else(|| sources.default_file.clone()),
            file: self.file,
            profile: self.profile,
            figment: self.figment,
            values,
            lines: self.lines,
            named_files: self.named_files,
            secrets: BTreeSet::new(),
            env_prefix: sources.env_prefix.clone(),
        };
        (loaded, faults)
    }
}
