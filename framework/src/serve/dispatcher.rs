//! The slot of the current generation: where a request meets the application, and where a reload swaps it.

use std::sync::atomic::{AtomicU64, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use hyper::header::{HeaderValue, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode};

use super::connections::Connections;
use super::generation::Generation;
use super::health;
use crate::config::{self, Config};
use crate::http::shared::Door;
use crate::http::{refusal, Context, Endpoints, Form, Reply, RequestBody, ResponseBody};
use crate::observe::metrics::{Gauges, Metrics};
use crate::sync::limiter::Permit;
use crate::sync::lock::RwLock;
use crate::sync::token::{token, Token, Trigger};

/// What metrics call the paths of the process itself, and those that lead nowhere.
const OWN: &str = "(own)";
const UNMATCHED: &str = "(unmatched)";

/// Holds what answers at the moment.
pub(crate) struct Dispatcher {
    current: RwLock<Current>,
    reserved: RwLock<Reserved>,
    metrics: Arc<Metrics>,
    /// Everybody who is connected, to be counted for a scrape.
    connections: OnceLock<Weak<Connections>>,
    readiness: AtomicU8,
    /// Requests that have come in since the start.
    requests: AtomicU64,
}

#[derive(Clone)]
struct Current {
    generation: Arc<Generation>,
    /// Told when the requests that came through here are to finish: at a swap, a pause, a shutdown.
    drain: Arc<Trigger>,
    draining: Token,
}

/// What the settings say of it: what is answered for the process itself, and not by the application.
#[derive(Clone, Debug)]
pub(crate) struct Reserved {
    pub(crate) health: config::Health,
    /// The path of the metrics on every listener; "": none.
    pub(crate) metrics: String,
    /// The addresses of the listeners that answer nothing else.
    pub(crate) metrics_alone: Vec<String>,
    /// Over how long long-lived answers end when they are told to.
    pub(crate) spread: Duration,
}

/// What `/readyz` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Readiness {
    /// New requests are welcome.
    Ready,
    /// WINCH: nothing is accepted.
    Paused,
    /// On its way out: a balancer should look elsewhere.
    Leaving,
}

impl Dispatcher {
    pub(crate) fn new(
        generation: Arc<Generation>,
        reserved: Reserved,
        metrics: Arc<Metrics>,
    ) -> Self {
        Dispatcher {
            current: RwLock::new(Current::new(generation)),
            reserved: RwLock::new(reserved),
            metrics,
            connections: OnceLock::new(),
            readiness: AtomicU8::new(Readiness::Ready as u8),
            requests: AtomicU64::new(0),
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn generation(&self) -> Arc<Generation> {
        self.current().generation
    }

    /// From the next request on, `generation` answers. Returns the one before; its requests are told to finish.
    pub(crate) fn swap(&self, generation: Arc<Generation>) -> Arc<Generation> {
        let mut current = self.current.write();
        let old = std::mem::replace(&mut *current, Current::new(generation));
        drop(current);
        old.drain.fire();
        old.generation
    }

    /// Tells the requests that are being answered to finish.
    pub(crate) fn tell_draining(&self) {
        self.current().drain.fire();
    }

    /// Requests from now on have not been told to finish.
    pub(crate) fn resume(&self) {
        let mut current = self.current.write();
        *current = Current::new(current.generation.clone());
    }

    pub(crate) fn reserve(&self, reserved: Reserved) {
        *self.reserved.write() = reserved;
    }

    /// Whom a scrape counts.
    pub(crate) fn counts(&self, connections: &Arc<Connections>) {
        let _ = self.connections.set(Arc::downgrade(connections));
    }

    /// What a scrape looks at.
    pub(crate) fn gauges(&self) -> Gauges {
        let connections = self.connections.get().and_then(Weak::upgrade);
        let held = connections
            .as_ref()
            .map_or(0, |connections| connections.shared.memory.used());
        let count = connections.map(|connections| connections.count());
        let connections = count.map_or_else(Default::default, |count| {
            [
                ("active", count.active),
                ("idle", count.idle),
                ("parked", count.parked),
                ("tunnel", count.tunnels),
            ]
        });
        Gauges {
            generation: self.generation().number,
            connections,
            held,
        }
    }

    pub(crate) fn set_readiness(&self, readiness: Readiness) {
        self.readiness.store(readiness as u8, Ordering::Release);
    }

    fn readiness(&self) -> Readiness {
        match self.readiness.load(Ordering::Acquire) {
            0 => Readiness::Ready,
            1 => Readiness::Paused,
            _ => Readiness::Leaving,
        }
    }

    fn current(&self) -> Current {
        self.current.read().clone()
    }

    /// The answer to a request that is not the application's.
    fn own_answer(
        &self,
        reserved: &Reserved,
        request: &Request<RequestBody>,
        endpoints: &Endpoints,
    ) -> Option<Reply> {
        let alone = reserved.alone(endpoints);
        let own = reserved.meant(request.uri().path(), alone);
        if own.is_none() && !alone {
            return None;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return alone.then(|| said(refusal(StatusCode::METHOD_NOT_ALLOWED, Form::Json)));
        }
        Some(match own {
            None => said(refusal(StatusCode::NOT_FOUND, Form::Json)),
            Some(Own::Live) => said(health::live()),
            Some(Own::Ready) => Box::pin(health::ready(self.readiness(), self.generation())),
            Some(Own::Metrics) => said(scraped(self.metrics.text(&self.gauges()))),
        })
    }
}

/// What a path is reserved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Live,
    Ready,
    Metrics,
}

impl Reserved {
    pub(crate) fn of(config: &Config, metrics_alone: Vec<String>) -> Self {
        Reserved {
            health: config.health.clone(),
            metrics: config.metrics.path.clone(),
            metrics_alone,
            spread: config.shutdown.spread(),
        }
    }

    /// Whether a connection came by a listener that answers for metrics alone.
    fn alone(&self, endpoints: &Endpoints) -> bool {
        self.metrics_alone
            .iter()
            .any(|address| **address == *endpoints.local)
    }

    fn meant(&self, path: &str, alone: bool) -> Option<Own> {
        let config::Health { live, ready } = &self.health;
        let metrics = match self.metrics.as_str() {
            "" if alone => "/metrics",
            path => path,
        };
        // an empty one is switched off; that of a target in authority form is empty as well
        [
            (live.as_str(), Own::Live),
            (ready, Own::Ready),
            (metrics, Own::Metrics),
        ]
        .into_iter()
        .find(|(reserved, _)| !reserved.is_empty() && *reserved == path)
        .map(|(_, own)| own)
    }
}

fn said(response: hyper::Response<ResponseBody>) -> Reply {
    Box::pin(std::future::ready(response))
}

fn scraped(text: String) -> hyper::Response<ResponseBody> {
    let mut response = hyper::Response::new(ResponseBody::Full(text.into()));
    let open_metrics =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, open_metrics);
    response
}

impl Current {
    fn new(generation: Arc<Generation>) -> Self {
        let (drain, draining) = token();
        Current {
            generation,
            drain: Arc::new(drain),
            draining,
        }
    }
}

impl Door for Dispatcher {
    fn enter(&self, request: Request<RequestBody>, endpoints: &Arc<Endpoints>) -> (Reply, Permit) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        // seated under the lock: whoever swaps the generation afterwards finds the seat taken
        let (current, permit) = {
            let current = self.current.read();
            (
                current.clone(),
                current.generation.requests.acquire_unbounded(),
            )
        };
        let spread = {
            let reserved = self.reserved.read();
            if let Some(answer) = self.own_answer(&reserved, &request, endpoints) {
                return (answer, permit);
            }
            reserved.spread
        };
        let client = request.body().client();
        let context = Context {
            endpoints: endpoints.clone(),
            client,
            draining: current.draining,
            spread,
        };
        (current.generation.service.call(request, context), permit)
    }

    fn template(&self, path: &str, endpoints: &Endpoints) -> Arc<str> {
        let reserved = self.reserved.read();
        let alone = reserved.alone(endpoints);
        if alone || reserved.meant(path, alone).is_some() {
            return OWN.into();
        }
        drop(reserved);
        self.generation()
            .template(path)
            .unwrap_or_else(|| UNMATCHED.into())
    }
}
