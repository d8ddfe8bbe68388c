//! Which sockets a configuration asks for, decided before any is touched: what was inherited wins.
//!
//! - `listen` unset: every inherited stream socket, else 127.0.0.1:8080.
//! - `fd:NAME`: every inherited socket of that name.
//! - `HOST:PORT` and `unix:PATH`: bound, unless any stream socket was inherited: then all of those stand in for all of
//!   these entries together. Nothing is matched by address.
//!
//! An inherited socket that nothing serves stays open, untouched.

use std::collections::BTreeSet;

use super::bind::text;
use super::inherit::{Inherited, Passed, What};
use crate::config::Listen;

/// What `listen` is where nothing says otherwise.
const DEFAULT: (&str, u16) = ("127.0.0.1", 8080);

/// What to serve, and what to say about it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The inherited sockets to be served, by their place.
    pub(super) serve: BTreeSet<usize>,
    pub(super) bind: Vec<Listen>,
    /// For the log, a line each.
    pub(super) notes: Vec<String>,
    /// Why it cannot be done, a line each; carrying it out adds its own.
    pub(super) faults: Vec<String>,
}

impl Plan {
    pub(super) fn new(inherited: &Inherited, listen: Option<&[Listen]>) -> Self {
        let mut plan = Plan {
            notes: inherited.notes.clone(),
            ..Plan::default()
        };
        match listen {
            None => plan.unset(&inherited.passed),
            Some(entries) => plan.entries(&inherited.passed, entries),
        }
        plan.note_unserved(&inherited.passed);
        plan
    }

    /// The same for entries of another purpose: nothing stands in for those that are bound.
    pub(super) fn beside(inherited: &Inherited, entries: &[Listen]) -> Self {
        let mut plan = Plan::default();
        for entry in entries {
            match entry {
                Listen::Fd(name) => plan.pick(&inherited.passed, name),
                entry => plan.bind.push(entry.clone()),
            }
        }
        plan
    }

    fn unset(&mut self, passed: &[Passed]) {
        if passed.is_empty() {
            let (host, port) = DEFAULT;
            self.bind.push(Listen::Tcp {
                host: host.into(),
                port,
            });
        } else if passed.iter().any(Passed::is_listening) {
            self.serve_all(passed);
        } else {
            let kinds = list(passed.iter().map(Passed::to_string));
            self.faults.push(format!(
                "listen is unset, and no socket that was passed can be served: {kinds}"
            ));
        }
    }

    fn entries(&mut self, passed: &[Passed], entries: &[Listen]) {
        let mut addresses = Vec::new();
        for entry in entries {
            match entry {
                Listen::Fd(name) => self.pick(passed, name),
                entry => addresses.push(entry),
            }
        }
        if !passed.iter().any(Passed::is_listening) {
            self.bind.extend(addresses.into_iter().cloned());
        } else if !addresses.is_empty() {
            self.serve_all(passed);
            let entries = list(addresses.into_iter().map(text));
            self.notes.push(format!(
                "not bound, for sockets were passed to this process: {entries}"
            ));
        }
    }

    fn serve_all(&mut self, passed: &[Passed]) {
        self.serve.extend(
            (0..)
                .zip(passed)
                .filter(|(_, passed)| passed.is_listening())
                .map(|(place, _)| place),
        );
    }

    fn pick(&mut self, passed: &[Passed], name: &str) {
        let named = |passed: &Passed| passed.name.as_deref() == Some(name);
        for (place, passed) in passed
            .iter()
            .enumerate()
            .filter(|(_, passed)| named(passed))
        {
            if passed.is_listening() {
                self.serve.insert(place);
            } else {
                self.faults
                    .push(format!("listen = \"fd:{name}\": {passed}"));
            }
        }
        if !passed.iter().any(named) {
            self.faults
                .push(format!("listen = \"fd:{name}\": {}", unknown(passed)));
        }
    }

    fn note_unserved(&mut self, passed: &[Passed]) {
        for (_, passed) in passed
            .iter()
            .enumerate()
            .filter(|(place, _)| !self.serve.contains(place))
        {
            self.notes.push(match passed.what {
                What::Listening(..) => {
                    format!("the inherited socket {passed} is not served: no fd:NAME in listen names it")
                }
                What::Wrong(..) => format!("not served: {passed}"),
            });
        }
    }
}

/// What there is instead of a name that nobody passed.
fn unknown(passed: &[Passed]) -> String {
    if passed.is_empty() {
        return "no socket was passed to this process (LISTEN_FDS is not set)".into();
    }
    let names: BTreeSet<_> = passed
        .iter()
        .filter_map(|passed| passed.name.clone())
        .collect();
    if names.is_empty() {
        return "no socket that was passed has a name (LISTEN_FDNAMES)".into();
    }
    format!(
        "no socket of this name was passed; there are {}",
        list(names)
    )
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    items.into_iter().collect::<Vec<_>>().join(", ")
}
