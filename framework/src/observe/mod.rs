//! What a process says of itself: its log, and the access log in it.
//!
//! [`log`] chooses who writes and where to: [`lines`] in the looks of [`json`] or [`pretty`], or [`femme`]; [`output`]
//! gets it out.

pub(crate) mod access;
mod femme;
mod json;
mod lines;
pub(crate) mod log;
mod output;
mod pretty;
