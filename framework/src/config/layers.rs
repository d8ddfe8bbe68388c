//! The sources of settings as figment providers: the file, its profile, `PORT`, the environment, `--set`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use toml_edit::ImDocument;

use super::field::{variable, Field};
use super::nearest::{nearest, suggestion};
use super::origin::{position, KeyPath, Lines, Origin};
use super::values::describe;
use super::Config;
use crate::error::{Error, Kind};

/// One source's values, in the shape that figment takes.
pub(super) struct Layer {
    pub(super) origin: Origin,
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
    /// A layer of a single value.
    pub(super) fn one(origin: Origin, path: &[String], value: impl Into<Value>) -> Layer {
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
            origin: Origin::Default,
            values,
        }
    }

    /// What the framework's part of this layer may not hold, as key and what is wrong; it is taken out.
    pub(super) fn remove_unknown(&mut self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        self.values
            .retain(|name, value| keep(name, value, &mut wrong));
        wrong
    }
}

fn keep(name: &str, value: &mut Value, wrong: &mut Vec<(String, String)>) -> bool {
    let path = KeyPath::Key(&KeyPath::Root, name);
    let section = Field::is_section(name);
    match value {
        Value::Dict(_, table) if section => table.retain(|key, _| {
            let key = KeyPath::Key(&path, key).to_string();
            let known = Field::find(&key).is_some();
            if !known {
                wrong.push((key.clone(), unknown(&key)));
            }
            known
        }),
        Value::Dict(..) if name == "app" => {}
        _ if section || name == "app" => {
            wrong.push((
                path.to_string(),
                format!("expected a table, found {}", describe(value)),
            ));
            return false;
        }
        _ if Field::find(name).is_some() => {}
        _ => {
            wrong.push((path.to_string(), unknown(&path.to_string())));
            return false;
        }
    }
    true
}

/// What to say of a key that the framework does not have.
pub(super) fn unknown(key: &str) -> String {
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

/// The configuration file: its own values, and those of the profiles in it.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) lines: Lines,
    pub(super) values: Dict,
    pub(super) profiles: BTreeMap<String, Value>,
}

impl File {
    /// Reads the file; a missing one is `None`.
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
        let at = |byte, what: &str| {
            let (line, column) = position(text, byte);
            let what: Vec<&str> = what.lines().filter(|line| !line.is_empty()).collect();
            Error::new(
                Kind::Config,
                format!("{}:{line}:{column}: {}", path.display(), what.join(", ")),
            )
        };
        let document = ImDocument::parse(text)
            .map_err(|error| at(error.span().map_or(0, |span| span.start), error.message()))?;
        let mut values: Dict = Toml::from_str(text)
            .map_err(|error| at(error.span().map_or(0, |span| span.start), error.message()))?;
        let lines = Lines::of(&document);
        let profiles = match values.remove("profile") {
            Some(Value::Dict(_, profiles)) => profiles,
            None => Dict::new(),
            Some(other) => {
                let line = lines.line("profile").unwrap_or(1);
                let what = format!(
                    "{}:{line}: profile: expected a table, found {}",
                    path.display(),
                    describe(&other)
                );
                return Err(Error::new(Kind::Config, what));
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

/// What a variable of the environment means.
#[derive(Debug, PartialEq)]
pub(super) enum Meaning {
    /// It sets the value at this path.
    Value(Vec<String>),
    /// It names a file that holds the value at this path.
    InFile(Vec<String>),
    /// It is read elsewhere (`SLACKWATER_CONFIG`), or comes from Kubernetes.
    Nothing,
    /// Nobody knows it: the warning.
    Unknown(String),
}

/// Reads the name of a variable; `below` are the layers under the environment.
pub(super) fn meaning(name: &str, value: &str, prefix: &str, below: &Figment) -> Meaning {
    /// TOML is not read deeper than this either.
    const DEEPEST: usize = 80;
    let key = name[prefix.len()..].to_lowercase();
    if key == "config" || key == "profile" || is_from_kubernetes(&key, value) {
        return Meaning::Nothing;
    }
    let path: Vec<String> = key.split("__").map(str::to_owned).collect();
    if path.len() > DEEPEST || path.iter().any(String::is_empty) {
        return Meaning::Unknown(format!("environment {name}: unknown, ignored"));
    }
    if path[0] == "app" && path.len() > 1 {
        return in_app(path, below);
    }
    let dotted = path.join(".");
    let in_file = dotted
        .strip_suffix("_file")
        .filter(|key| Field::find(key).is_some());
    match (Field::find(&dotted), in_file) {
        (Some(_), _) => Meaning::Value(path),
        (None, Some(key)) => Meaning::InFile(segments(key)),
        (None, None) => Meaning::Unknown(unknown_variable(name, &dotted, prefix)),
    }
}

fn unknown_variable(name: &str, dotted: &str, prefix: &str) -> String {
    if Field::is_section(dotted) || dotted == "app" {
        let example = variable(prefix, dotted);
        return format!(
            "environment {name}: a table has no value, ignored; set its keys, as {example}__KEY"
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

/// The application's keys are not known yet: a key that the layers below have wins, also where it ends in `_file`
/// or is written in other case.
fn in_app(path: Vec<String>, below: &Figment) -> Meaning {
    let app = below.find_value("app").ok();
    let (path, found) = spelled(path, app.as_ref());
    let stem = path
        .last()
        .and_then(|last| last.strip_suffix("_file"))
        .filter(|stem| !stem.is_empty() && !stem.ends_with('_'));
    match stem {
        Some(stem) if !found => {
            let holder = &path[..path.len() - 1];
            let path = holder.iter().cloned().chain([stem.to_owned()]).collect();
            Meaning::InFile(spelled(path, app.as_ref()).0)
        }
        _ => Meaning::Value(path),
    }
}

/// The path in the spelling that `app` has it in, and whether it has all of it.
fn spelled(mut path: Vec<String>, app: Option<&Value>) -> (Vec<String>, bool) {
    let mut here = app;
    for segment in path.iter_mut().skip(1) {
        let table = here.and_then(Value::as_dict);
        let entry = table.and_then(|table| {
            table
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(segment))
        });
        if let Some((key, _)) = entry {
            segment.clone_from(key);
        }
        here = entry.map(|(_, value)| value);
    }
    (path, here.is_some())
}

/// Whether Kubernetes sets such a variable for a Service: `…_PORT=tcp://…`, `…_PORT_80_TCP_ADDR`, `…_SERVICE_HOST`.
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

/// `KEY=VALUE` of the command line; the key as TOML writes it.
pub(super) fn assignment(set: &str) -> Result<(Vec<String>, String), Error> {
    let usage = |what: String| Error::new(Kind::Usage, what);
    let (key, value) = set
        .split_once('=')
        .ok_or_else(|| usage(format!("--set {set}: expected KEY=VALUE")))?;
    let keys = toml_edit::Key::parse(key.trim()).map_err(|_| {
        usage(format!(
            "--set {}: {key:?} is no key; write it as in http.body_limit",
            key.trim()
        ))
    })?;
    Ok((
        keys.iter().map(|key| key.get().to_owned()).collect(),
        value.to_owned(),
    ))
}

/// A value that was written as TOML or JSON inside of text.
pub(super) fn inline(text: &str) -> Option<Value> {
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

/// The parts of a key of ours, which needs no quotes.
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
