//! A server inside another program or a test: the same life without signals, log or anything else that is process-wide.

use std::path::PathBuf;
use std::sync::Arc;

use futures_lite::future;

use crate::app::{Application, IntoApplication};
use crate::config::Sources;
use crate::error::Error;
use crate::lifecycle::{Build, Driver, Handle, Ownership, Plan};
use crate::observe::metrics::Metrics;
use crate::socket::{InheritedSockets, Sockets};
use crate::sys::limits::OpenFiles;

/// A server that is a guest in its process: it reads no environment and no command line, catches no signal, and ends
/// without ending the process.
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
    sources: Sources,
}

impl Server {
    /// A server for `app`; see [`Runner::new`](crate::Runner::new).
    ///
    /// ```
    /// # use slackwater::prelude::*;
    /// let server = slackwater::Server::new(|| async { Ok(App::new()) });
    /// ```
    pub fn new<Args>(app: impl IntoApplication<Args>) -> Self {
        let mut sources = Sources::new("slackwater");
        // a file that lies about is not meant for a guest
        sources.default_file = PathBuf::new();
        Server {
            application: app.into_application().0,
            sources,
        }
    }

    /// Sets one key, as `--set` does: `listen`, `http.body_limit`, `app.greeting`.
    ///
    /// ```
    /// # fn doc(server: slackwater::Server) -> slackwater::Server {
    /// server.set("listen", "127.0.0.1:0").set("http.idle_timeout", "5s")
    /// # }
    /// ```
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.sources.sets.push(format!("{key}={value}"));
        self
    }

    /// Reads this configuration file, which must exist; again at each reload.
    ///
    /// ```
    /// # fn doc(server: slackwater::Server) -> slackwater::Server {
    /// server.config_file("tests/shop.toml")
    /// # }
    /// ```
    #[must_use]
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.file = Some(path.into());
        self
    }

    /// Starts serving; returns once connections are accepted. The server goes on until its [`Handle`] ends it.
    ///
    /// # Errors
    /// When the settings are refused, a socket cannot be bound, or `app` or `on_ready` fails.
    ///
    /// ```no_run
    /// # async fn doc(server: slackwater::Server) -> Result<(), slackwater::Error> {
    /// let handle = server.start().await?;
    /// handle.ended().await;
    /// # Ok(()) }
    /// ```
    pub async fn start(self) -> Result<Handle, Error> {
        let first = self.sources.load()?;
        let sockets = Sockets::new(InheritedSockets::default());
        let plan = Plan {
            sources: self.sources,
            application: self.application,
            sockets,
            ownership: Ownership::Guest,
            open_files: OpenFiles::unchanged(),
            program: None,
            build: Build::of_this_process(""),
            metrics: Metrics::new(""),
            control: None,
        };
        let (driver, handle) = Driver::new(plan, first, None)?;
        let (starts, started) = async_channel::bounded(1);
        let server = async_std::task::spawn(driver.run(starts));
        let ended = async { server.await.map(drop) };
        let is_up = async {
            match started.recv().await {
                Ok(()) => Ok(()),
                // it ended without: how, the other one says
                Err(_) => future::pending().await,
            }
        };
        future::or(ended, is_up).await?;
        Ok(handle)
    }
}
