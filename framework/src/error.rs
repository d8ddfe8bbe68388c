//! The one error type of the framework: what was tried, on what, why it failed.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;

/// Any error, boxed: what an application's own functions may fail with.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What `app`, hooks and commands return: `?` takes any error.
pub type Result<T, E = BoxError> = std::result::Result<T, E>;

/// Why slackwater could not do what it was asked.
///
/// `Display` prints one level, [`source`](StdError::source) leads to the rest.
///
/// ```
/// fn code(error: &slackwater::Error) -> u8 { error.exit_code() }
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    source: Option<BoxError>,
}

/// What kind of thing failed; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A setting is missing, unknown or has a value it may not have.
    Config,
    /// A socket could not be inherited or bound.
    Socket,
    /// The application's `app`, a hook or a command failed.
    App,
    /// The command line could not be understood.
    Usage,
    /// Nothing runs that could be asked.
    NotRunning,
    /// The operating system refused something else.
    Io,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            source: None,
        }))
    }

    pub(crate) fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Whether the configuration was refused: the message names file, line and key of each fault.
    ///
    /// ```
    /// fn retry(error: &slackwater::Error) -> bool { !error.is_config() }
    /// ```
    #[must_use]
    pub fn is_config(&self) -> bool {
        self.0.kind == Kind::Config
    }

    /// Whether a socket could not be inherited or bound.
    ///
    /// ```
    /// fn port_taken(error: &slackwater::Error) -> bool { error.is_socket() }
    /// ```
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.0.kind == Kind::Socket
    }

    /// Whether the application itself failed: `app`, a hook, a command.
    ///
    /// ```
    /// fn ours(error: &slackwater::Error) -> bool { error.is_app() }
    /// ```
    #[must_use]
    pub fn is_app(&self) -> bool {
        self.0.kind == Kind::App
    }

    /// The status a process ends with for this error: 1 failed, 2 usage, 3 nothing is running, 78 configuration refused.
    ///
    /// ```
    /// fn code(error: &slackwater::Error) -> u8 { error.exit_code() }
    /// ```
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

    /// The error and everything that led to it, on one line.
    pub(crate) fn chain(&self) -> String {
        chain(self)
    }
}

/// An error with all its sources, `: ` between them, without what a source only repeats.
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

/// What a panic said.
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
