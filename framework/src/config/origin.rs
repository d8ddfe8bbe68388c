//! Where a value came from, down to the line, and the faults that say so.
//!
//! figment tags each value with the metadata of its provider; it knows no lines, so those are taken from the spans
//! of the TOML.

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
pub(crate) enum Origin {
    Default,
    /// `Runner::figment`.
    Application,
    File(PathBuf),
    /// A `[profile.NAME]` of the file.
    Profile(PathBuf, String),
    /// The variable `PORT`.
    Port,
    /// A variable of the environment.
    Variable(String),
    /// The file that such a variable names, its name ending in `_FILE`.
    VariableFile(String),
    /// `--set`
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

impl Origin {
    pub(super) fn metadata(&self) -> Metadata {
        let [default, application, file, profile, port, variable, variable_file, set] = NAMES;
        match self {
            Origin::Default => Metadata::named(default),
            Origin::Application => Metadata::named(application),
            Origin::File(path) => Metadata::from(file, path.as_path()),
            Origin::Profile(path, name) => {
                Metadata::from(format!("{profile}{name}"), path.as_path())
            }
            Origin::Port => Metadata::named(port),
            Origin::Variable(name) => Metadata::from(variable, name.as_str()),
            Origin::VariableFile(name) => Metadata::from(variable_file, name.as_str()),
            Origin::Set => Metadata::named(set),
        }
    }

    /// The origin behind a tag; what figment does not know came with the application's own figment.
    pub(super) fn of(figment: &Figment, tag: Tag) -> Origin {
        let Some(metadata) = figment.get_metadata(tag) else {
            return Origin::Application;
        };
        let [default, _, file, profile, port, variable, variable_file, set] = NAMES;
        match (&*metadata.name, &metadata.source) {
            (name, Some(Source::File(path))) if name == file => Origin::File(path.clone()),
            (name, Some(Source::File(path))) => match name.strip_prefix(profile) {
                Some(profile) => Origin::Profile(path.clone(), profile.into()),
                None => Origin::Application,
            },
            (name, Some(Source::Custom(source))) if name == variable => {
                Origin::Variable(source.clone())
            }
            (name, Some(Source::Custom(source))) if name == variable_file => {
                Origin::VariableFile(source.clone())
            }
            (name, None) if name == default => Origin::Default,
            (name, None) if name == port => Origin::Port,
            (name, None) if name == set => Origin::Set,
            _ => Origin::Application,
        }
    }

    /// Whether values from there are text that takes the type of its target.
    pub(super) fn is_text(&self) -> bool {
        matches!(
            self,
            Origin::Variable(_) | Origin::VariableFile(_) | Origin::Set
        )
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Application => f.write_str("application"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Profile(path, name) => write!(f, "{} (profile {name})", path.display()),
            Origin::Port => f.write_str("PORT"),
            Origin::Variable(name) | Origin::VariableFile(name) => write!(f, "environment {name}"),
            Origin::Set => f.write_str("--set"),
        }
    }
}

/// The line of each key of a file, by its path as [`KeyPath`] writes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    by_key: BTreeMap<String, usize>,
    /// The byte at which each line begins.
    starts: Vec<usize>,
}

impl Lines {
    pub(super) fn of(document: &ImDocument<&str>) -> Lines {
        let newlines = document.raw().match_indices('\n').map(|(byte, _)| byte + 1);
        let mut lines = Lines {
            by_key: BTreeMap::new(),
            starts: std::iter::once(0).chain(newlines).collect(),
        };
        lines.table(document.as_table(), &KeyPath::Root);
        lines
    }

    /// The line of the key, or of the nearest of what holds it.
    pub(super) fn line(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.by_key.get(key) {
                return Some(*line);
            }
            key = &key[..key.rfind(['.', '['])?];
        }
    }

    fn table(&mut self, table: &dyn TableLike, path: &KeyPath<'_>) {
        for (key, item) in table.iter() {
            let span = table
                .key(key)
                .and_then(|key| key.span())
                .or_else(|| item.span());
            let path = KeyPath::Key(path, key);
            self.note(&path, span);
            match item {
                Item::ArrayOfTables(tables) => {
                    for (index, table) in tables.iter().enumerate() {
                        let path = KeyPath::Index(&path, index);
                        self.note(&path, table.span());
                        self.table(table, &path);
                    }
                }
                Item::Table(table) => self.table(table, &path),
                Item::Value(value) => self.value(value, &path),
                Item::None => {}
            }
        }
    }

    fn value(&mut self, value: &toml_edit::Value, path: &KeyPath<'_>) {
        if let Some(table) = value.as_inline_table() {
            self.table(table, path);
        }
        for (index, value) in value.as_array().into_iter().flatten().enumerate() {
            let path = KeyPath::Index(path, index);
            self.note(&path, value.span());
            self.value(value, &path);
        }
    }

    fn note(&mut self, path: &KeyPath<'_>, span: Option<Range<usize>>) {
        if let Some(span) = span {
            let line = self.starts.partition_point(|start| *start <= span.start);
            self.by_key.insert(path.to_string(), line);
        }
    }
}

/// Line and column of a byte, both from 1.
pub(super) fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// The way to a value: `app.servers[2].url`.
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

/// A key as TOML writes it: bare where that is possible.
pub(super) fn key_text(key: &str) -> String {
    toml_edit::Key::new(key).to_string()
}

/// One thing that is wrong with the configuration, and where.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) origin: Option<Origin>,
    pub(super) line: Option<usize>,
    pub(super) key: String,
    pub(super) what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault {
            origin,
            line,
            key,
            what,
        } = self;
        let what = without_user_info(what);
        match (origin, line) {
            (Some(Origin::File(path) | Origin::Profile(path, _)), line) => {
                write_place(f, path, *line)?;
                write!(f, ": {key}: {what}")
            }
            (Some(Origin::Variable(name) | Origin::VariableFile(name)), _) => {
                write!(f, "environment {name}: {what}")
            }
            (Some(Origin::Port), _) => write!(f, "environment PORT: {what}"),
            (Some(Origin::Set), _) => write!(f, "--set {key}: {what}"),
            (Some(Origin::Application), _) => write!(f, "application: {key}: {what}"),
            (Some(Origin::Default) | None, _) => write!(f, "{key}: {what}"),
        }
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, path: &Path, line: Option<usize>) -> fmt::Result {
    write!(f, "{}", path.display())?;
    line.map_or(Ok(()), |line| write!(f, ":{line}"))
}
