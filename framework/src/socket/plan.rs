//! Decides which sockets a configuration needs, before any socket is touched. Inherited sockets
//! take precedence over `listen`.
//!
//! - `listen` unset: every inherited stream socket; without any, 127.0.0.1:8080 is bound.
//! - `fd:NAME`: every inherited socket with that name.
//! - `HOST:PORT` and `unix:PATH`: bound if no stream socket was inherited. Otherwise all inherited stream sockets
//!   are used instead of all these entries. Addresses are not compared.
//!
//! An inherited socket that is not used stays open and untouched.

use std::collections::BTreeSet;

use super::bind::text;
use super::inherit::{FdKind, InheritedFd, InheritedSockets};
use crate::config::Listen;

/// The default of `listen`.
const DEFAULT: (&str, u16) = ("127.0.0.1", 8080);

/// The sockets to use, the addresses to bind, and the messages about them.
#[derive(Debug, Default)]
pub(super) struct ListenPlan {
    /// Indexes of the inherited sockets to use.
    pub(super) use_inherited: BTreeSet<usize>,
    pub(super) bind: Vec<Listen>,
    /// Notes for the log, one line each.
    pub(super) notes: Vec<String>,
    /// The reasons why `listen` cannot be satisfied, one line each. Carrying out the plan may add
    /// more.
    pub(super) faults: Vec<String>,
}

impl ListenPlan {
    pub(super) fn new(inherited: &InheritedSockets, listen: Option<&[Listen]>) -> Self {
        let mut plan = ListenPlan {
            notes: inherited.notes.clone(),
            ..ListenPlan::default()
        };
        match listen {
            None => plan.add_default(&inherited.fds),
            Some(entries) => plan.add_entries(&inherited.fds, entries),
        }
        plan.note_unused(&inherited.fds);
        plan
    }

    /// Plans listeners that are not for requests, such as `metrics.listen`. Inherited sockets do
    /// not replace addresses here.
    pub(super) fn for_entries(inherited: &InheritedSockets, entries: &[Listen]) -> Self {
        let mut plan = ListenPlan::default();
        for entry in entries {
            match entry {
                Listen::Fd(name) => plan.use_named(&inherited.fds, name),
                entry => plan.bind.push(entry.clone()),
            }
        }
        plan
    }

    fn add_default(&mut self, passed: &[InheritedFd]) {
        if passed.is_empty() {
            let (host, port) = DEFAULT;
            self.bind.push(Listen::Tcp {
                host: host.into(),
                port,
            });
        } else if passed.iter().any(InheritedFd::is_listening) {
            self.use_all_inherited(passed);
        } else {
            let kinds = list(passed.iter().map(InheritedFd::to_string));
            self.faults.push(format!(
                "listen is unset, and none of the sockets passed to this process can be used: {kinds}"
            ));
        }
    }

    fn add_entries(&mut self, passed: &[InheritedFd], entries: &[Listen]) {
        let mut addresses = Vec::new();
        for entry in entries {
            match entry {
                Listen::Fd(name) => self.use_named(passed, name),
                entry => addresses.push(entry),
            }
        }
        if !passed.iter().any(InheritedFd::is_listening) {
            self.bind.extend(addresses.into_iter().cloned());
        } else if !addresses.is_empty() {
            self.use_all_inherited(passed);
            let entries = list(addresses.into_iter().map(text));
            self.notes.push(format!(
                "using the sockets passed to this process instead of binding {entries}"
            ));
        }
    }

    fn use_all_inherited(&mut self, passed: &[InheritedFd]) {
        let listening = passed
            .iter()
            .enumerate()
            .filter(|(_, socket)| socket.is_listening());
        self.use_inherited.extend(listening.map(|(index, _)| index));
    }

    fn use_named(&mut self, passed: &[InheritedFd], name: &str) {
        let mut found = false;
        for (index, socket) in passed.iter().enumerate() {
            if socket.name.as_deref() != Some(name) {
                continue;
            }
            found = true;
            if socket.is_listening() {
                self.use_inherited.insert(index);
            } else {
                self.faults
                    .push(format!("listen = \"fd:{name}\": {socket}"));
            }
        }
        if !found {
            self.faults
                .push(format!("listen = \"fd:{name}\": {}", unknown_name(passed)));
        }
    }

    fn note_unused(&mut self, passed: &[InheritedFd]) {
        for (index, socket) in passed.iter().enumerate() {
            if self.use_inherited.contains(&index) {
                continue;
            }
            self.notes.push(match socket.kind {
                FdKind::Listening(..) => {
                    format!("the inherited socket {socket} is not used: no fd:NAME entry of listen has its name")
                }
                FdKind::Unusable(..) => format!("ignoring an inherited descriptor: {socket}"),
            });
        }
    }
}

/// Explains why no inherited socket has the name, and lists the names that exist.
fn unknown_name(passed: &[InheritedFd]) -> String {
    if passed.is_empty() {
        return "no socket was passed to this process (LISTEN_FDS is not set)".into();
    }
    let names: BTreeSet<_> = passed
        .iter()
        .filter_map(|passed| passed.name.clone())
        .collect();
    if names.is_empty() {
        return "no socket passed to this process has a name (LISTEN_FDNAMES)".into();
    }
    format!(
        "no socket of this name was passed; the passed names are {}",
        list(names)
    )
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    items.into_iter().collect::<Vec<_>>().join(", ")
}
