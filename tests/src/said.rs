//! The words by which a process tells the steps of its life: what tests wait for in its log.

/// A reload has gone live.
pub const RELOADED: &str = "reloaded";
/// A reload was refused, and why.
pub const RELOAD_REFUSED: &str = "reload refused";
/// It no longer accepts, and stays.
pub const PAUSED: &str = "paused";
/// It accepts again after a pause.
pub const RESUMED: &str = "resumed";
/// Its log files were opened anew.
pub const REOPENED: &str = "the log was reopened";
/// It ends.
pub const STOPPED: &str = "stopped after";
/// It has begun to leave.
pub const LEAVING: &str = "draining";
/// An upgrade has started the new process; its pid comes next.
pub const STARTED_NEW: &str = "started the new process, pid";
/// An upgrade was refused before anything was started, or by the new process itself; and why.
pub const UPGRADE_REFUSED: &str = "upgrade refused";
/// The new process is gone before it accepted.
pub const UPGRADE_FAILED: &str = "upgrade failed";
/// The old process has told the new one to go live, and begins to give its connections away.
pub const HANDING_OVER: &str = "handing over";
/// The new process keeps what it was given.
pub const CONFIRMED: &str = "upgrade: confirmed";
/// The new process is gone, and the old one is back with the connections.
pub const ROLLED_BACK: &str = "rolled back";
/// The old process and the new one accept, until a person decides.
pub const BOTH_ACCEPT: &str = "both processes accept";
/// The process that was replaced has ended.
pub const OLD_GONE: &str = "the old process is gone";
/// The new process was told to stop while both accept.
pub const TAKEN_BACK: &str = "the new process returns its connections and exits";
/// A signal that asks for an upgrade comes at the wrong time.
pub const USR2_REFUSED: &str = "USR2 refused";
/// The answer to USR2 as long as the process before this one may come back.
pub const REFUSED_UNCONFIRMED: &str = "refused: the last upgrade is not confirmed yet";
/// The answer to USR2 after an upgrade that was taken back, as long as the process that was new may give more back.
pub const REFUSED_RETURNING: &str = "still returns its connections";
/// The answer to USR2 in a process that is paused.
pub const REFUSED_PAUSED: &str = "refused: the process is paused";
