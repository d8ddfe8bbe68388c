//! A server inside another program or a test, without signals, log or any other process-wide state.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures_lite::future;

use crate::app::{Application, IntoApplication};
use crate::config::ConfigSources;
use crate::error::Error;
use crate::lifecycle::{Driver, Handle, Ownership, ProgramInfo, ServerContext};
use crate::observe::metrics::Metrics;
use crate::socket::{InheritedSockets, Sockets};
use crate::sys::limits::OpenFiles;

/// A server inside another program or a test. It uses no process-wide state: it does not read the environment or the
/// command line, handles no signals and installs no logger. When it stops, the process goes on.
///
/// ```
/// use slackwater::prelude::*;
///
/// # async_std::task::block_on(async {
/// let app = || async {
///     let mut app = App::new();
///     app.at("/").get(|_| async { Ok("Hello, world!") });
///     Ok(app)
/// };
/// let handle = slackwater::Server::new(app).set("listen", "127.0.0.1:0").start().await?;
/// println!("listening on {}", handle.addresses()[0]);
/// handle.shutdown(std::time::Duration::from_secs(5)).await?;
/// # Ok::<_, slackwater::BoxError>(()) }).unwrap();
/// ```
pub struct Server {
    application: Arc<dyn Application>,
    sources: ConfigSources,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// Creates a server for `app`; see [`Runner::new`](crate::Runner::new) for the functions it accepts.
    pub fn new<Args>(app: impl IntoApplication<Args>) -> Self {
        let mut sources = ConfigSources::new("slackwater");
        // A `slackwater.toml` in the working directory belongs to the program around this server.
        sources.default_file = PathBuf::new();
        Server {
            application: app.into_application().0,
            sources,
        }
    }

    /// Sets a key, as `--set` does: `listen`, `http.body_limit`, `app.greeting`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.sources.sets.push(format!("{key}={value}"));
        self
    }

    /// Reads this configuration file at the start and at each reload. The file must exist.
    #[must_use]
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.file = Some(path.into());
        self
    }

    /// Starts the server and returns when it accepts connections. It runs until its [`Handle`] stops it.
    ///
    /// # Errors
    /// An error if the settings are invalid, a socket cannot be bound, or `app` or `on_ready` fails.
    pub async fn start(self) -> Result<Handle, Error> {
        let first = self.sources.load()?;
        let sockets = Sockets::new(InheritedSockets::default());
        let context = ServerContext {
            sources: self.sources,
            application: self.application,
            sockets,
            ownership: Ownership::Guest,
            open_files: OpenFiles::unchanged(),
            program: None,
            program_info: ProgramInfo::of_this_process(""),
            metrics: Metrics::new(""),
            control: None,
        };
        let (driver, handle) = Driver::new(context, first, None)?;
        let (starts, started) = async_channel::bounded(1);
        let server = async_std::task::spawn(driver.run(starts));
        let ended = async { server.await.map(drop) };
        let accepting = async {
            match started.recv().await {
                Ok(()) => Ok(()),
                // The server has ended before it accepted; `ended` returns the reason.
                Err(_) => future::pending().await,
            }
        };
        future::or(ended, accepting).await?;
        Ok(handle)
    }
}
