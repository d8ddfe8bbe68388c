//! A generation of the application: its service, its background tasks and its requests.

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

/// The result of one call of the application's function.
///
/// Each request holds a permit of its generation. A generation that was replaced ends when its last permit is released.
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) routes: Vec<ListedRoute>,
    /// The permits of the requests in progress.
    pub(crate) requests: Arc<Limiter>,
    /// The values that the next generation may reuse.
    pub(crate) reusable_values: ReusableValues,
    started: Instant,
    retire: Trigger,
    retiring: Token,
    tasks: Vec<BackgroundTask>,
    on_drain: Mutex<Vec<Hook>>,
    /// The checks that `/readyz` runs.
    pub(crate) checks: Vec<Check>,
    templates: Templates,
}

/// A background task.
struct BackgroundTask {
    name: String,
    ended: Token,
}

impl BackgroundTask {
    fn start(task: Task, generation: u64, stop: Token) -> Self {
        let (running, ended) = token();
        let name = task.name.clone();
        let work = std::panic::AssertUnwindSafe((task.start)(stop)).catch_unwind();
        async_std::task::spawn(async move {
            if work.await.is_err() {
                log::error!(
                    "generation {generation}: background task {name:?} panicked; it is not started again"
                );
            }
            drop(running);
        });
        BackgroundTask {
            name: task.name,
            ended,
        }
    }
}

/// A generation that was built and checked, but whose background tasks have not been started.
pub(crate) struct PreparedGeneration {
    generation: Generation,
    tasks: Vec<Task>,
    #[cfg(feature = "openapi")]
    api: Option<crate::openapi::OpenApi>,
}

impl PreparedGeneration {
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
            started: Instant::now(),
            retire,
            retiring,
            tasks: vec![],
            on_drain: Mutex::new(parts.on_drain),
            checks: parts.checks,
            templates,
        };
        PreparedGeneration {
            generation,
            tasks: parts.tasks,
            #[cfg(feature = "openapi")]
            api: parts.api,
        }
    }

    /// Returns the route table: a line with method, path and place in the source for each route.
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

    /// Returns the OpenAPI description of the routes, with the application's own head or `default_head`.
    #[cfg(feature = "openapi")]
    pub(crate) fn openapi(&self, default_head: impl FnOnce() -> crate::openapi::OpenApi) -> String {
        let api = self.api.clone().unwrap_or_else(default_head);
        crate::openapi::document(&api, self.generation.routes.iter())
    }

    /// Starts the background tasks. Call it when the generation becomes live.
    pub(crate) fn start(self) -> Arc<Generation> {
        let PreparedGeneration {
            mut generation,
            tasks,
            ..
        } = self;
        let (number, stop) = (generation.number, generation.retiring.clone());
        generation.tasks = tasks
            .into_iter()
            .map(|task| BackgroundTask::start(task, number, stop.clone()))
            .collect();
        Arc::new(generation)
    }
}

impl Generation {
    /// Ends the background work of the generation: triggers its token, runs its `on_drain` hooks, and waits for its tasks.
    ///
    /// Its requests may still be in progress when this returns.
    pub(crate) async fn retire(&self) {
        self.retire.fire();
        let hooks = std::mem::take(&mut *self.on_drain.lock());
        for hook in hooks {
            if let Err(error) = hook().await {
                log::warn!(
                    "generation {}: an on_drain hook failed: {error}; draining continues",
                    self.number
                );
            }
        }
        for task in &self.tasks {
            log::debug!(
                "generation {}: waiting for background task {:?}",
                self.number,
                task.name
            );
            task.ended.wait().await;
        }
    }

    /// Returns the names of the background tasks that have not ended.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = &str> {
        self.tasks
            .iter()
            .filter(|task| !task.ended.is_triggered())
            .map(|task| task.name.as_str())
    }

    /// Returns the template of the route that a path leads to, such as `/greet/:name`.
    pub(crate) fn template(&self, path: &str) -> Option<Arc<str>> {
        self.templates.find(path)
    }

    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }
}
