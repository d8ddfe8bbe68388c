//! The error type of the framework: the operation that failed, its object, and the cause.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;

/// Any error, boxed. The application's functions return it.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// The result of `app`, hooks and commands: `?` converts any error.
pub type Result<T, E = BoxError> = std::result::Result<T, E>;

/// An error of the framework.
///
/// `Display` prints this error without its cause; [`source`](StdError::source) returns the cause.
pub struct Error(Box<ErrorInner>);

struct ErrorInner {
    kind: Kind,
    message: String,
    source: Option<BoxError>,
}

/// The category of an error. It determines the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A setting is missing or unknown, or its value is invalid.
    Config,
    /// A socket could not be inherited or bound.
    Socket,
    /// The application's `app`, a hook or a command failed.
    App,
    /// The command line is invalid.
    Usage,
    /// A command needs a running process, and there is none.
    NotRunning,
    /// Another operation of the operating system failed.
    Io,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(ErrorInner {
            kind,
            message: message.into(),
            source: None,
        }))
    }

    pub(crate) fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns true if the configuration is invalid. The message names file, line and key of each error.
    #[must_use]
    pub fn is_config(&self) -> bool {
        self.0.kind == Kind::Config
    }

    /// Returns true if a socket could not be inherited or bound.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.0.kind == Kind::Socket
    }

    /// Returns true if the application failed: `app`, a hook or a command.
    #[must_use]
    pub fn is_app(&self) -> bool {
        self.0.kind == Kind::App
    }

    /// Returns the exit code of a process for this error: 2 for wrong usage, 3 if no process is running, 78 for an invalid
    /// configuration, 1 for any other failure.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.0.kind {
            Kind::Config => 78,
            Kind::Usage => 2,
            Kind::NotRunning => 3,
            Kind::Socket | Kind::App | Kind::Io => 1,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns the error and its causes on one line.
    pub(crate) fn chain(&self) -> String {
        chain(self)
    }
}

/// Joins an error and its causes with `: `. Leaves out a cause that the text before it ends with.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// Returns the message of a panic.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
