//! The JSON messages of `cargo build --message-format=json`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::package::CargoTarget;
use super::terminal::{print, Colours, Verbosity};

/// The content of all messages received so far.
#[derive(Debug, Default)]
pub(super) struct CargoOutput {
    pub(super) success: bool,
    pub(super) errors: String,
    pub(super) executable: Option<PathBuf>,
    /// The directories of the packages that do not come from a registry.
    pub(super) packages: Vec<PathBuf>,
}

/// A message.
#[derive(Deserialize)]
#[serde(tag = "reason")]
pub(super) enum CargoMessage {
    #[serde(rename = "compiler-message")]
    Diagnostic { message: Diagnostic },
    #[serde(rename = "compiler-artifact")]
    Artifact {
        package_id: String,
        manifest_path: PathBuf,
        target: ArtifactTarget,
        executable: Option<PathBuf>,
    },
    #[serde(rename = "build-finished")]
    Finished { success: bool },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
pub(super) struct Diagnostic {
    level: String,
    rendered: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct ArtifactTarget {
    kind: Vec<String>,
    name: String,
}

impl CargoOutput {
    /// Adds a message, and prints diagnostics. The executable of `wanted` is the result of the build.
    pub(super) fn add(
        &mut self,
        message: CargoMessage,
        wanted: &CargoTarget,
        verbosity: Verbosity,
        colours: Colours,
    ) {
        match message {
            CargoMessage::Diagnostic {
                message:
                    Diagnostic {
                        level,
                        rendered: Some(rendered),
                    },
            } => {
                let is_error = level.starts_with("error");
                if is_error || verbosity == Verbosity::All {
                    print(&colours.apply(&rendered));
                }
                if is_error {
                    self.errors.push_str(&rendered);
                }
            }
            CargoMessage::Artifact {
                package_id,
                manifest_path,
                target,
                executable,
            } => {
                if package_id.contains("path+file:") {
                    self.packages
                        .extend(manifest_path.parent().map(Path::to_owned));
                }
                if target.is(wanted) {
                    self.executable = executable.or(self.executable.take());
                }
            }
            CargoMessage::Finished { success } => self.success = success,
            CargoMessage::Diagnostic { .. } | CargoMessage::Other => {}
        }
    }
}

impl ArtifactTarget {
    fn is(&self, wanted: &CargoTarget) -> bool {
        let (kind, name) = match wanted {
            CargoTarget::Bin(name) => ("bin", name),
            CargoTarget::Example(name) => ("example", name),
        };
        self.name == *name && self.kind.iter().any(|own| own == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::super::terminal::strip_colours;
    use super::*;

    #[test]
    fn messages_of_cargo_are_collected_and_unknown_ones_are_ignored() {
        let wanted = CargoTarget::Bin("shop".into());
        let mut output = CargoOutput::default();
        let lines = [
            r#"{"reason":"compiler-artifact","package_id":"registry+https://github.com/rust-lang/crates.io-index#serde@1.0.0","manifest_path":"/r/serde/Cargo.toml","target":{"kind":["lib"],"name":"serde"},"executable":null,"fresh":true}"#,
            r#"{"reason":"compiler-artifact","package_id":"path+file:///w/shop#0.1.0","manifest_path":"/w/shop/Cargo.toml","target":{"kind":["bin"],"name":"shop"},"executable":"/w/target/debug/shop","fresh":true}"#,
            r#"{"reason":"compiler-message","message":{"level":"warning","rendered":"warning: unused"}}"#,
            r#"{"reason":"compiler-message","message":{"level":"error","rendered":"\u001b[31merror\u001b[0m: no"}}"#,
            r#"{"reason":"something-new","x":1}"#,
            r#"{"reason":"build-finished","success":true}"#,
        ];
        for line in lines {
            output.add(
                serde_json::from_str(line).unwrap(),
                &wanted,
                Verbosity::ErrorsOnly,
                Colours::Plain,
            );
        }
        assert_eq!(
            output.executable.as_deref(),
            Some(Path::new("/w/target/debug/shop"))
        );
        assert_eq!(output.packages, [PathBuf::from("/w/shop")]);
        assert_eq!(
            (output.success, strip_colours(&output.errors).as_str()),
            (true, "error: no")
        );
        assert!(serde_json::from_str::<CargoMessage>("hello from a macro").is_err());
    }
}
