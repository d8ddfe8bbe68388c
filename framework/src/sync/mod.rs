//! Small tools for tasks and threads: a one-shot notification, a limiter with permits, and locks without poisoning.

pub(crate) mod limiter;
pub(crate) mod lock;
pub(crate) mod token;
