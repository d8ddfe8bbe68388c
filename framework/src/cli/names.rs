//! The names of commands: reserved names, and commands that need a feature.

use std::collections::BTreeSet;

use clap::error::{ContextKind, ContextValue};

use crate::error::{Error, Kind};

/// The built-in commands of all features.
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

/// Checks the names of the application's commands.
///
/// # Errors
///
/// [`Kind::Usage`] if a name is invalid, reserved or used twice.
pub(super) fn check_names(custom: &[(String, String)]) -> Result<(), Error> {
    let usage = |message: String| Err(Error::new(Kind::Usage, message));
    let mut seen = BTreeSet::new();
    for (name, _) in custom {
        let plain = name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if name.is_empty() || name.starts_with('-') || !plain {
            return usage(format!(
                "the application's command {name:?} is not a valid name; use letters, digits, - and _"
            ));
        }
        if RESERVED.contains(&name.as_str()) {
            return usage(format!(
                "the application's command {name:?} has the name of a built-in command"
            ));
        }
        if !seen.insert(name) {
            return usage(format!("the application adds the command {name:?} twice"));
        }
    }
    Ok(())
}

/// Returns the error text for a command that exists only with a feature that this build does not have.
pub(super) fn missing_feature(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(name)) => feature_of(name).map(|feature| {
            format!(
                "error: the command `{name}` needs slackwater's feature `{feature}`, and this program was built without it\n\n\
                 In Cargo.toml: slackwater = {{ …, features = [\"{feature}\"] }}\n"
            )
        }),
        _ => None,
    }
}

/// Returns the feature that a command needs.
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
    fn the_error_for_a_command_of_another_build_names_the_feature() {
        let without = Clap::new("shop")
            .subcommand_required(true)
            .subcommand(Clap::new("serve"));
        let message = |line: &str| {
            let error = without
                .clone()
                .try_get_matches_from(line.split_whitespace())
                .unwrap_err();
            missing_feature(&error)
        };
        assert!(message("shop dev")
            .unwrap()
            .contains("slackwater's feature `dev`"));
        assert!(message("shop reload")
            .unwrap()
            .contains("slackwater's feature `control`"));
        assert_eq!(
            (message("shop nonsense"), message("shop help --x")),
            (None, None)
        );
    }

    #[test]
    fn reserved_and_invalid_names_are_rejected() {
        let check = |name: &str| {
            check_names(&[(name.into(), String::new())]).map_err(|error| error.to_string())
        };
        for name in ["serve", "upgrade", "dev", "help", "", "-x", "two words"] {
            assert!(check(name).is_err(), "{name}");
        }
        assert_eq!(check("migrate"), Ok(()));
        let error = check("reload").unwrap_err();
        assert_eq!(
            error,
            r#"the application's command "reload" has the name of a built-in command"#
        );
    }
}
