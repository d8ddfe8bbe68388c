//! Prints the output of cargo to the terminal.

use std::io::{IsTerminal, Write};

/// The part of cargo's output that is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Verbosity {
    /// Progress, warnings and errors, as they come.
    All,
    /// Errors only. If the build fails, its progress is printed at the end.
    ErrorsOnly,
}

/// The form in which compiler messages are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    Ansi,
    Plain,
}

impl Colours {
    /// Chooses as cargo does.
    pub(super) fn of_terminal() -> Self {
        match std::env::var("CARGO_TERM_COLOR").as_deref() {
            Ok("always") => Colours::Ansi,
            Ok("never") => Colours::Plain,
            _ if std::io::stderr().is_terminal() => Colours::Ansi,
            _ => Colours::Plain,
        }
    }

    pub(super) fn apply(self, text: &str) -> String {
        match self {
            Colours::Ansi => text.to_owned(),
            Colours::Plain => strip_colours(text),
        }
    }
}

/// Removes the escape sequences of colours: `ESC [ … m`.
pub(super) fn strip_colours(text: &str) -> String {
    let mut pieces = text.split("\x1b[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        plain.push_str(piece.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

/// Prints to standard error, as cargo does.
pub(super) fn print(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_of_colours_are_removed() {
        assert_eq!(
            strip_colours("\x1b[1m\x1b[38;5;9merror\x1b[0m: x"),
            "error: x"
        );
        assert_eq!(strip_colours("plain \x1b[1"), "plain ");
    }
}
