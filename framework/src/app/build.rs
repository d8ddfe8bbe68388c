//! Turns the application's function into the parts of a generation: calls it, catches its panics, checks its routes.

use std::any::TypeId;
use std::fmt;
use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;

use futures_lite::FutureExt;
use serde::de::value::{Error as UnitError, UnitDeserializer};
use serde::de::DeserializeOwned;
use tide::Server;

use super::application::{App, TableCoverage};
use super::check::Check;
use super::future::BoxFuture;
use super::hook::{Hook, Task};
use super::table::ListedRoute;
use crate::config::LoadedConfig;
use crate::error::{panic_text, Error, Kind, Result};
use crate::http::bridge::{Allow, CauseMiddleware, Tide};
use crate::http::Service;
use crate::setup::Setup;

/// The parts of an application, ready to run as a generation.
pub(crate) struct ApplicationParts {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) routes: Vec<ListedRoute>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) on_ready: Vec<Hook>,
    pub(crate) on_drain: Vec<Hook>,
    pub(crate) checks: Vec<Check>,
    /// Title, version and description of the OpenAPI document, if the application serves one.
    #[cfg(feature = "openapi")]
    pub(crate) api: Option<crate::openapi::OpenApi>,
}

/// An application's function, independent of its arguments and of the application's state.
pub(crate) trait Application: Send + Sync {
    /// Reads the settings and calls the function.
    fn build(
        &self,
        settings: &mut LoadedConfig,
        setup: Setup,
    ) -> BoxFuture<Result<ApplicationParts, Error>>;

    /// Reads the settings as `build` does, without calling the function. Afterwards `settings` holds the unknown keys
    /// and the secrets that were found.
    ///
    /// # Errors
    /// The settings cannot be deserialized into the type that the function takes.
    fn read(&self, settings: &mut LoadedConfig) -> Result<(), Error>;
}

/// An [`Application`] made of two functions: `build` implements the whole, `read` only deserializes the settings.
struct ApplicationFn<F> {
    build: F,
    read: fn(&mut LoadedConfig) -> Result<(), Error>,
}

impl<F> Application for ApplicationFn<F>
where
    F: Fn(&mut LoadedConfig, Setup) -> BoxFuture<Result<ApplicationParts, Error>> + Send + Sync,
{
    fn build(
        &self,
        settings: &mut LoadedConfig,
        setup: Setup,
    ) -> BoxFuture<Result<ApplicationParts, Error>> {
        (self.build)(settings, setup)
    }

    fn read(&self, settings: &mut LoadedConfig) -> Result<(), Error> {
        (self.read)(settings)
    }
}

/// An async function or closure that returns a [`Result`](crate::Result) of an [`App`].
///
/// It takes no argument, the application's settings, or the settings and a [`Setup`]: `async fn app()`,
/// `async fn app(settings: Settings)` or `async fn app(settings: Settings, setup: Setup)`.
///
/// Applications do not implement this trait.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[derive(serde::Deserialize)]
/// struct Settings { greeting: String }
///
/// async fn app(settings: Settings, setup: Setup) -> slackwater::Result<App> {
///     let mut app = App::new();
///     let greeting = format!("{} (generation {})", settings.greeting, setup.generation());
///     app.at("/").get(move |_| { let greeting = greeting.clone(); async { Ok(greeting) } });
///     Ok(app)
/// }
///
/// let runner = slackwater::Runner::new(app);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function that returns an application",
    label = "not an application",
    note = "write `async fn app() -> slackwater::Result<App>`, or with the arguments `(settings: Settings)` or \
            `(settings: Settings, setup: Setup)`",
    note = "`Settings` must be an owned type that implements `serde::Deserialize`, and the function's future must be `Send`"
)]
pub trait IntoApplication<Args> {
    #[doc(hidden)]
    fn into_application(self) -> BoxApplication;
}

/// A shared [`Application`] whose type is erased.
#[doc(hidden)]
#[derive(Clone)]
pub struct BoxApplication(pub(crate) Arc<dyn Application>);

impl BoxApplication {
    fn new<T, F>(build: F) -> Self
    where
        T: DeserializeOwned + 'static,
        F: Fn(&mut LoadedConfig, Setup) -> BoxFuture<Result<ApplicationParts, Error>>
            + Send
            + Sync
            + 'static,
    {
        BoxApplication(Arc::new(ApplicationFn {
            build,
            read: |loaded| settings::<T>(loaded).map(drop),
        }))
    }
}

impl fmt::Debug for BoxApplication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Application")
    }
}

impl<F, Fut, S> IntoApplication<()> for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<App<S>>> + Send + 'static,
    S: Clone + Send + Sync + 'static,
{
    fn into_application(self) -> BoxApplication {
        BoxApplication::new::<(), _>(move |_, _| run(&self))
    }
}

impl<F, T, Fut, S> IntoApplication<(T,)> for F
where
    F: Fn(T) -> Fut + Send + Sync + 'static,
    T: DeserializeOwned + Send + 'static,
    Fut: Future<Output = Result<App<S>>> + Send + 'static,
    S: Clone + Send + Sync + 'static,
{
    fn into_application(self) -> BoxApplication {
        BoxApplication::new::<T, _>(move |loaded, _| match settings(loaded) {
            Ok(settings) => run(|| self(settings)),
            Err(error) => Box::pin(async { Err(error) }),
        })
    }
}

impl<F, T, Fut, S> IntoApplication<(T, Setup)> for F
where
    F: Fn(T, Setup) -> Fut + Send + Sync + 'static,
    T: DeserializeOwned + Send + 'static,
    Fut: Future<Output = Result<App<S>>> + Send + 'static,
    S: Clone + Send + Sync + 'static,
{
    fn into_application(self) -> BoxApplication {
        BoxApplication::new::<T, _>(move |loaded, setup| match settings(loaded) {
            Ok(settings) => run(|| self(settings, setup)),
            Err(error) => Box::pin(async { Err(error) }),
        })
    }
}

/// Deserializes the application's settings. If the function takes `()`, the section `[app]` is ignored.
fn settings<T: DeserializeOwned + 'static>(loaded: &mut LoadedConfig) -> Result<T, Error> {
    if TypeId::of::<T>() == TypeId::of::<()>() {
        let nothing = T::deserialize(UnitDeserializer::<UnitError>::new());
        return nothing.map_err(|error| {
            Error::new(Kind::App, "cannot read the settings as `()`").because(error)
        });
    }
    loaded.app()
}

/// Calls the application's function and builds what it returns. A panic becomes an error, because a function that
/// panics at a reload must not end the process.
fn run<Fut, S>(call: impl FnOnce() -> Fut) -> BoxFuture<Result<ApplicationParts, Error>>
where
    Fut: Future<Output = Result<App<S>>> + Send + 'static,
    S: Clone + Send + Sync + 'static,
{
    let future = catch_unwind(AssertUnwindSafe(call));
    Box::pin(async move {
        let result = match future {
            Ok(future) => AssertUnwindSafe(future).catch_unwind().await,
            Err(payload) => Err(payload),
        };
        match result {
            Ok(Ok(app)) => app.build(),
            Ok(Err(error)) => Err(Error::new(Kind::App, "`app` returned an error").because(error)),
            Err(payload) => Err(Error::new(
                Kind::App,
                format!("`app` panicked: {}", panic_text(&*payload)),
            )),
        }
    })
}

impl<S: Clone + Send + Sync + 'static> App<S> {
    /// Checks the routes and returns the parts of a generation.
    ///
    /// # Errors
    /// A method and path have two endpoints, or a path has two mounts.
    pub(crate) fn build(self) -> Result<ApplicationParts, Error> {
        let mut routes = self.table.check()?;
        let allow = Allow::of(
            routes
                .iter()
                .map(|route| (route.method.as_str(), route.path.as_str())),
        );
        let unlisted = ListedRoute {
            method: "ANY".to_owned(),
            path: "/*".to_owned(),
            source: "other routes of the tide server, not listed".to_owned(),
            #[cfg(feature = "openapi")]
            info: None,
        };
        let service: Arc<dyn Service> = match self.coverage {
            TableCoverage::Complete => Arc::new(Tide::new(self.server, allow)),
            TableCoverage::Partial => {
                routes.push(unlisted);
                Arc::new(Tide::new(self.server, allow))
            }
            TableCoverage::External => {
                routes.push(unlisted);
                Arc::new(Tide::new(with_cause_middleware(self.server), allow))
            }
        };
        #[cfg(feature = "openapi")]
        let api = {
            for document in &self.documents {
                document.fill(&routes);
            }
            self.documents
                .into_iter()
                .next()
                .map(|document| document.api)
        };
        let App {
            tasks,
            on_ready,
            on_drain,
            checks,
            ..
        } = self;
        Ok(ApplicationParts {
            service,
            routes,
            tasks,
            on_ready,
            on_drain,
            checks,
            #[cfg(feature = "openapi")]
            api,
        })
    }
}

/// Nests `inner` in a server that has the middleware [`CauseMiddleware`].
///
/// `CauseMiddleware` must be the outermost middleware, but tide adds a new middleware inside the existing ones.
pub(crate) fn with_cause_middleware<S: Clone + Send + Sync + 'static>(
    inner: Server<S>,
) -> Server<()> {
    let mut outer = tide::new();
    outer.with(CauseMiddleware);
    outer.at("/").all(inner.clone());
    outer.at("/*").all(inner);
    outer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigSources;
    use crate::setup::Reason;
    use futures_lite::future::block_on;

    #[derive(serde::Deserialize)]
    struct Settings {
        greeting: String,
    }

    fn build<Args>(app: impl IntoApplication<Args>) -> Result<ApplicationParts, String> {
        let mut sources = ConfigSources::new("test");
        sources.default_file = "/nonexistent".into();
        sources.sets = vec!["app.greeting=hi".into()];
        let mut loaded = sources.load().unwrap();
        let setup = Setup::new(Reason::Test, 7, crate::sync::token::token().1, None);
        let BoxApplication(application) = app.into_application();
        block_on(application.build(&mut loaded, setup)).map_err(|error| error.chain())
    }

    #[test]
    fn an_application_function_takes_no_argument_or_settings_or_settings_and_setup() {
        async fn plain() -> Result<App> {
            Ok(App::new())
        }
        async fn with_unit((): (), setup: Setup) -> Result<App<u64>> {
            Ok(App::with_state(setup.generation()))
        }
        assert!(build(plain).is_ok());
        assert!(build(with_unit).is_ok());
        assert!(build(|settings: Settings| async move {
            let mut app = App::with_state(settings.greeting);
            app.at("/")
                .get(|request: tide::Request<String>| async move { Ok(request.state().clone()) });
            Ok(app)
        })
        .is_ok_and(|parts| parts.routes.len() == 1));
    }

    #[test]
    fn an_error_or_a_panic_of_the_function_becomes_an_error_with_its_message() {
        let failed = build(|| async { Err::<App, _>("no database".into()) });
        assert_eq!(
            failed.err().unwrap(),
            "`app` returned an error: no database"
        );
        let settings = build(|_: Vec<u8>| async { Ok(App::new()) });
        assert!(settings.err().unwrap().contains("app"));

        let panicked = build(|| async {
            async_std::task::yield_now().await;
            let number = 1;
            if number > 0 {
                panic!("number {number}");
            }
            Ok(App::new())
        });
        assert_eq!(panicked.err().unwrap(), "`app` panicked: number 1");
        fn at_once() -> std::future::Ready<Result<App>> {
            panic!("at once")
        }
        assert_eq!(build(at_once).err().unwrap(), "`app` panicked: at once");
    }

    #[test]
    fn read_does_not_call_the_function() {
        let BoxApplication(application) =
            (|_: Settings| async { Err::<App, _>("called".into()) }).into_application();
        let mut loaded = ConfigSources::new("test").load().unwrap();
        assert!(
            application.read(&mut loaded).unwrap_err().is_config(),
            "app.greeting is missing"
        );
        let mut sources = ConfigSources::new("test");
        sources.sets = vec!["app.greeting=hi".into()];
        application.read(&mut sources.load().unwrap()).unwrap();
    }

    #[test]
    fn tasks_and_hooks_of_a_nested_application_are_kept() {
        let parts = build(|| async {
            let mut inner = App::with_state(1);
            inner.task("inner", |stop| async move { stop.wait().await });
            inner
                .on_ready(|| async { Err("not ready".into()) })
                .on_drain(|| async { panic!("going") });
            let mut app = App::new();
            app.task("outer", |_| async {}).nest("/inner", inner);
            Ok(app)
        })
        .unwrap();
        let names: Vec<_> = parts.tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["outer", "inner"]);
        for task in parts.tasks {
            let (_, stop) = crate::sync::token::token();
            block_on((task.start)(stop));
        }
        for hook in parts.on_ready {
            assert_eq!(block_on(hook()).unwrap_err().to_string(), "not ready");
        }
        let errors = parts
            .on_drain
            .into_iter()
            .map(|hook| block_on(hook()).unwrap_err().to_string());
        assert_eq!(errors.collect::<Vec<_>>(), ["the hook panicked: going"]);
    }
}
