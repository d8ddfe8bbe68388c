//! Whether somebody watches the pid of this process, so that it must not end when it has been replaced.

use std::path::Path;

use rustix::process::{getpid, getppid};

use crate::config::FirstProcess;
use crate::sys::spawn::Program;

/// What is known at the start of who started this process; the rest is looked at when it matters.
#[derive(Debug)]
pub(crate) struct Watched {
    parent: u32,
    systemd: Started,
    notified: Notified,
}

/// What systemd says of having started this very process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Started {
    Yes,
    No,
}

/// Whether there is a NOTIFY_SOCKET, on which systemd can be told of another main process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notified {
    Yes,
    No,
}

/// How this process stands to others when it has been replaced.
#[derive(Clone, Copy, Debug)]
struct Standing {
    pid: u32,
    parent: u32,
    parent_is: Parent,
    terminal: Terminal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parent {
    Systemd,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Terminal {
    /// This process' group is in its foreground.
    Ours,
    /// It is another's, or there is none.
    NotOurs,
}

impl Watched {
    /// To be called at the start, while the parent is whoever started this process.
    pub(crate) fn record(program: &Program) -> Self {
        let text = |name| program.variable(name).and_then(|value| value.to_str());
        let started = match text("SYSTEMD_EXEC_PID") {
            Some(pid) => pid.parse() == Ok(std::process::id()),
            // systemd before 248 does not say whom it has started; its variables are inherited by everybody below
            None => program.variable("INVOCATION_ID").is_some(),
        };
        Watched {
            parent: parent(),
            systemd: if started { Started::Yes } else { Started::No },
            notified: match text("NOTIFY_SOCKET") {
                Some(name) if !name.is_empty() => Notified::Yes,
                _ => Notified::No,
            },
        }
    }

    /// Whether the first process, now replaced, stays as a waiter (`first_process`).
    pub(crate) fn should_stay(&self, config: FirstProcess) -> bool {
        match config {
            FirstProcess::Stay => true,
            FirstProcess::Exit => false,
            FirstProcess::Auto => self.by_somebody(&Standing::now()),
        }
    }

    fn by_somebody(&self, now: &Standing) -> bool {
        // the end of pid 1 is the container's; the end of a foreground process brings the shell's prompt back
        if now.pid == 1 || now.terminal == Terminal::Ours {
            return true;
        }
        // an orphan: whoever waited has gone
        if now.parent != self.parent {
            return false;
        }
        match (now.parent_is, self.systemd) {
            // it has been told of the new main process; where it cannot be told it takes the end of this one for the service's
            (Parent::Systemd, Started::Yes) => self.notified == Notified::No,
            // a daemon whose parent had gone before it was started
            (Parent::Systemd, Started::No) => false,
            // a supervisor, a container's init, a shell, a script, a test
            (Parent::Other, _) => true,
        }
    }
}

impl Standing {
    fn now() -> Self {
        let parent = parent();
        Standing {
            pid: getpid().as_raw_nonzero().get().unsigned_abs(),
            parent,
            parent_is: if is_systemd(parent) {
                Parent::Systemd
            } else {
                Parent::Other
            },
            terminal: terminal(),
        }
    }
}

/// 0 for one outside of this pid namespace.
fn parent() -> u32 {
    getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
}

/// The system's manager or a user's. Other inits have other names, and restart or end with what they started.
fn is_systemd(pid: u32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end() == "systemd" || (pid == 1 && Path::new("/run/systemd/system").is_dir())
}

fn terminal() -> Terminal {
    match Groups::read() {
        Some(Groups {
            group, foreground, ..
        }) if group > 0 && group == foreground => Terminal::Ours,
        _ => Terminal::NotOurs,
    }
}

/// The groups of this process (proc_pid_stat(5)). The system calls give 0 for a group that lies outside of this pid
/// namespace, for which rustix has no value.
struct Groups {
    group: i32,
    session: i32,
    /// The one in the foreground of the controlling terminal; -1 without one.
    foreground: i32,
}

impl Groups {
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // the name before may hold anything, even parentheses
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace().skip(2).map(str::parse);
        let group = fields.next()?.ok()?;
        let session = fields.next()?.ok()?;
        let foreground = fields.nth(1)?.ok()?;
        Some(Groups {
            group,
            session,
            foreground,
        })
    }
}

/// Whether this process leads its session: it alone is told that the terminal is gone.
pub(super) fn leads_session() -> bool {
    Groups::read().is_some_and(|groups| u32::try_from(groups.session) == Ok(std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: u32 = 50;

    fn watched(systemd: Started, notified: Notified) -> Watched {
        Watched {
            parent: PARENT,
            systemd,
            notified,
        }
    }

    fn standing(parent_is: Parent) -> Standing {
        Standing {
            pid: 100,
            parent: PARENT,
            parent_is,
            terminal: Terminal::NotOurs,
        }
    }

    #[test]
    fn it_stays_where_its_end_would_be_noticed() {
        use {Notified as N, Parent::*, Started as S};
        let table = [
            (
                "systemd, Type=notify",
                S::Yes,
                N::Yes,
                standing(Systemd),
                false,
            ),
            (
                "systemd, Type=simple",
                S::Yes,
                N::No,
                standing(Systemd),
                true,
            ),
            (
                "systemd, a script in between",
                S::No,
                N::Yes,
                standing(Other),
                true,
            ),
            (
                "systemd, a daemon by other means",
                S::No,
                N::No,
                standing(Systemd),
                false,
            ),
            (
                "runit, tini, supervisord, a shell's job",
                S::No,
                N::No,
                standing(Other),
                true,
            ),
            (
                "supervisord as a unit of an old systemd",
                S::Yes,
                N::Yes,
                standing(Other),
                true,
            ),
            (
                "an orphan",
                S::No,
                N::No,
                Standing {
                    parent: 1,
                    ..standing(Other)
                },
                false,
            ),
            (
                "an orphan of a systemd system",
                S::No,
                N::No,
                Standing {
                    parent: 1,
                    ..standing(Systemd)
                },
                false,
            ),
            (
                "pid 1 of a container",
                S::No,
                N::Yes,
                Standing {
                    pid: 1,
                    parent: 0,
                    ..standing(Other)
                },
                true,
            ),
            (
                "a shell's foreground",
                S::Yes,
                N::Yes,
                Standing {
                    terminal: Terminal::Ours,
                    ..standing(Other)
                },
                true,
            ),
        ];
        for (what, systemd, notified, standing, stays) in table {
            assert_eq!(
                watched(systemd, notified).by_somebody(&standing),
                stays,
                "{what}"
            );
        }
    }

    #[test]
    fn the_setting_decides_where_it_says_so() {
        let watched = watched(Started::Yes, Notified::Yes);
        assert!(watched.should_stay(FirstProcess::Stay));
        assert!(!watched.should_stay(FirstProcess::Exit));
    }

    #[test]
    fn whoever_runs_the_tests_watches_them() {
        let watched = Watched::record(&Program::record());
        assert!(!is_systemd(watched.parent));
        assert!(watched.should_stay(FirstProcess::Auto));
    }
}
