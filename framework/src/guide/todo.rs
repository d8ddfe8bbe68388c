//! A to-do service, three times: create, list, read, update, delete, an empty title refused, an unknown number not found,
//! and errors in JSON.
//!
//! | | lines of code |
//! |---|---|
//! | slackwater, which also serves its OpenAPI description | 77 |
//! | Rocket 0.5 | 86 |
//! | axum 0.8 | 91 |
//!
//! Counted without comments and empty lines, formatted by the same rustfmt. The three share their types line by line and
//! differ in routes and errors. They are not the same in all: here every error names the field, what was expected and what
//! was found; in the other two a body's error is a sentence, axum's errors of path and query stay plain text, and Rocket
//! takes a query that does not parse for one that is not there.
//!
//! # slackwater
//!
#![doc = concat!("```ignore\n", include_str!("../../docs/todo/slackwater.rs"), "```")]
//!
//! # Rocket
//!
#![doc = concat!("```ignore\n", include_str!("../../docs/todo/rocket.rs"), "```")]
//!
//! # axum
//!
#![doc = concat!("```ignore\n", include_str!("../../docs/todo/axum.rs"), "```")]

#[cfg(test)]
mod tests {
    #[test]
    fn the_lines_are_counted() {
        let page = include_str!("todo.rs");
        for (row, source) in [
            (
                "slackwater, which also serves its OpenAPI description",
                include_str!("../../docs/todo/slackwater.rs"),
            ),
            ("Rocket 0.5", include_str!("../../docs/todo/rocket.rs")),
            ("axum 0.8", include_str!("../../docs/todo/axum.rs")),
        ] {
            let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
            let lines = source.lines().filter(is_code).count();
            assert!(
                page.contains(&format!("| {row} | {lines} |")),
                "{row}: {lines} lines"
            );
        }
    }
}
