//! From the application's function to what a generation runs: called, caught, checked.

use std::any::TypeId;
use std::fmt;
use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;

use futures_lite::FutureExt;
use serde::de::value::{Error as UnitError, UnitDeserializer};
use serde::de::DeserializeOwned;
use tide::Server;

use super::check::Check;
use super::table::Listed;
use super::{App, Origin};
use crate::config::LoadedConfig;
use crate::error::{panic_text, Error, Kind, Result};
use crate::http::bridge::{Allow, KeepCause, Tide};
use crate::http::Service;
use crate::setup::Setup;
use crate::sync::token::Token;

/// A future that may go to any thread.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What runs once, before a generation is live or when it finishes.
pub(crate) type Hook = Box<dyn FnOnce() -> BoxFuture<Result<()>> + Send>;

/// A background task of a generation.
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) start: Box<dyn FnOnce(Token) -> BoxFuture<()> + Send>,
}

/// An application, ready to run as a generation.
pub(crate) struct Built {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) routes: Vec<Listed>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) on_ready: Vec<Hook>,
    pub(crate) on_drain: Vec<Hook>,
    pub(crate) checks: Vec<Check>,
    /// The head of the application's own description, if it serves one.
    #[cfg(feature = "openapi")]
    pub(crate) api: Option<crate::openapi::OpenApi>,
}

/// The application's function, whatever its arguments and state: makes a generation from settings.
pub(crate) trait Application: Send + Sync {
    fn build(&self, settings: &mut LoadedConfig, setup: Setup) -> BoxFuture<Result<Built, Error>>;

    /// Reads the settings as `build` does, and builds nothing: what is odd or secret in them is known afterwards.
    ///
    /// # Errors
    /// The settings are not what the function takes.
    fn read(&self, settings: &mut LoadedConfig) -> Result<(), Error>;
}

/// One that is made of what its function is turned into, and of the type of its settings.
struct Function<F> {
    build: F,
    read: fn(&mut LoadedConfig) -> Result<(), Error>,
}

impl<F> Application for Function<F>
where
    F: Fn(&mut LoadedConfig, Setup) -> BoxFuture<Result<Built, Error>> + Send + Sync,
{
    fn build(&self, settings: &mut LoadedConfig, setup: Setup) -> BoxFuture<Result<Built, Error>> {
        (self.build)(settings, setup)
    }

    fn read(&self, settings: &mut LoadedConfig) -> Result<(), Error> {
        (self.read)(settings)
    }
}

/// A function that makes an [`App`]: `async fn app()`, `async fn app(settings: Settings)` or
/// `async fn app(settings: Settings, setup: Setup)`, giving a [`Result`](crate::Result), in which `?` takes any error.
///
/// It is implemented for these functions and closures, and is not for others to implement.
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
/// fn is_one<Args>(app: impl slackwater::IntoApplication<Args>) {}
/// is_one(app);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function that makes an application",
    label = "not an application",
    note = "write `async fn app() -> slackwater::Result<App>`, or with the arguments `(settings: Settings)` or \
            `(settings: Settings, setup: Setup)`",
    note = "`Settings` has to be owned and implement `serde::Deserialize`, and the function's future has to be `Send`"
)]
pub trait IntoApplication<Args> {
    #[doc(hidden)]
    fn into_application(self) -> Erased;
}

/// An application's function without its types.
#[doc(hidden)]
#[derive(Clone)]
pub struct Erased(pub(crate) Arc<dyn Application>);

impl Erased {
    fn new<T, F>(build: F) -> Self
    where
        T: DeserializeOwned + 'static,
        F: Fn(&mut LoadedConfig, Setup) -> BoxFuture<Result<Built, Error>> + Send + Sync + 'static,
    {
        Erased(Arc::new(Function {
            build,
            read: |loaded| settings::<T>(loaded).map(drop),
        }))
    }
}

impl fmt::Debug for Erased {
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
    fn into_application(self) -> Erased {
        Erased::new::<(), _>(move |_, _| run(&self))
    }
}

impl<F, T, Fut, S> IntoApplication<(T,)> for F
where
    F: Fn(T) -> Fut + Send + Sync + 'static,
    T: DeserializeOwned + Send + 'static,
    Fut: Future<Output = Result<App<S>>> + Send + 'static,
    S: Clone + Send + Sync + 'static,
{
    fn into_application(self) -> Erased {
        Erased::new::<T, _>(move |loaded, _| match settings(loaded) {
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
    fn into_application(self) -> Erased {
        Erased::new::<T, _>(move |loaded, setup| match settings(loaded) {
            Ok(settings) => run(|| self(settings, setup)),
            Err(error) => Box::pin(async { Err(error) }),
        })
    }
}

/// The application's settings. One that has none says so with `()`, whatever stands in `[app]`.
fn settings<T: DeserializeOwned + 'static>(loaded: &mut LoadedConfig) -> Result<T, Error> {
    if TypeId::of::<T>() == TypeId::of::<()>() {
        let nothing = T::deserialize(UnitDeserializer::<UnitError>::new());
        return nothing
            .map_err(|error| Error::new(Kind::App, "settings of type `()`").because(error));
    }
    loaded.app()
}

/// Calls `app`. A panic in it is an error like any other: a reload must not end the process.
fn run<Fut, S>(call: impl FnOnce() -> Fut) -> BoxFuture<Result<Built, Error>>
where
    Fut: Future<Output = Result<App<S>>> + Send + 'static,
    S: Clone + Send + Sync + 'static,
{
    let future = catch_unwind(AssertUnwindSafe(call));
    Box::pin(async move {
        let made = match future {
            Ok(future) => AssertUnwindSafe(future).catch_unwind().await,
            Err(payload) => Err(payload),
        };
        match made {
            Ok(Ok(app)) => app.build(),
            Ok(Err(error)) => Err(Error::new(Kind::App, "`app` failed").because(error)),
            Err(payload) => Err(Error::new(
                Kind::App,
                format!("`app` panicked: {}", panic_text(&*payload)),
            )),
        }
    })
}

/// A hook whose panic is an error like any other: nobody would hear of it, and the process would wait for ever.
pub(super) fn hook<F, Fut>(act: F) -> Hook
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    Box::new(|| {
        Box::pin(async {
            let acted = AssertUnwindSafe(async { act().await }).catch_unwind().await;
            acted.unwrap_or_else(|payload| {
                Err(format!("it panicked: {}", panic_text(&*payload)).into())
            })
        })
    })
}

impl<S: Clone + Send + Sync + 'static> App<S> {
    /// What a generation runs.
    ///
    /// # Errors
    /// If two routes are the same.
    pub(crate) fn build(self) -> Result<Built, Error> {
        let mut routes = self.table.check()?;
        let allow = Allow::of(
            routes
                .iter()
                .map(|route| (route.method.as_str(), route.path.as_str())),
        );
        let unlisted = Listed {
            method: "ANY".to_owned(),
            path: "/*".to_owned(),
            source: "added to the tide server itself".to_owned(),
            #[cfg(feature = "openapi")]
            info: None,
        };
        let service: Arc<dyn Service> = match self.origin {
            Origin::Ours => Arc::new(Tide::new(self.server, allow)),
            Origin::Opened => {
                routes.push(unlisted);
                Arc::new(Tide::new(self.server, allow))
            }
            Origin::Given => {
                routes.push(unlisted);
                Arc::new(Tide::new(wrapped(self.server), allow))
            }
        };
        #[cfg(feature = "openapi")]
        let api = {
            self.documents
                .iter()
                .for_each(|document| document.fill(&routes));
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
        Ok(Built {
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

/// A server within one that keeps causes: a middleware can only be added inside of those that are there.
pub(crate) fn wrapped<S: Clone + Send + Sync + 'static>(inner: Server<S>) -> Server<()> {
    let mut outer = tide::new();
    outer.with(KeepCause);
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

    fn build<Args>(app: impl IntoApplication<Args>) -> Result<Built, String> {
        let mut sources = ConfigSources::new("test");
        sources.default_file = "/nonexistent".into();
        sources.sets = vec!["app.greeting=hi".into()];
        let mut loaded = sources.load().unwrap();
        let setup = Setup::new(Reason::Test, 7, crate::sync::token::token().1, None);
        let Erased(application) = app.into_application();
        block_on(application.build(&mut loaded, setup)).map_err(|error| error.chain())
    }

    #[test]
    fn an_application_takes_nothing_settings_or_settings_and_setup() {
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
        .is_ok_and(|built| built.routes.len() == 1));
    }

    #[test]
    fn an_error_and_a_panic_are_errors_with_what_they_said() {
        let failed = build(|| async { Err::<App, _>("no database".into()) });
        assert_eq!(failed.err().unwrap(), "`app` failed: no database");
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
    fn settings_are_read_without_a_call_of_the_function() {
        let Erased(application) =
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
    fn tasks_and_hooks_come_along_from_nested_applications() {
        let built = build(|| async {
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
        let names: Vec<_> = built.tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["outer", "inner"]);
        for task in built.tasks {
            let (_, told) = crate::sync::token::token();
            block_on((task.start)(told));
        }
        for hook in built.on_ready {
            assert_eq!(block_on(hook()).unwrap_err().to_string(), "not ready");
        }
        let said = built
            .on_drain
            .into_iter()
            .map(|hook| block_on(hook()).unwrap_err().to_string());
        assert_eq!(said.collect::<Vec<_>>(), ["it panicked: going"]);
    }
}
