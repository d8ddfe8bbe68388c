//! The limit on open files: raised at start, restored for foreign programs, and the number of
//! connections that it allows.

use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};

/// The limits on open files (RLIMIT_NOFILE).
#[derive(Clone, Debug)]
pub(crate) struct OpenFiles {
    /// The limits that the service was started with.
    original: Rlimit,
    /// The current soft limit. `None`: unlimited.
    soft: Option<u64>,
}

impl OpenFiles {
    /// Raises the soft limit to the hard limit. If that fails, the limit stays unchanged: the
    /// process starts anyway and accepts fewer connections.
    pub(crate) fn raise() -> Self {
        let original = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: original.maximum,
            maximum: original.maximum,
        };
        let soft = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => original.maximum,
            Err(_) => original.current,
        };
        OpenFiles { original, soft }
    }

    /// Reads the limits and changes nothing, for a server that is embedded in a process it does not
    /// own.
    pub(crate) fn unchanged() -> Self {
        let original = getrlimit(Resource::Nofile);
        OpenFiles {
            soft: original.current,
            original,
        }
    }

    /// Corrects the original soft limit: the old process of an upgrade had raised it already, and
    /// passes on the value from before that.
    #[must_use]
    pub(crate) fn with_original_soft(mut self, soft: Option<u64>) -> Self {
        if let Some(soft) = soft {
            self.original.current = Some(self.original.maximum.map_or(soft, |hard| soft.min(hard)));
        }
        self
    }

    /// The limits that the service was started with. Foreign programs are started with them, and
    /// slackwater programs receive the soft limit in a variable.
    pub(crate) fn original(&self) -> &Rlimit {
        &self.original
    }

    /// The value of `max_connections = "auto"`: the soft limit minus the descriptors that are open
    /// now, minus an eighth of the limit for files and databases of the application. At least 1.
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

/// Returns the number of open descriptors. Without /proc it is assumed to be 3.
fn open_now() -> usize {
    // reading the directory opens one itself
    std::fs::read_dir("/proc/self/fd").map_or(3, |entries| entries.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_subtracts_open_descriptors_and_an_eighth() {
        assert_eq!(connections(Some(1024), 24), 872);
        assert_eq!(connections(Some(16), 24), 1);
        assert_eq!(connections(None, 24), usize::MAX);
    }

    #[test]
    fn open_descriptors_are_counted() {
        // other tests open and close descriptors at the same time, so only a lower bound is certain
        assert!(open_now() >= 3);
    }
}
