//! The attribute macros of slackwater; use them through the `slackwater` crate.
