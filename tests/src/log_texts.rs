//! Texts in a process's log that tests wait for. Each constant is a fragment of one log line.

/// A new generation of the application is live.
pub const RELOADED: &str = "reloaded";
/// A reload was refused; the reason follows.
pub const RELOAD_REFUSED: &str = "reload refused";
/// The process stopped accepting connections and stays (TSTP).
pub const PAUSED: &str = "paused";
/// The process accepts connections again after a pause.
pub const RESUMED: &str = "resumed";
/// The log files were reopened.
pub const REOPENED: &str = "the log was reopened";
/// The shutdown is complete.
pub const STOPPED: &str = "stopped after";
/// A shutdown has begun.
pub const DRAINING: &str = "draining";
/// An upgrade started the new process; its pid follows.
pub const STARTED_NEW: &str = "started the new process, pid";
/// An upgrade was refused before a process was started, or by the new process; the reason follows.
pub const UPGRADE_REFUSED: &str = "upgrade refused";
/// The new process exited before it accepted connections.
pub const UPGRADE_FAILED: &str = "upgrade failed";
/// The new process goes live, and the old process begins to hand its connections over.
pub const HANDING_OVER: &str = "handing over";
/// The upgrade is confirmed: the new process keeps the connections.
pub const CONFIRMED: &str = "upgrade: confirmed";
/// The new process is gone; the old process serves again with the connections it took back.
pub const ROLLED_BACK: &str = "rolled back";
/// The old and the new process accept connections until an operator decides.
pub const BOTH_ACCEPT: &str = "both processes accept";
/// The replaced process has exited.
pub const OLD_GONE: &str = "the old process is gone";
/// The new process was stopped before its upgrade was confirmed.
pub const RETURNING_CONNECTIONS: &str = "the new process returns its connections and exits";
/// USR2 arrived at a time when no upgrade is possible; the reason follows.
pub const USR2_REFUSED: &str = "USR2 refused";
/// USR2 was refused because the previous upgrade can still be rolled back.
pub const REFUSED_UNCONFIRMED: &str = "refused: the last upgrade is not confirmed yet";
/// USR2 was refused because the new process of a rolled-back upgrade may still return connections.
pub const REFUSED_RETURNING: &str = "still returns its connections";
/// USR2 was refused because the process is paused.
pub const REFUSED_PAUSED: &str = "refused: the process is paused";
