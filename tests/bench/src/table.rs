//! The table of a bench's results, with a verdict on each goal.

use std::fmt;

/// The rows of a bench's result.
#[derive(Debug, Default)]
pub struct Table(Vec<Row>);

#[derive(Debug)]
struct Row {
    label: String,
    result: String,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Met,
    Missed,
    /// Measured without a goal.
    NoGoal,
}

impl Table {
    /// Adds a row with a goal: `result` is printed, `is_met` returns true if the goal is met.
    pub fn goal(&mut self, label: &str, result: impl fmt::Display, is_met: impl FnOnce() -> bool) {
        let verdict = if is_met() {
            Verdict::Met
        } else {
            Verdict::Missed
        };
        self.0.push(Row {
            label: label.into(),
            result: result.to_string(),
            verdict,
        });
    }

    /// Adds a row without a goal.
    pub fn note(&mut self, label: &str, result: impl fmt::Display) {
        self.0.push(Row {
            label: label.into(),
            result: result.to_string(),
            verdict: Verdict::NoGoal,
        });
    }

    /// Returns true if no goal was missed.
    pub fn is_met(&self) -> bool {
        self.0.iter().all(|row| row.verdict != Verdict::Missed)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Row {
            label,
            result,
            verdict,
        } in &self.0
        {
            let mark = match verdict {
                Verdict::Met => "met",
                Verdict::Missed => "MISSED",
                Verdict::NoGoal => "",
            };
            writeln!(f, "  {label:<52} {mark:<6} {result}")?;
        }
        Ok(())
    }
}
