//! A to-do service in slackwater, Rocket and axum: create, list, read, update and delete. An empty title is rejected, an
//! unknown id is status 404, and errors are JSON.
//!
//! | | lines of code |
//! |---|---|
//! | slackwater, which also serves its OpenAPI description | 103 |
//! | Rocket 0.5 | 111 |
//! | axum 0.8 | 124 |
//!
//! The count leaves out comments and empty lines; all three are formatted by the same rustfmt. They share their types and
//! differ in routes and errors. Their behaviour is not identical. In slackwater every error names the field, the expected
//! type and the value. In Rocket and axum an error in the body is a sentence; axum's errors in path and query are plain
//! text, and Rocket treats a query that does not parse as missing.
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
    fn the_table_matches_the_lines_of_code() {
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
