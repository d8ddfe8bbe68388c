//! The answers of the framework itself: health checks and metrics.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use hyper::header::{HeaderValue, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};

use super::generation::Generation;
use super::health::{self, Readiness};
use crate::config::{self, Config};
use crate::http::{error_response, Endpoints, ErrorFormat, Reply, RequestBody, ResponseBody};
use crate::observe::metrics::{ConnectionGauges, Gauges, Metrics};
use crate::sync::lock::RwLock;

/// Answers the requests for built-in routes.
pub(super) struct BuiltinAnswers {
    routes: RwLock<BuiltinRoutes>,
    readiness: AtomicU8,
    metrics: Arc<Metrics>,
    /// Counts the connections for a scrape. Empty in a server without connections, as in a test in process.
    connection_gauges: OnceLock<ReadGauges>,
}

/// Reads the gauges of the connections.
type ReadGauges = Box<dyn Fn() -> ConnectionGauges + Send + Sync>;

/// The paths and listeners that the settings reserve for the framework.
#[derive(Clone, Debug)]
pub(super) struct BuiltinRoutes {
    health: config::Health,
    /// The path of the metrics on every listener. If it is empty, only the listeners of `metrics.listen` serve them.
    metrics: String,
    /// The addresses of the listeners that serve only metrics.
    metrics_only: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BuiltinRoute {
    Live,
    Ready,
    Metrics,
}

impl BuiltinAnswers {
    pub(super) fn new(routes: BuiltinRoutes, metrics: Arc<Metrics>) -> Self {
        BuiltinAnswers {
            routes: RwLock::new(routes),
            readiness: AtomicU8::new(Readiness::Ready as u8),
            metrics,
            connection_gauges: OnceLock::new(),
        }
    }

    pub(super) fn set_routes(&self, routes: BuiltinRoutes) {
        *self.routes.write() = routes;
    }

    pub(super) fn set_readiness(&self, readiness: Readiness) {
        self.readiness.store(readiness as u8, Ordering::Release);
    }

    pub(super) fn set_connection_gauges(&self, gauges: ReadGauges) {
        let _ = self.connection_gauges.set(gauges);
    }

    /// Returns true if the framework answers this path on this listener.
    pub(super) fn answers(&self, path: &str, endpoints: &Endpoints) -> bool {
        let routes = self.routes.read();
        routes.is_metrics_only(endpoints) || routes.find(path, endpoints).is_some()
    }

    /// Answers a request for a built-in route. Returns `None` if the application must answer.
    pub(super) fn answer(
        &self,
        request: &Request<RequestBody>,
        endpoints: &Endpoints,
        generation: &Arc<Generation>,
    ) -> Option<Reply> {
        let error = |status| Reply::ready(error_response(status, ErrorFormat::Json));
        let (route, is_metrics_only) = {
            let routes = self.routes.read();
            (
                routes.find(request.uri().path(), endpoints),
                routes.is_metrics_only(endpoints),
            )
        };
        if route.is_none() && !is_metrics_only {
            return None;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return is_metrics_only.then(|| error(StatusCode::METHOD_NOT_ALLOWED));
        }
        Some(match route {
            None => error(StatusCode::NOT_FOUND),
            Some(BuiltinRoute::Live) => Reply::ready(health::live()),
            Some(BuiltinRoute::Ready) => {
                Reply::new(health::ready(self.readiness(), generation.clone()))
            }
            Some(BuiltinRoute::Metrics) => Reply::ready(self.scrape(generation)),
        })
    }

    fn readiness(&self) -> Readiness {
        match self.readiness.load(Ordering::Acquire) {
            0 => Readiness::Ready,
            1 => Readiness::Paused,
            _ => Readiness::Leaving,
        }
    }

    fn scrape(&self, generation: &Generation) -> Response<ResponseBody> {
        let read = self.connection_gauges.get();
        let gauges = Gauges {
            generation: generation.number,
            connections: read.map_or_else(Default::default, |read| read()),
        };
        let text = self.metrics.text(&gauges);
        let mut response = Response::new(ResponseBody::Full(text.into()));
        let open_metrics =
            HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, open_metrics);
        response
    }
}

impl BuiltinRoutes {
    /// Reads the routes from the settings. `metrics_only` contains the addresses of the listeners that serve only
    /// metrics.
    pub(super) fn new(config: &Config, metrics_only: Vec<String>) -> Self {
        BuiltinRoutes {
            health: config.health.clone(),
            metrics: config.metrics.path.clone(),
            metrics_only,
        }
    }

    /// Returns true if the connection was accepted on a listener that serves only metrics.
    fn is_metrics_only(&self, endpoints: &Endpoints) -> bool {
        self.metrics_only
            .iter()
            .any(|address| **address == *endpoints.local)
    }

    fn find(&self, path: &str, endpoints: &Endpoints) -> Option<BuiltinRoute> {
        let config::Health { live, ready } = &self.health;
        let metrics = match self.metrics.as_str() {
            "" if self.is_metrics_only(endpoints) => "/metrics",
            path => path,
        };
        // an empty path switches a route off; the path of a target in authority form is empty, too
        [
            (live.as_str(), BuiltinRoute::Live),
            (ready, BuiltinRoute::Ready),
            (metrics, BuiltinRoute::Metrics),
        ]
        .into_iter()
        .find(|(builtin, _)| !builtin.is_empty() && *builtin == path)
        .map(|(_, route)| route)
    }
}
