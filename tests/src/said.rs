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
/// It has begun to leave.
pub const LEAVING: &str = "draining";
/// The answer to USR2 as long as upgrades are not built.
pub const NOT_BUILT_YET: &str = "not built yet";
