//! Compares two configurations: the changed keys, their old and new values, and when each change takes effect.

use std::collections::BTreeMap;
use std::fmt;

use super::explain::{effective_settings, EffectiveSetting};
use super::field::{Class, Field};
use super::loaded_config::LoadedConfig;

/// A setting whose value changed at a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SettingChange {
    /// The key with dots: `http.body_limit`, `app.greeting`.
    pub(crate) key: String,
    pub(crate) class: Class,
    /// The old value as TOML, with secrets hidden; `unset` if there was none.
    pub(crate) from: String,
    /// The new value, in the same format.
    pub(crate) to: String,
}

impl fmt::Display for SettingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SettingChange { key, from, to, .. } = self;
        write!(f, "{key}: {from} -> {to}")?;
        match self.class {
            Class::Live | Class::NextRequest => Ok(()),
            Class::Upgrade => f.write_str(" (takes effect after an upgrade)"),
        }
    }
}

/// Returns the changes from `old` to `new`: the framework's in the order of the reference, then the application's.
///
/// A value that moved to another source or is only spelled differently is not a change.
pub(crate) fn diff(old: &LoadedConfig, new: &LoadedConfig) -> Vec<SettingChange> {
    let mut before: BTreeMap<String, EffectiveSetting> = effective_settings(old)
        .into_iter()
        .map(|entry| (entry.key.clone(), entry))
        .collect();
    let mut changes = Vec::new();
    for entry in effective_settings(new) {
        let earlier = before.remove(&entry.key);
        if earlier.as_ref().map(|earlier| &earlier.value) != Some(&entry.value) {
            changes.push(change(
                earlier.map(|earlier| earlier.shown(old)),
                &entry,
                entry.shown(new),
            ));
        }
    }
    let gone = before.into_values().map(|entry| SettingChange {
        to: "unset".into(),
        from: entry.shown(old),
        class: class(&entry.key),
        key: entry.key,
    });
    changes.extend(gone);
    changes
}

fn change(from: Option<String>, entry: &EffectiveSetting, to: String) -> SettingChange {
    let from = from.unwrap_or_else(|| "unset".into());
    SettingChange {
        key: entry.key.clone(),
        class: class(&entry.key),
        from,
        to,
    }
}

/// Returns the class of a key. The application's keys are live, because each reload calls `app` again.
fn class(key: &str) -> Class {
    Field::find(key).map_or(Class::Live, |field| field.class)
}
