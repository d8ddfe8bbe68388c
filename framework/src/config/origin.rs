//! The source and the line of a value, and errors that name them.
//!
//! figment tags each value with the metadata of its provider. It does not record lines, so [`LineIndex`] takes them
//! from the spans of the TOML document.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use figment::value::Tag;
use figment::{Figment, Metadata, Source};
use toml_edit::{ImDocument, Item, TableLike};

use super::secret::without_user_info;

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ValueOrigin {
    Default,
    /// The layer of `Runner::figment`.
    Application,
    File(PathBuf),
    /// A table `[profile.NAME]` of the file.
    Profile(PathBuf, String),
    /// The environment variable `PORT`.
    Port,
    /// An environment variable.
    Variable(String),
    /// A file; its path is the value of a variable whose name ends in `_FILE`.
    VariableFile(String),
    /// The command line's `--set`.
    Set,
}

const NAMES: [&str; 8] = [
    "default",
    "application",
    "file",
    "profile ",
    "PORT",
    "environment",
    "environment file",
    "--set",
];

impl ValueOrigin {
    pub(super) fn metadata(&self) -> Metadata {
        let [default, application, file, profile, port, variable, variable_file, set] = NAMES;
        match self {
            ValueOrigin::Default => Metadata::named(default),
            ValueOrigin::Application => Metadata::named(application),
            ValueOrigin::File(path) => Metadata::from(file, path.as_path()),
            ValueOrigin::Profile(path, name) => {
                Metadata::from(format!("{profile}{name}"), path.as_path())
            }
            ValueOrigin::Port => Metadata::named(port),
            ValueOrigin::Variable(name) => Metadata::from(variable, name.as_str()),
            ValueOrigin::VariableFile(name) => Metadata::from(variable_file, name.as_str()),
            ValueOrigin::Set => Metadata::named(set),
        }
    }

    /// Returns the origin of a tagged value. Values with other metadata came with the application's figment.
    pub(super) fn find(figment: &Figment, tag: Tag) -> ValueOrigin {
        let Some(metadata) = figment.get_metadata(tag) else {
            return ValueOrigin::Application;
        };
        let [default, _, file, profile, port, variable, variable_file, set] = NAMES;
        match (&*metadata.name, &metadata.source) {
            (name, Some(Source::File(path))) if name == file => ValueOrigin::File(path.clone()),
            (name, Some(Source::File(path))) => match name.strip_prefix(profile) {
                Some(profile) => ValueOrigin::Profile(path.clone(), profile.into()),
                None => ValueOrigin::Application,
            },
            (name, Some(Source::Custom(source))) if name == variable => {
                ValueOrigin::Variable(source.clone())
            }
            (name, Some(Source::Custom(source))) if name == variable_file => {
                ValueOrigin::VariableFile(source.clone())
            }
            (name, None) if name == default => ValueOrigin::Default,
            (name, None) if name == port => ValueOrigin::Port,
            (name, None) if name == set => ValueOrigin::Set,
            _ => ValueOrigin::Application,
        }
    }

    /// Returns true if values from this source are text that is converted to the type of the setting.
    pub(super) fn is_text(&self) -> bool {
        matches!(
            self,
            ValueOrigin::Variable(_) | ValueOrigin::VariableFile(_) | ValueOrigin::Set
        )
    }
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueOrigin::Default => f.write_str("default"),
            ValueOrigin::Application => f.write_str("application"),
            ValueOrigin::File(path) => write!(f, "{}", path.display()),
            ValueOrigin::Profile(path, name) => write!(f, "{} (profile {name})", path.display()),
            ValueOrigin::Port => f.write_str("PORT"),
            ValueOrigin::Variable(name) | ValueOrigin::VariableFile(name) => {
                write!(f, "environment {name}")
            }
            ValueOrigin::Set => f.write_str("--set"),
        }
    }
}

/// The line of each key of a file. Keys are paths as [`KeyPath`] formats them.
#[derive(Clone, Debug, Default)]
pub(super) struct LineIndex {
    by_key: BTreeMap<String, usize>,
    /// The byte at which each line begins.
    starts: Vec<usize>,
}

impl LineIndex {
    pub(super) fn new(document: &ImDocument<&str>) -> LineIndex {
        let newlines = document.raw().match_indices('\n').map(|(byte, _)| byte + 1);
        let mut index = LineIndex {
            by_key: BTreeMap::new(),
            starts: std::iter::once(0).chain(newlines).collect(),
        };
        index.add_table(document.as_table(), &KeyPath::Root);
        index
    }

    /// Returns the line of the key, or of the innermost table or list around it that has one.
    pub(super) fn line(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.by_key.get(key) {
                return Some(*line);
            }
            key = &key[..key.rfind(['.', '['])?];
        }
    }

    fn add_table(&mut self, table: &dyn TableLike, path: &KeyPath<'_>) {
        for (key, item) in table.iter() {
            let span = table
                .key(key)
                .and_then(|key| key.span())
                .or_else(|| item.span());
            let path = KeyPath::Key(path, key);
            self.add(&path, span);
            match item {
                Item::ArrayOfTables(tables) => {
                    for (index, table) in tables.iter().enumerate() {
                        let path = KeyPath::Index(&path, index);
                        self.add(&path, table.span());
                        self.add_table(table, &path);
                    }
                }
                Item::Table(table) => self.add_table(table, &path),
                Item::Value(value) => self.add_value(value, &path),
                Item::None => {}
            }
        }
    }

    fn add_value(&mut self, value: &toml_edit::Value, path: &KeyPath<'_>) {
        if let Some(table) = value.as_inline_table() {
            self.add_table(table, path);
        }
        for (index, value) in value.as_array().into_iter().flatten().enumerate() {
            let path = KeyPath::Index(path, index);
            self.add(&path, value.span());
            self.add_value(value, &path);
        }
    }

    fn add(&mut self, path: &KeyPath<'_>, span: Option<Range<usize>>) {
        if let Some(span) = span {
            let line = self.starts.partition_point(|start| *start <= span.start);
            self.by_key.insert(path.to_string(), line);
        }
    }
}

/// Returns the line and the column of a byte, both counted from 1.
pub(super) fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// The path of a value: `app.servers[2].url`.
#[derive(Clone, Copy)]
pub(super) enum KeyPath<'a> {
    Root,
    Key(&'a KeyPath<'a>, &'a str),
    Index(&'a KeyPath<'a>, usize),
}

impl fmt::Display for KeyPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyPath::Root => Ok(()),
            KeyPath::Key(KeyPath::Root, key) => f.write_str(&key_text(key)),
            KeyPath::Key(parent, key) => write!(f, "{parent}.{}", key_text(key)),
            KeyPath::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Formats a key as TOML: without quotes if possible.
pub(super) fn key_text(key: &str) -> String {
    toml_edit::Key::new(key).to_string()
}

/// An error in the configuration, with the source, line and key of the value.
#[derive(Clone, Debug)]
pub(super) struct SettingError {
    pub(super) origin: Option<ValueOrigin>,
    pub(super) line: Option<usize>,
    pub(super) key: String,
    pub(super) message: String,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SettingError {
            origin,
            line,
            key,
            message,
        } = self;
        let message = without_user_info(message);
        match (origin, line) {
            (Some(ValueOrigin::File(path) | ValueOrigin::Profile(path, _)), line) => {
                write_location(f, path, *line)?;
                write!(f, ": {key}: {message}")
            }
            (Some(ValueOrigin::Variable(name) | ValueOrigin::VariableFile(name)), _) => {
                write!(f, "environment {name}: {message}")
            }
            (Some(ValueOrigin::Port), _) => write!(f, "environment PORT: {message}"),
            (Some(ValueOrigin::Set), _) => write!(f, "--set {key}: {message}"),
            (Some(ValueOrigin::Application), _) => write!(f, "application: {key}: {message}"),
            (Some(ValueOrigin::Default) | None, _) => write!(f, "{key}: {message}"),
        }
    }
}

fn write_location(f: &mut fmt::Formatter<'_>, path: &Path, line: Option<usize>) -> fmt::Result {
    write!(f, "{}", path.display())?;
    line.map_or(Ok(()), |line| write!(f, ":{line}"))
}
