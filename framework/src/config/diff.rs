//! What differs between two loads: which keys, what they were and are, and when the change takes effect.

use std::collections::BTreeMap;
use std::fmt;

use super::explain::{entries, Entry};
use super::field::{Class, Field};
use super::loaded::Loaded;

/// A setting that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// With dots: `http.body_limit`, `app.greeting`.
    pub(crate) key: String,
    pub(crate) class: Class,
    /// As TOML, secrets hidden; `unset` where there was none.
    pub(crate) from: String,
    pub(crate) to: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { key, from, to, .. } = self;
        write!(f, "{key}: {from} -> {to}")?;
        match self.class {
            Class::Live | Class::NextRequest => Ok(()),
            Class::Upgrade => f.write_str(" (takes a new process)"),
        }
    }
}

/// The changes from one load to the next, the framework's in the order of the reference, then the application's.
///
/// What only moved from one source to another, or is spelled differently, is no change.
pub(crate) fn diff(old: &Loaded, new: &Loaded) -> Vec<Change> {
    let mut before: BTreeMap<String, Entry> = entries(old)
        .into_iter()
        .map(|entry| (entry.key.clone(), entry))
        .collect();
    let mut changes = Vec::new();
    for entry in entries(new) {
        let earlier = before.remove(&entry.key);
        if earlier.as_ref().map(|earlier| &earlier.value) != Some(&entry.value) {
            changes.push(change(
                earlier.map(|earlier| earlier.shown(old)),
                &entry,
                entry.shown(new),
            ));
        }
    }
    let gone = before.into_values().map(|entry| Change {
        to: "unset".into(),
        from: entry.shown(old),
        class: class(&entry.key),
        key: entry.key,
    });
    changes.extend(gone);
    changes
}

fn change(from: Option<String>, entry: &Entry, to: String) -> Change {
    let from = from.unwrap_or_else(|| "unset".into());
    Change {
        key: entry.key.clone(),
        class: class(&entry.key),
        from,
        to,
    }
}

/// The application's own keys are live: each reload calls `app` anew.
fn class(key: &str) -> Class {
    Field::find(key).map_or(Class::Live, |field| field.class)
}
