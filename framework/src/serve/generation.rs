//! One call of the application: what answers, its background tasks, and the moment when its last request is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;

use super::templates::Templates;
use crate::app::{ApplicationParts, Check, Hook, ListedRoute, Task};
use crate::http::Service;
use crate::setup::ReusableValues;
use crate::sync::limiter::Limiter;
use crate::sync::lock::Mutex;
use crate::sync::token::{token, Token, Trigger};

/// The application as one call of `app` made it.
///
/// Each request takes a seat in it; when the last one is free again after it was replaced, it is over.
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) routes: Vec<ListedRoute>,
    /// The requests it answers at the moment.
    pub(crate) requests: Arc<Limiter>,
    /// What the next generation may reuse.
    pub(crate) reusable_values: ReusableValues,
    began: Instant,
    retire: Trigger,
    retiring: Token,
    tasks: Vec<Running>,
    on_drain: Mutex<Vec<Hook>>,
    /// What `/readyz` looks at.
    pub(crate) checks: Vec<Check>,
    templates: Templates,
}

/// A background task.
struct Running {
    name: String,
    over: Token,
}

impl Running {
    fn start(task: Task, generation: u64, stop: Token) -> Self {
        let (holds, over) = token();
        let name = task.name.clone();
        let work = std::panic::AssertUnwindSafe((task.start)(stop)).catch_unwind();
        async_std::task::spawn(async move {
            if work.await.is_err() {
                log::error!(
                    "generation {generation}: background task {name:?} panicked; it does not run any more"
                );
            }
            drop(holds);
        });
        Running {
            name: task.name,
            over,
        }
    }
}

/// A generation that is not live yet: built, checked, but without its background tasks.
pub(crate) struct Prepared {
    generation: Generation,
    tasks: Vec<Task>,
    #[cfg(feature = "openapi")]
    api: Option<crate::openapi::OpenApi>,
}

impl Prepared {
    pub(crate) fn new(
        number: u64,
        parts: ApplicationParts,
        reusable_values: ReusableValues,
        retire: Trigger,
        retiring: Token,
    ) -> Self {
        let templates = Templates::of(parts.routes.iter().map(|route| route.path.as_str()));
        let generation = Generation {
            number,
            service: parts.service,
            routes: parts.routes,
            requests: Limiter::unlimited(),
            reusable_values,
            began: Instant::now(),
            retire,
            retiring,
            tasks: vec![],
            on_drain: Mutex::new(parts.on_drain),
            checks: parts.checks,
            templates,
        };
        Prepared {
            generation,
            tasks: parts.tasks,
            #[cfg(feature = "openapi")]
            api: parts.api,
        }
    }

    /// The route table, a line each: method, path, and where it comes from.
    pub(crate) fn routes(&self) -> String {
        let routes = &self.generation.routes;
        let width = routes
            .iter()
            .map(|route| route.path.len())
            .max()
            .unwrap_or(0);
        let line =
            |ListedRoute {
                 method,
                 path,
                 source,
                 ..
             }: &ListedRoute| format!("{method:<8} {path:<width$}  {source}\n");
        routes.iter().map(line).collect()
    }

    /// The description of the routes, with the application's own head or this one.
    #[cfg(feature = "openapi")]
    pub(crate) fn openapi(&self, otherwise: impl FnOnce() -> crate::openapi::OpenApi) -> String {
        let api = self.api.clone().unwrap_or_else(otherwise);
        crate::openapi::document(&api, self.generation.routes.iter())
    }

    /// Starts the background tasks: from now on it is live.
    pub(crate) fn start(self) -> Arc<Generation> {
        let Prepared {
            mut generation,
            tasks,
            ..
        } = self;
        let (number, stop) = (generation.number, generation.retiring.clone());
        generation.tasks = tasks
            .into_iter()
            .map(|task| Running::start(task, number, stop.clone()))
            .collect();
        Arc::new(generation)
    }
}

impl Generation {
    /// Tells the generation to finish: its tokens fire, its hooks run, its tasks are joined.
    ///
    /// Endpoints when the hooks have run and the tasks have ended; its requests may go on.
    pub(crate) async fn retire(&self) {
        self.retire.fire();
        let hooks = std::mem::take(&mut *self.on_drain.lock());
        for hook in hooks {
            if let Err(error) = hook().await {
                log::warn!(
                    "generation {}: on_drain failed: {error}; draining goes on",
                    self.number
                );
            }
        }
        for task in &self.tasks {
            log::debug!(
                "generation {}: waiting for task {:?}",
                self.number,
                task.name
            );
            task.over.wait().await;
        }
    }

    /// The names of the background tasks that still run.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = &str> {
        self.tasks
            .iter()
            .filter(|task| !task.over.is_triggered())
            .map(|task| task.name.as_str())
    }

    /// The template of the route that a path leads to: `/greet/:name`.
    pub(crate) fn template(&self, path: &str) -> Option<Arc<str>> {
        self.templates.find(path)
    }

    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }
}
