//! The dispatcher passes each request to the current generation. A reload replaces the generation here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;

use super::builtin::{BuiltinAnswers, BuiltinRoutes};
use super::generation::Generation;
use super::health::Readiness;
use crate::config::Config;
use crate::http::{Context, DrainSignal, Endpoints, Reply, RequestBody, RoutedService, Service};
use crate::observe::metrics::{ConnectionGauges, Metrics};
use crate::sync::lock::RwLock;
use crate::sync::token::{token, Token, Trigger};

/// The label of built-in routes in the metrics.
const OWN: &str = "(own)";

/// The label of paths without a route in the metrics.
const UNMATCHED: &str = "(unmatched)";

/// The service that answers all requests of a process.
pub(crate) struct Dispatcher {
    current: RwLock<ActiveGeneration>,
    builtin: BuiltinAnswers,
    /// Requests since the start of the process.
    requests: AtomicU64,
}

#[derive(Clone)]
struct ActiveGeneration {
    generation: Arc<Generation>,
    /// Triggered at a swap, a pause or a shutdown. A resume after a pause replaces it.
    drain: Arc<Trigger>,
    draining: Token,
    /// The period over which clients of long-running responses reconnect.
    close_spread: Duration,
}

/// The settings of a [`Dispatcher`].
#[derive(Clone, Debug)]
pub(crate) struct DispatcherSettings {
    builtin: BuiltinRoutes,
    close_spread: Duration,
}

impl DispatcherSettings {
    /// Reads the settings. `metrics_only` contains the addresses of the listeners that serve only metrics.
    pub(crate) fn new(config: &Config, metrics_only: Vec<String>) -> Self {
        DispatcherSettings {
            builtin: BuiltinRoutes::new(config, metrics_only),
            close_spread: config.shutdown.spread(),
        }
    }
}

impl Dispatcher {
    pub(crate) fn new(
        generation: Arc<Generation>,
        settings: DispatcherSettings,
        metrics: Arc<Metrics>,
    ) -> Self {
        Dispatcher {
            current: RwLock::new(ActiveGeneration::new(generation, settings.close_spread)),
            builtin: BuiltinAnswers::new(settings.builtin, metrics),
            requests: AtomicU64::new(0),
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn generation(&self) -> Arc<Generation> {
        self.current.read().generation.clone()
    }

    /// Makes `generation` the current one. Returns the old one, after the start of its drain.
    pub(crate) fn swap(&self, generation: Arc<Generation>) -> Arc<Generation> {
        let mut current = self.current.write();
        let next = ActiveGeneration::new(generation, current.close_spread);
        let old = std::mem::replace(&mut *current, next);
        drop(current);
        old.drain.fire();
        old.generation
    }

    /// Notifies the requests in progress that they must end.
    pub(crate) fn start_drain(&self) {
        self.current.read().drain.fire();
    }

    /// Ends the drain: requests from now on are not notified.
    pub(crate) fn resume(&self) {
        let mut current = self.current.write();
        *current = ActiveGeneration::new(current.generation.clone(), current.close_spread);
    }

    pub(crate) fn set_settings(&self, settings: DispatcherSettings) {
        self.builtin.set_routes(settings.builtin);
        self.current.write().close_spread = settings.close_spread;
    }

    /// Sets the function that reads the gauges of the connections for a scrape. Only the first call has an effect.
    pub(crate) fn set_connection_gauges(
        &self,
        gauges: impl Fn() -> ConnectionGauges + Send + Sync + 'static,
    ) {
        self.builtin.set_connection_gauges(Box::new(gauges));
    }

    pub(crate) fn set_readiness(&self, readiness: Readiness) {
        self.builtin.set_readiness(readiness);
    }
}

impl ActiveGeneration {
    fn new(generation: Arc<Generation>, close_spread: Duration) -> Self {
        let (drain, draining) = token();
        ActiveGeneration {
            generation,
            drain: Arc::new(drain),
            draining,
            close_spread,
        }
    }
}

impl Service for Dispatcher {
    fn call(&self, request: Request<RequestBody>, context: Context) -> Reply {
        self.requests.fetch_add(1, Ordering::Relaxed);
        // The permit is acquired under the lock, so that a generation that was swapped out has a permit in use for each
        // of its requests.
        let (current, permit) = {
            let current = self.current.read();
            let permit = current.generation.requests.acquire_unbounded();
            (current.clone(), permit)
        };
        let generation = &current.generation;
        let builtin = self
            .builtin
            .answer(&request, &context.endpoints, generation);
        let reply = builtin.unwrap_or_else(|| {
            let drain = DrainSignal::new(current.draining, current.close_spread);
            let context = Context { drain, ..context };
            generation.service.call(request, context)
        });
        Reply {
            permit: Some(permit),
            ..reply
        }
    }
}

impl RoutedService for Dispatcher {
    fn template(&self, path: &str, endpoints: &Endpoints) -> Arc<str> {
        if self.builtin.answers(path, endpoints) {
            return OWN.into();
        }
        self.generation()
            .template(path)
            .unwrap_or_else(|| UNMATCHED.into())
    }
}
