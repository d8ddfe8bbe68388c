//! The public client of an application under test, and its builder.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::Method;

use super::backend::Backend;
use super::in_process::InProcess;
use super::request_builder::RequestBuilder;
use super::spawned::Spawned;
use crate::app::Application;
use crate::config::ConfigSources;
use crate::error::Result;

/// The settings of an application under test. [`start`](Builder::start) starts it.
///
/// ```
/// # use slackwater::{prelude::*, testing};
/// # testing::block_on(async {
/// let builder = testing::client(|| async { Ok(App::new()) });
/// let client = builder.set("http.body_limit", "1KiB").start().await?;
/// # Ok::<_, slackwater::BoxError>(()) }).unwrap();
/// ```
pub struct Builder {
    subject: TestSubject,
    sources: ConfigSources,
}

/// An application or a program that has not been started yet.
enum TestSubject {
    Application(Arc<dyn Application>),
    Program(PathBuf),
}

impl Builder {
    pub(super) fn in_process(application: Arc<dyn Application>) -> Self {
        Builder::new(TestSubject::Application(application))
    }

    pub(super) fn spawned(program: PathBuf) -> Self {
        Builder::new(TestSubject::Program(program))
    }

    fn new(subject: TestSubject) -> Self {
        let mut sources = ConfigSources::new("test");
        // a test must not depend on a configuration file in the current directory
        sources.default_file = PathBuf::new();
        Builder { subject, sources }
    }

    /// Sets one key, like the flag `--set`.
    ///
    /// ```
    /// # fn doc(builder: slackwater::testing::Builder) -> slackwater::testing::Builder {
    /// builder.set("app.greeting", "Hi").set("shutdown.grace", "2s")
    /// # }
    /// ```
    #[must_use]
    pub fn set(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.sources.sets.push(format!("{key}={value}"));
        self
    }

    /// Reads a configuration file at the start and at each reload. The file must exist.
    #[must_use]
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.file = Some(path.into());
        self
    }

    /// Builds the application, or starts the process and waits until it responds.
    ///
    /// # Errors
    /// The start of the application failed. A server reports the same error at its start.
    ///
    /// ```
    /// # use slackwater::{prelude::*, testing};
    /// # testing::block_on(async {
    /// let failing = || async { Err::<App, _>("no database".into()) };
    /// let error = testing::client(failing).start().await.unwrap_err();
    /// assert_eq!(error.source().unwrap().to_string(), "no database");
    /// # });
    /// ```
    pub async fn start(self) -> Result<Client> {
        let backend = match self.subject {
            TestSubject::Application(application) => {
                Backend::InProcess(InProcess::start(application, self.sources).await?)
            }
            TestSubject::Program(program) => {
                Backend::Spawned(Spawned::start(program, self.sources).await?)
            }
        };
        Ok(Client(backend))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("sets", &self.sources.sets)
            .finish_non_exhaustive()
    }
}

/// A client of an application under test. Dropping it ends the application: a real process is
/// killed.
///
/// ```
/// # use slackwater::{prelude::*, testing};
/// # testing::block_on(async {
/// #[post("/echo")]
/// async fn echo(body: String) -> String { body }
///
/// let app = || async {
///     let mut app = App::new();
///     app.mount("/", routes![echo]);
///     Ok(app)
/// };
/// let client = testing::client(app).start().await?;
/// assert_eq!(client.post("/echo").body("hi").send().await?.text().await?, "hi");
/// # Ok::<_, slackwater::BoxError>(()) }).unwrap();
/// ```
pub struct Client(Backend);

/// Defines one function for each usual method.
macro_rules! methods {
    ($($name:ident $method:ident,)*) => {
        impl Client {
            $(
                #[doc = concat!("Builds a ", stringify!($method), " request for a path, which may have a query.")]
                pub fn $name(&self, path: &str) -> RequestBuilder<'_> {
                    RequestBuilder::new(&self.0, Method::$method, path)
                }
            )*
        }
    };
}

methods! { get GET, post POST, put PUT, patch PATCH, delete DELETE, head HEAD, options OPTIONS, }

impl Client {
    /// Builds a request with any method.
    ///
    /// ```
    /// # async fn doc(client: slackwater::testing::Client) -> slackwater::Result<()> {
    /// assert_eq!(client.request("SEARCH", "/").send().await?.status(), 405);
    /// # Ok(()) }
    /// ```
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder<'_> {
        RequestBuilder::with_method_name(&self.0, method, path)
    }

    /// Reads the settings again and replaces the current generation, as SIGHUP does.
    ///
    /// # Errors
    /// The new generation could not be built or started. The current one stays live.
    ///
    /// ```
    /// # async fn doc(client: slackwater::testing::Client) -> slackwater::Result<()> {
    /// client.set("app.greeting", "Hi")?;
    /// client.reload().await?;
    /// # Ok(()) }
    /// ```
    pub async fn reload(&self) -> Result<()> {
        self.0.reload().await
    }

    /// Sets one key for the generations that later reloads build.
    ///
    /// # Errors
    /// The application is a real process, whose flags cannot be changed. Change its
    /// [`config_file`](Builder::config_file) instead.
    pub fn set(&self, key: &str, value: impl fmt::Display) -> Result<()> {
        self.0.set(format!("{key}={value}"))
    }

    /// Shuts the application down and returns when that is complete: draining tokens are triggered,
    /// hooks run, tasks are joined, and requests finish. A real process is sent SIGTERM.
    ///
    /// # Errors
    /// The shutdown takes longer than 60 seconds (the error names the tasks that still run), or the
    /// process exits with a status other than 0.
    ///
    /// ```
    /// # use slackwater::{prelude::*, testing};
    /// # testing::block_on(async {
    /// let client = testing::client(|| async { Ok(App::new()) }).start().await?;
    /// client.drain().await?;
    /// assert_eq!(client.get("/readyz").send().await?.status(), 503);
    /// # Ok::<_, slackwater::BoxError>(()) }).unwrap();
    /// ```
    pub async fn drain(&self) -> Result<()> {
        self.0.drain().await
    }

    /// Returns the process id of a real process. Returns `None` for an application in process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.0.pid()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}
