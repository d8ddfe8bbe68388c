//! The protocol between the program and the `dev` process.
//!
//! The program connects to a Unix socket for each message. The first line is the type of the message,
//! which an argument may follow after a space; the rest is text.

/// The environment variable with the path of the socket. The program passes it on when it is upgraded.
pub(super) const SOCKET_VARIABLE: &str = "SLACKWATER_DEV";

/// An open page of the build in the argument. The `dev` process sends it server-sent events.
pub(super) const PAGE: &str = "page";
/// A start or reload that failed: the argument is the title, the text is the error.
pub(super) const REFUSED: &str = "refused";
/// The application has been built.
pub(super) const BUILT: &str = "built";
/// A connection that stays open as long as the `dev` process runs.
pub(super) const CHILD: &str = "child";
