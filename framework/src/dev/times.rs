//! How long each step takes, from a change of the files to a page that shows it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The steps of the last change, as far as they have come.
#[derive(Debug, Default)]
pub(super) struct Times {
    changed: Option<Instant>,
    last_change: Option<Instant>,
    built: Option<Instant>,
    told: Option<Instant>,
    ready: Option<Instant>,
    live: Option<Instant>,
    /// The builds that pages were of, so that one of another is the first of the new.
    seen: BTreeSet<String>,
}

impl Times {
    /// A file has changed. The first one since the last build or reload is where the time begins.
    pub(super) fn changed(&mut self) {
        let now = Instant::now();
        if self.told.is_some() || self.changed.is_none() {
            let seen = std::mem::take(&mut self.seen);
            *self = Times {
                changed: Some(now),
                seen,
                ..Times::default()
            };
        }
        self.last_change = Some(now);
    }

    pub(super) fn since_change(&self) -> Duration {
        self.last_change
            .map_or(Duration::MAX, |changed| changed.elapsed())
    }

    pub(super) fn built(&mut self) {
        self.built = Some(Instant::now());
    }

    /// The program was told to upgrade or to reload.
    pub(super) fn told(&mut self) {
        self.told = Some(Instant::now());
    }

    pub(super) fn ready(&mut self, at: Instant) {
        if self.told.is_some() && self.ready.is_none() {
            self.ready = Some(at);
        }
    }

    /// The new process serves; says how long that took.
    pub(super) fn swapped(&mut self) -> String {
        self.live = Some(Instant::now());
        let total = span(self.changed, self.live);
        format!("{total} after the change ({})", self.steps())
    }

    /// A page of this build is open. Says how long it took from the change to the first of a new build.
    pub(super) fn page(&mut self, build: String) -> Option<String> {
        let is_new = self.seen.insert(build);
        let before = self.live.or(self.ready);
        let (Some(changed), Some(before), true) = (self.changed, before, is_new) else {
            return None;
        };
        let now = Instant::now();
        let (total, reload) = (
            span(Some(changed), Some(now)),
            span(Some(before), Some(now)),
        );
        let steps = self.steps();
        self.changed = None;
        Some(format!(
            "a page shows it {total} after the change ({steps}, reload {reload})"
        ))
    }

    fn steps(&self) -> String {
        let mut steps = Vec::new();
        if self.built.is_some() {
            steps.push(format!("build {}", span(self.changed, self.built)));
        }
        // from when it could begin: an upgrade may have to wait until the last one is proven
        let begin = self.built.or(self.changed);
        let start = self.ready.or(self.live);
        steps.push(format!("start {}", span(begin, start)));
        if self.live.is_some() && self.ready.is_some() {
            steps.push(format!("swap {}", span(self.ready, self.live)));
        }
        steps.join(", ")
    }
}

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
    fn the_steps_of_a_change_add_up() {
        let mut times = Times::default();
        assert_eq!(times.page("a".into()), None);
        times.changed();
        times.built();
        times.told();
        times.ready(Instant::now());
        let said = times.swapped();
        assert!(
            said.contains("build ") && said.contains("start ") && said.contains("swap "),
            "{said}"
        );
        // a page of the old build connects once more before it reloads
        assert_eq!(times.page("a".into()), None);
        let said = times.page("b".into()).unwrap();
        assert!(said.contains("reload "), "{said}");
        assert_eq!(times.page("c".into()), None);
    }

    #[test]
    fn a_reload_has_no_build_and_no_swap() {
        let mut times = Times::default();
        times.changed();
        times.told();
        times.ready(Instant::now());
        let said = times.page("b".into()).unwrap();
        assert!(
            !said.contains("build ") && !said.contains("swap ") && said.contains("start "),
            "{said}"
        );
    }
}
