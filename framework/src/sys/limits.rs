//! The limit on open files: raised at start, remembered as it was, and what it allows in connections.

use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};

/// How many descriptors this process may have.
#[derive(Clone, Debug)]
pub(crate) struct OpenFiles {
    born: Rlimit,
    /// `None`: no limit.
    soft: Option<u64>,
}

impl OpenFiles {
    /// Raises the soft limit to the hard one. Where the system refuses, the limit stays as it was: fewer connections,
    /// but no reason not to start.
    pub(crate) fn raise() -> Self {
        let born = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: born.maximum,
            maximum: born.maximum,
        };
        let soft = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => born.maximum,
            Err(_) => born.current,
        };
        OpenFiles { born, soft }
    }

    /// The limits as they are, for a guest in somebody else's process.
    pub(crate) fn as_they_are() -> Self {
        let born = getrlimit(Resource::Nofile);
        OpenFiles {
            soft: born.current,
            born,
        }
    }

    /// Puts right what `raise` took for the limit at birth: a predecessor had raised it, and says from where.
    #[must_use]
    pub(crate) fn born_with(mut self, soft: Option<u64>) -> Self {
        if let Some(soft) = soft {
            self.born.current = Some(self.born.maximum.map_or(soft, |hard| soft.min(hard)));
        }
        self
    }

    /// The limits this process was started with: what its children get, or each generation would raise the next one's.
    #[allow(dead_code)] // for the upgrade, which starts a child
    pub(crate) fn born(&self) -> &Rlimit {
        &self.born
    }

    /// What `max_connections = "auto"` stands for: a descriptor for each connection, without those that are open now
    /// and an eighth of the limit, which stays with the application for its files and databases. At least 1.
    pub(crate) fn connections(&self) -> usize {
        connections(self.soft, open_now())
    }
}

fn connections(soft: Option<u64>, open: usize) -> usize {
    let Some(soft) = soft.and_then(|soft| usize::try_from(soft).ok()) else {
        return usize::MAX;
    };
    soft.saturating_sub(soft / 8).saturating_sub(open).max(1)
}

/// The descriptors that are open. Where /proc is not there, those of standard input, output and error.
fn open_now() -> usize {
    // counting opens one itself
    std::fs::read_dir("/proc/self/fd").map_or(3, |entries| entries.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_leaves_what_is_open_and_an_eighth() {
        assert_eq!(connections(Some(1024), 24), 872);
        assert_eq!(connections(Some(16), 24), 1);
        assert_eq!(connections(None, 24), usize::MAX);
    }

    #[test]
    fn what_is_open_is_counted() {
        // other tests open and close descriptors meanwhile: only a lower bound holds
        assert!(open_now() >= 3);
    }
}
