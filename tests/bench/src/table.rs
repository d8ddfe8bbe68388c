//! What a bench found, row by row, each beside what was promised.

use std::fmt;

/// The rows of a bench's result.
#[derive(Debug, Default)]
pub struct Table(Vec<Row>);

#[derive(Debug)]
struct Row {
    what: String,
    found: String,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Kept,
    Broken,
    /// Measured, but nothing was promised.
    Only,
}

impl Table {
    /// A row with a promise: `found` is printed, `holds` says whether it was kept.
    pub fn promise(&mut self, what: &str, found: impl fmt::Display, holds: impl FnOnce() -> bool) {
        let verdict = if holds() {
            Verdict::Kept
        } else {
            Verdict::Broken
        };
        self.0.push(Row {
            what: what.into(),
            found: found.to_string(),
            verdict,
        });
    }

    /// A row that only tells what was measured.
    pub fn note(&mut self, what: &str, found: impl fmt::Display) {
        self.0.push(Row {
            what: what.into(),
            found: found.to_string(),
            verdict: Verdict::Only,
        });
    }

    /// Whether no promise was broken.
    pub fn is_kept(&self) -> bool {
        self.0.iter().all(|row| row.verdict != Verdict::Broken)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Row {
            what,
            found,
            verdict,
        } in &self.0
        {
            let mark = match verdict {
                Verdict::Kept => "kept",
                Verdict::Broken => "BROKEN",
                Verdict::Only => "",
            };
            writeln!(f, "  {what:<52} {mark:<6} {found}")?;
        }
        Ok(())
    }
}
