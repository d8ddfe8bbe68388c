//! The slot of the current generation: where a request meets the application, and where a reload swaps it.

use std::sync::atomic::{AtomicU64, AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::{Method, Request, StatusCode};

use super::generation::Generation;
use crate::config::{self, Config};
use crate::http::env::Door;
use crate::http::limits::Seat;
use crate::http::{refusal, Context, Ends, Form, Reply, RequestBody, ResponseBody};
use crate::token::{token, Token, Trigger};

/// Holds what answers at the moment.
pub(crate) struct Slot {
    current: RwLock<Current>,
    manners: RwLock<Manners>,
    readiness: AtomicU8,
    /// Requests that have come in since the start.
    requests: AtomicU64,
}

/// What the settings say of it.
struct Manners {
    health: config::Health,
    /// Over how long long-lived answers end when they are told to.
    spread: Duration,
}

#[derive(Clone)]
struct Current {
    generation: Arc<Generation>,
    /// Told when the requests that came through here are to finish: at a swap, a pause, a shutdown.
    drain: Arc<Trigger>,
    draining: Token,
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

impl Slot {
    pub(crate) fn new(generation: Arc<Generation>, config: &Config) -> Self {
        Slot {
            current: RwLock::new(Current::new(generation)),
            manners: RwLock::new(Manners::of(config)),
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
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, Current::new(generation));
        drop(current);
        old.drain.tell();
        old.generation
    }

    /// Tells the requests that are being answered to finish.
    pub(crate) fn tell_draining(&self) {
        self.current().drain.tell();
    }

    /// Requests from now on have not been told to finish.
    pub(crate) fn resume(&self) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Current::new(current.generation.clone());
    }

    pub(crate) fn configure(&self, config: &Config) {
        *self.manners.write().unwrap_or_else(PoisonError::into_inner) = Manners::of(config);
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
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The answer to a probe, if this is one.
    fn probe(
        &self,
        health: &config::Health,
        request: &Request<RequestBody>,
    ) -> Option<hyper::Response<ResponseBody>> {
        let path = request.uri().path();
        let (is_live, is_ready) = (health.live == path, health.ready == path);
        if !(is_live || is_ready) || !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        Some(match self.readiness() {
            Readiness::Ready => plain("ok\n"),
            Readiness::Paused | Readiness::Leaving if is_live => plain("ok\n"),
            Readiness::Paused | Readiness::Leaving => refusal(StatusCode::SERVICE_UNAVAILABLE, Form::Json),
        })
    }
}

impl Current {
    fn new(generation: Arc<Generation>) -> Self {
        let (drain, draining) = token();
        Current { generation, drain: Arc::new(drain), draining }
    }
}

impl Manners {
    fn of(config: &Config) -> Self {
        Manners { health: config.health.clone(), spread: config.shutdown.spread() }
    }
}

impl Door for Slot {
    fn enter(&self, request: Request<RequestBody>, ends: &Arc<Ends>) -> (Reply, Seat) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        // seated under the lock: whoever swaps the generation afterwards finds the seat taken
        let (current, seat) = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            (current.clone(), current.generation.requests.squeeze_in())
        };
        let spread = {
            let manners = self.manners.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(answer) = self.probe(&manners.health, &request) {
                return (Box::pin(std::future::ready(answer)), seat);
            }
            manners.spread
        };
        let context = Context { ends: ends.clone(), draining: current.draining, spread };
        (current.generation.service.call(request, context), seat)
    }
}

fn plain(text: &'static str) -> hyper::Response<ResponseBody> {
    hyper::Response::new(ResponseBody::Full(text.into()))
}
