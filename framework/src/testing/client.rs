//! A client of an application, wherever that runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::Method;

use super::inside::Inside;
use super::outside::Outside;
use super::request::RequestBuilder;
use crate::app::Application;
use crate::config::ConfigSources;
use crate::error::Result;

/// Settings of an application under test, and its start.
///
/// ```
/// # use slackwater::{prelude::*, testing};
/// # testing::block_on(async {
/// let builder = testing::client(|| async { Ok(App::new()) });
/// let client = builder.set("http.body_limit", "1KiB").start().await?;
/// # Ok::<_, slackwater::BoxError>(()) }).unwrap();
/// ```
pub struct Builder {
    kind: Kind,
    sources: ConfigSources,
}

enum Kind {
    Inside(Arc<dyn Application>),
    Outside(PathBuf),
}

impl Builder {
    pub(super) fn inside(application: Arc<dyn Application>) -> Self {
        Builder::of(Kind::Inside(application))
    }

    pub(super) fn outside(program: PathBuf) -> Self {
        Builder::of(Kind::Outside(program))
    }

    fn of(kind: Kind) -> Self {
        let mut sources = ConfigSources::new("test");
        // a file that lies about is not meant for a test
        sources.default_file = PathBuf::new();
        Builder { kind, sources }
    }

    /// Sets one key, as `--set` does.
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

    /// Reads this configuration file, which must exist; again at each reload.
    ///
    /// ```
    /// # fn doc(builder: slackwater::testing::Builder) -> slackwater::testing::Builder {
    /// builder.config_file("tests/shop.toml")
    /// # }
    /// ```
    #[must_use]
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.file = Some(path.into());
        self
    }

    /// Builds the application, or starts the process, and returns when it answers.
    ///
    /// # Errors
    /// What a real start would end with.
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
        let target = match self.kind {
            Kind::Inside(application) => {
                Target::Inside(Inside::start(application, self.sources).await?)
            }
            Kind::Outside(program) => Target::Outside(Outside::start(program, self.sources).await?),
        };
        Ok(Client(target))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("sets", &self.sources.sets)
            .finish_non_exhaustive()
    }
}

/// A client of an application under test. Dropped, it ends it: a real process is killed.
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
pub struct Client(pub(super) Target);

#[expect(clippy::large_enum_variant, reason = "a test has a handful of them")]
pub(super) enum Target {
    Inside(Inside),
    Outside(Outside),
}

/// One function for each usual method, all alike.
macro_rules! methods {
    ($($name:ident $method:ident,)*) => {
        impl Client {
            $(
                #[doc = concat!("A request with the method ", stringify!($method), " for a path, which may have a query.")]
                ///
                /// ```
                /// # async fn doc(client: slackwater::testing::Client) -> slackwater::Result<()> {
                #[doc = concat!("let answer = client.", stringify!($name), "(\"/todos?page=2\").send().await?;")]
                /// # Ok(()) }
                /// ```
                pub fn $name(&self, path: &str) -> RequestBuilder<'_> {
                    RequestBuilder::new(self, Method::$method, path)
                }
            )*
        }
    };
}

methods! { get GET, post POST, put PUT, patch PATCH, delete DELETE, head HEAD, options OPTIONS, }

impl Client {
    /// A request with any method.
    ///
    /// ```
    /// # async fn doc(client: slackwater::testing::Client) -> slackwater::Result<()> {
    /// assert_eq!(client.request("SEARCH", "/").send().await?.status(), 405);
    /// # Ok(()) }
    /// ```
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder<'_> {
        RequestBuilder::named(self, method, path)
    }

    /// Loads the settings anew and puts a new generation in place of the current one, as SIGHUP does.
    ///
    /// # Errors
    /// When anything about the new one failed; the current one answers on.
    ///
    /// ```
    /// # async fn doc(client: slackwater::testing::Client) -> slackwater::Result<()> {
    /// client.set("app.greeting", "Hi")?;
    /// client.reload().await?;
    /// # Ok(()) }
    /// ```
    pub async fn reload(&self) -> Result<()> {
        match &self.0 {
            Target::Inside(inside) => inside.reload().await,
            Target::Outside(outside) => outside.reload().await,
        }
    }

    /// Sets one key for the generations that come after this.
    ///
    /// # Errors
    /// For a real process: what it was started with stays. Change its [`config_file`](Builder::config_file).
    ///
    /// ```
    /// # async fn doc(client: slackwater::testing::Client) -> slackwater::Result<()> {
    /// client.set("app.greeting", "Hi")?;
    /// # Ok(()) }
    /// ```
    pub fn set(&self, key: &str, value: impl fmt::Display) -> Result<()> {
        match &self.0 {
            Target::Inside(inside) => inside.set(format!("{key}={value}")),
            Target::Outside(_) => return Err(
                "what a process was started with cannot be set anew: change its configuration file"
                    .into(),
            ),
        }
        Ok(())
    }

    /// Endpoints the application as a shutdown does: tokens are told, hooks run, tasks are joined, requests finish; a real
    /// process is sent SIGTERM. Returns when all of it is over.
    ///
    /// # Errors
    /// When that takes more than a minute, naming the tasks that still run, or a process ends with another status than 0.
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
        match &self.0 {
            Target::Inside(inside) => inside.drain().await,
            Target::Outside(outside) => outside.drain().await,
        }
    }

    /// The process id of a real process.
    ///
    /// ```
    /// # fn doc(client: slackwater::testing::Client) -> Option<u32> { client.pid() }
    /// ```
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.0 {
            Target::Inside(_) => None,
            Target::Outside(outside) => Some(outside.pid()),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}
