//! Measures each step between a changed file and a page that shows the change.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The times at which the steps of the last change ended, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Timings {
    /// The first change after the last request. The total time starts here.
    first_change: Option<Instant>,
    last_change: Option<Instant>,
    built: Option<Instant>,
    requested: Option<Instant>,
    application_built: Option<Instant>,
    live: Option<Instant>,
    /// The builds of which pages were open. The first page of any other build shows the change.
    known_builds: BTreeSet<String>,
}

impl Timings {
    /// Records a changed file.
    pub(super) fn record_change(&mut self) {
        let now = Instant::now();
        if self.requested.is_some() || self.first_change.is_none() {
            *self = Timings {
                first_change: Some(now),
                known_builds: std::mem::take(&mut self.known_builds),
                ..Timings::default()
            };
        }
        self.last_change = Some(now);
    }

    pub(super) fn since_last_change(&self) -> Duration {
        self.last_change
            .map_or(Duration::MAX, |changed| changed.elapsed())
    }

    /// Records the end of a build.
    pub(super) fn record_build(&mut self) {
        self.built = Some(Instant::now());
    }

    /// Records that the program was sent the signal to upgrade or to reload.
    pub(super) fn record_request(&mut self) {
        self.requested = Some(Instant::now());
    }

    /// Records that the new process or generation has built its application.
    pub(super) fn record_application(&mut self, at: Instant) {
        if self.requested.is_some() && self.application_built.is_none() {
            self.application_built = Some(at);
        }
    }

    /// Records that the new process serves. Returns a summary of the steps.
    pub(super) fn record_upgrade(&mut self) -> String {
        self.live = Some(Instant::now());
        let total = span(self.first_change, self.live);
        format!("{total} after the change ({})", self.steps())
    }

    /// Records an open page of the build `build_id`. Returns a summary of the steps if it is the first
    /// page that shows the change.
    pub(super) fn record_page(&mut self, build_id: String) -> Option<String> {
        let is_new = self.known_builds.insert(build_id);
        let reload_began = self.live.or(self.application_built);
        let (Some(changed), Some(reload_began), true) = (self.first_change, reload_began, is_new)
        else {
            return None;
        };
        let now = Some(Instant::now());
        let (total, reload) = (span(Some(changed), now), span(Some(reload_began), now));
        let steps = self.steps();
        self.first_change = None;
        Some(format!(
            "a page shows the change after {total} ({steps}, reload {reload})"
        ))
    }

    fn steps(&self) -> String {
        let mut steps = Vec::new();
        if self.built.is_some() {
            steps.push(format!("build {}", span(self.first_change, self.built)));
        }
        // the start includes a wait for the confirmation of the last upgrade
        let start_began = self.built.or(self.first_change);
        let started = self.application_built.or(self.live);
        steps.push(format!("start {}", span(start_began, started)));
        if self.live.is_some() && self.application_built.is_some() {
            steps.push(format!("swap {}", span(self.application_built, self.live)));
        }
        steps.join(", ")
    }
}

/// Returns the time between two steps as text. A step that is missing makes it zero.
fn span(from: Option<Instant>, to: Option<Instant>) -> String {
    let span = from.zip(to).map_or(Duration::ZERO, |(from, to)| {
        to.saturating_duration_since(from)
    });
    match span.as_millis() {
        short @ 0..1000 => format!("{short} ms"),
        _ => format!("{:.2} s", span.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_has_all_steps() {
        let mut timings = Timings::default();
        assert_eq!(timings.record_page("a".into()), None);
        timings.record_change();
        timings.record_build();
        timings.record_request();
        timings.record_application(Instant::now());
        let summary = timings.record_upgrade();
        assert!(
            summary.contains("build ") && summary.contains("start ") && summary.contains("swap "),
            "{summary}"
        );
        // a page of the old build connects once more before it reloads
        assert_eq!(timings.record_page("a".into()), None);
        let summary = timings.record_page("b".into()).unwrap();
        assert!(summary.contains("reload "), "{summary}");
        assert_eq!(timings.record_page("c".into()), None);
    }

    #[test]
    fn a_reload_has_no_build_and_no_swap() {
        let mut timings = Timings::default();
        timings.record_change();
        timings.record_request();
        timings.record_application(Instant::now());
        let summary = timings.record_page("b".into()).unwrap();
        assert!(
            !summary.contains("build ") && !summary.contains("swap ") && summary.contains("start "),
            "{summary}"
        );
    }
}
