//! The names of commands: those that are taken, and those that not every build has.

use std::collections::BTreeSet;

use clap::error::{ContextKind, ContextValue};

use crate::error::{Error, Kind};

/// Names that are commands, here or in a build with other features.
const RESERVED: [&str; 17] = [
    "serve",
    "check",
    "config",
    "routes",
    "status",
    "reload",
    "upgrade",
    "rollback",
    "pause",
    "resume",
    "drain",
    "stop",
    "reopen",
    "dev",
    "completions",
    "man",
    "help",
];

/// Refuses commands of the application whose names are taken.
///
/// # Errors
///
/// [`Kind::Usage`] naming the command.
pub(super) fn refuse_collisions(custom: &[(String, String)]) -> Result<(), Error> {
    let usage = |what: String| Err(Error::new(Kind::Usage, what));
    let mut seen = BTreeSet::new();
    for (name, _) in custom {
        let plain = name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if name.is_empty() || name.starts_with('-') || !plain {
            return usage(format!(
                "the application's command {name:?} cannot be typed: use letters, digits, - and _"
            ));
        }
        if RESERVED.contains(&name.as_str()) {
            return usage(format!(
                "the application's command {name:?} has the name of a built-in one"
            ));
        }
        if !seen.insert(name) {
            return usage(format!("the application's command {name:?} is added twice"));
        }
    }
    Ok(())
}

/// What to say of a command that there is, but not in this build.
pub(super) fn lacking(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(name)) => feature_of(name).map(|feature| {
            format!(
                "error: the command `{name}` comes with slackwater's feature `{feature}`, and this program was built without it\n\n\
                 In Cargo.toml: slackwater = {{ …, features = [\"{feature}\"] }}\n"
            )
        }),
        _ => None,
    }
}

/// The feature that brings a command which not every build has.
fn feature_of(command: &str) -> Option<&'static str> {
    match command {
        "dev" => Some("dev"),
        "status" | "reload" | "upgrade" | "rollback" | "pause" | "resume" | "drain" | "stop"
        | "reopen" => Some("control"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Command as Clap;

    use super::*;

    #[test]
    fn a_command_that_a_build_lacks_names_the_feature_that_brings_it() {
        let without = Clap::new("shop")
            .subcommand_required(true)
            .subcommand(Clap::new("serve"));
        let said = |line: &str| {
            let error = without
                .clone()
                .try_get_matches_from(line.split_whitespace())
                .unwrap_err();
            lacking(&error)
        };
        assert!(said("shop dev")
            .unwrap()
            .contains("slackwater's feature `dev`"));
        assert!(said("shop reload")
            .unwrap()
            .contains("slackwater's feature `control`"));
        assert_eq!((said("shop nonsense"), said("shop help --x")), (None, None));
    }

    #[test]
    fn names_that_are_taken_are_refused() {
        let collision = |name: &str| {
            refuse_collisions(&[(name.into(), String::new())]).map_err(|error| error.to_string())
        };
        for name in ["serve", "upgrade", "dev", "help", "", "-x", "two words"] {
            assert!(collision(name).is_err(), "{name}");
        }
        assert_eq!(collision("migrate"), Ok(()));
        let error = collision("reload").unwrap_err();
        assert_eq!(
            error,
            r#"the application's command "reload" has the name of a built-in one"#
        );
    }
}
