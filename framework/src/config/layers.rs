//! The sources of settings as figment providers: defaults, the file and its profile, `PORT`, the environment, `--set`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use toml_edit::ImDocument;

use super::field::{variable, Field};
use super::origin::{position, KeyPath, LineIndex, ValueOrigin};
use super::suggest::{nearest, suggestion};
use super::values::describe;
use super::Config;
use crate::error::{Error, Kind};

/// The values of a source, as a figment provider.
pub(super) struct Layer {
    pub(super) origin: ValueOrigin,
    pub(super) values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.origin.metadata()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

impl Layer {
    /// Returns a layer with a single value.
    pub(super) fn single(origin: ValueOrigin, path: &[String], value: impl Into<Value>) -> Layer {
        let mut values = Dict::new();
        put(&mut values, path, value.into());
        Layer { origin, values }
    }

    pub(super) fn defaults() -> Layer {
        let mut values = Dict::new();
        let defaults = Config::default();
        for field in Config::FIELDS {
            let value = (field.show)(&defaults);
            if value.to_empty().is_none() {
                put(&mut values, &segments(field.key), value);
            }
        }
        Layer {
            origin: ValueOrigin::Default,
            values,
        }
    }

    /// Removes what the framework's settings do not accept in this layer. Returns each removed key with the reason.
    pub(super) fn remove_unknown(&mut self) -> Vec<(String, String)> {
        let mut removed = Vec::new();
        self.values
            .retain(|name, value| keep(name, value, &mut removed));
        removed
    }
}

/// Returns true if the entry `name` of the top level is accepted. Removes unknown keys of a table from it.
fn keep(name: &str, value: &mut Value, removed: &mut Vec<(String, String)>) -> bool {
    let path = KeyPath::Key(&KeyPath::Root, name);
    let section = Field::is_section(name);
    match value {
        Value::Dict(_, table) if section => table.retain(|key, _| {
            let key = KeyPath::Key(&path, key).to_string();
            let known = Field::find(&key).is_some();
            if !known {
                removed.push((key.clone(), unknown_key(&key)));
            }
            known
        }),
        Value::Dict(..) if name == "app" => {}
        _ if section || name == "app" => {
            removed.push((
                path.to_string(),
                format!("expected a table, found {}", describe(value)),
            ));
            return false;
        }
        _ if Field::find(name).is_some() => {}
        _ => {
            removed.push((path.to_string(), unknown_key(&path.to_string())));
            return false;
        }
    }
    true
}

/// Returns the error text for a key that does not exist.
pub(super) fn unknown_key(key: &str) -> String {
    let keys = Config::FIELDS.iter().map(|field| field.key);
    let sections = keys
        .clone()
        .filter_map(|key| Some(key.split_once('.')?.0))
        .chain(["app", "profile"]);
    let near = match key.contains('.') {
        true => suggestion(key, keys),
        false => suggestion(key, keys.chain(sections)),
    };
    match near.is_empty() && !key.contains('.') {
        true => "unknown key; the application's own settings belong under [app]".into(),
        false => format!("unknown key{near}"),
    }
}

/// The configuration file: its values and its profiles.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) lines: LineIndex,
    pub(super) values: Dict,
    pub(super) profiles: BTreeMap<String, Value>,
}

impl File {
    /// Reads the file. Returns `None` if it does not exist.
    pub(super) fn read(path: &Path) -> Result<Option<File>, Error> {
        let shown = path.display();
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Error::new(
                    Kind::Config,
                    format!("cannot read configuration file {shown}"),
                )
                .because(error))
            }
        };
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1;
            Error::new(Kind::Config, format!("{shown}:{line}: not UTF-8 text"))
        })?;
        File::parse(path, &text).map(Some)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<File, Error> {
        let error_at = |byte, message: &str| {
            let (line, column) = position(text, byte);
            let message: Vec<&str> = message.lines().filter(|line| !line.is_empty()).collect();
            Error::new(
                Kind::Config,
                format!("{}:{line}:{column}: {}", path.display(), message.join(", ")),
            )
        };
        let document = ImDocument::parse(text).map_err(|error| {
            error_at(error.span().map_or(0, |span| span.start), error.message())
        })?;
        let mut values: Dict = Toml::from_str(text).map_err(|error| {
            error_at(error.span().map_or(0, |span| span.start), error.message())
        })?;
        let lines = LineIndex::new(&document);
        let profiles = match values.remove("profile") {
            Some(Value::Dict(_, profiles)) => profiles,
            None => Dict::new(),
            Some(other) => {
                let line = lines.line("profile").unwrap_or(1);
                let message = format!(
                    "{}:{line}: profile: expected a table, found {}",
                    path.display(),
                    describe(&other)
                );
                return Err(Error::new(Kind::Config, message));
            }
        };
        Ok(File {
            path: path.to_owned(),
            lines,
            values,
            profiles,
        })
    }
}

/// The meaning of an environment variable that has the prefix.
#[derive(Debug, PartialEq)]
pub(super) enum EnvVariable {
    /// It holds the value for this path.
    Value(Vec<String>),
    /// It names a file that holds the value for this path.
    File(Vec<String>),
    /// Another module reads it (`SLACKWATER_CONFIG`), or Kubernetes has set it.
    Ignored,
    /// It matches no key. Holds the warning.
    Unknown(String),
}

/// Finds the meaning of a variable; `below` holds the layers that the environment overrides.
pub(super) fn classify_variable(
    name: &str,
    value: &str,
    prefix: &str,
    below: &Figment,
) -> EnvVariable {
    /// The depth at which the parser of TOML stops as well.
    const MAX_DEPTH: usize = 80;
    let key = name[prefix.len()..].to_lowercase();
    if key == "config" || key == "profile" || is_from_kubernetes(&key, value) {
        return EnvVariable::Ignored;
    }
    let path: Vec<String> = key.split("__").map(str::to_owned).collect();
    if path.len() > MAX_DEPTH || path.iter().any(String::is_empty) {
        return EnvVariable::Unknown(format!("environment {name}: unknown, ignored"));
    }
    if path[0] == "app" && path.len() > 1 {
        return classify_app_variable(path, below);
    }
    let dotted = path.join(".");
    let in_file = dotted
        .strip_suffix("_file")
        .filter(|key| Field::find(key).is_some());
    match (Field::find(&dotted), in_file) {
        (Some(_), _) => EnvVariable::Value(path),
        (None, Some(key)) => EnvVariable::File(segments(key)),
        (None, None) => EnvVariable::Unknown(unknown_variable(name, &dotted, prefix)),
    }
}

fn unknown_variable(name: &str, dotted: &str, prefix: &str) -> String {
    if Field::is_section(dotted) || dotted == "app" {
        let example = variable(prefix, dotted);
        return format!(
            "environment {name}: {dotted} is a table, ignored; set one of its keys, as in {example}__KEY"
        );
    }
    let near = nearest(dotted, Config::FIELDS.iter().map(|field| field.key));
    let near = match near {
        _ if dotted == "port" => format!("; did you mean PORT or {prefix}LISTEN?"),
        Some(key) => format!("; did you mean {}?", variable(prefix, key)),
        None => String::new(),
    };
    format!("environment {name}: unknown, ignored{near}")
}

/// Finds the meaning of a variable for `[app]`.
///
/// The application's keys are not known yet. A key that exists in the layers below therefore has precedence, even if it
/// ends in `_file` or differs in case.
fn classify_app_variable(path: Vec<String>, below: &Figment) -> EnvVariable {
    let app = below.find_value("app").ok();
    let (path, found) = match_spelling(path, app.as_ref());
    let stem = path
        .last()
        .and_then(|last| last.strip_suffix("_file"))
        .filter(|stem| !stem.is_empty() && !stem.ends_with('_'));
    match stem {
        Some(stem) if !found => {
            let parent = &path[..path.len() - 1];
            let path = parent.iter().cloned().chain([stem.to_owned()]).collect();
            EnvVariable::File(match_spelling(path, app.as_ref()).0)
        }
        _ => EnvVariable::Value(path),
    }
}

/// Returns the path in the spelling that `app` uses, and true if `app` has a value there.
fn match_spelling(mut path: Vec<String>, app: Option<&Value>) -> (Vec<String>, bool) {
    let mut current = app;
    for segment in path.iter_mut().skip(1) {
        let table = current.and_then(Value::as_dict);
        let entry = table.and_then(|table| {
            table
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(segment))
        });
        if let Some((key, _)) = entry {
            segment.clone_from(key);
        }
        current = entry.map(|(_, value)| value);
    }
    (path, current.is_some())
}

/// Returns true if Kubernetes sets such a variable for a Service: `…_PORT=tcp://…`, `…_PORT_80_TCP_ADDR`, `…_SERVICE_HOST`.
fn is_from_kubernetes(key: &str, value: &str) -> bool {
    let of_service = |rest: &str| rest.is_empty() || rest.ends_with('_');
    let port = |rest: &str| {
        let mut words = rest.split('_');
        let number = words
            .next()
            .is_some_and(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()));
        number && matches!(words.next(), Some("tcp" | "udp" | "sctp"))
    };
    if key.contains("__") {
        return false;
    }
    let url = value.contains("://") && key.strip_suffix("port").is_some_and(of_service);
    let numbered = key
        .match_indices("port_")
        .any(|(at, word)| of_service(&key[..at]) && port(&key[at + word.len()..]));
    let service = ["service_host", "service_port"];
    let named = service
        .iter()
        .any(|word| key.strip_suffix(word).is_some_and(of_service));
    url || numbered || named || key.starts_with("service_port_") || key.contains("_service_port_")
}

/// Splits `KEY=VALUE` of `--set`; the key is written as in TOML.
pub(super) fn assignment(set: &str) -> Result<(Vec<String>, String), Error> {
    let usage = |message: String| Error::new(Kind::Usage, message);
    let (key, value) = set
        .split_once('=')
        .ok_or_else(|| usage(format!("--set {set}: expected KEY=VALUE")))?;
    let keys = toml_edit::Key::parse(key.trim()).map_err(|_| {
        usage(format!(
            "--set {}: {key:?} is not a valid key; write it as in http.body_limit",
            key.trim()
        ))
    })?;
    Ok((
        keys.iter().map(|key| key.get().to_owned()).collect(),
        value.to_owned(),
    ))
}

/// Parses a list or a table that is written as TOML or JSON in the text of a value.
pub(super) fn parse_inline(text: &str) -> Option<Value> {
    let text = text.trim();
    if !text.starts_with(['[', '{']) {
        return None;
    }
    let toml = || {
        Toml::from_str::<Dict>(&format!("value = {text}"))
            .ok()
            .filter(|table| table.len() == 1)?
            .remove("value")
    };
    serde_json::from_str(text).ok().or_else(toml)
}

/// Splits a key of the framework at its dots; such a key has no quotes.
pub(super) fn segments(key: &str) -> Vec<String> {
    key.split('.').map(str::to_owned).collect()
}

fn put(values: &mut Dict, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            values.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let table = values
                .entry(first.clone())
                .or_insert_with(|| Dict::new().into());
            if let Value::Dict(_, table) = table {
                put(table, rest, value);
            }
        }
    }
}
