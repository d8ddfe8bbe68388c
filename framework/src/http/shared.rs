//! What all connections of a process share: the way to the application, the limits, and how far a drain has come.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU8, Ordering};
use std::sync::Arc;

use super::memory::Memory;
use super::transfer::TransferLimits;
use super::{Endpoints, Service};
use crate::config;
use crate::observe::metrics::Metrics;
use crate::sync::lock::RwLock;

/// How far the connections are told to go on: the later, the less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Keep-alive as usual.
    Open,
    /// The same, but a connection at a boundary is given back when it has a place on the way to another process.
    HandOver,
    /// An idle connection may send one last request; every answer carries `Connection: close`.
    LastCall,
    /// Idle connections close; what has begun goes on.
    CloseIdle,
    /// Bodies are waited for no longer: handlers are told to come to an end.
    Stop,
    /// Everything ends here.
    Cut,
}

impl Stage {
    const ALL: [Stage; 6] = [
        Stage::Open,
        Stage::HandOver,
        Stage::LastCall,
        Stage::CloseIdle,
        Stage::Stop,
        Stage::Cut,
    ];
}

/// The service behind all connections of a process, which also names the route of a path.
pub(crate) trait RoutedService: Service {
    /// Returns the template of the route that a path leads to, for the metrics.
    fn template(&self, path: &str, endpoints: &Endpoints) -> Arc<str>;
}

/// What all connections share.
pub(crate) struct Shared {
    stage: AtomicU8,
    limits: RwLock<Arc<config::Http>>,
    /// Counts the changes of what hyper is told once, when it is put around a socket.
    parsers: AtomicU32,
    access_log: AtomicBool,
    service: Arc<dyn RoutedService>,
    /// The places on the way to another process, while connections are handed over.
    pub(crate) transfer_limits: TransferLimits,
    pub(crate) metrics: Arc<Metrics>,
    /// Bytes that are held for all clients together.
    pub(crate) memory: Arc<Memory>,
}

impl Shared {
    pub(crate) fn new(
        service: Arc<dyn RoutedService>,
        limits: config::Http,
        metrics: Arc<Metrics>,
    ) -> Self {
        let memory = Memory::new(limits.memory());
        Shared {
            memory,
            stage: AtomicU8::new(Stage::Open as u8),
            limits: RwLock::new(Arc::new(limits)),
            parsers: AtomicU32::new(0),
            access_log: AtomicBool::new(false),
            service,
            transfer_limits: TransferLimits::new(),
            metrics,
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        Stage::ALL[usize::from(self.stage.load(Ordering::Acquire)).min(Stage::ALL.len() - 1)]
    }

    pub(crate) fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// The limits in force; they change at a reload, so nobody keeps them past a request.
    pub(crate) fn limits(&self) -> Arc<config::Http> {
        self.limits.read().clone()
    }

    pub(crate) fn set_limits(&self, limits: config::Http) {
        let mut current = self.limits.write();
        let parsed_alike = (current.max_headers, current.max_header_bytes)
            == (limits.max_headers, limits.max_header_bytes);
        self.memory.set_limit(limits.memory());
        *current = Arc::new(limits);
        if !parsed_alike {
            self.parsers.fetch_add(1, Ordering::Release);
        }
    }

    /// A number that is another one once heads are to be parsed within other limits.
    pub(crate) fn parser(&self) -> u32 {
        self.parsers.load(Ordering::Acquire)
    }

    pub(crate) fn access_log(&self) -> bool {
        self.access_log.load(Ordering::Relaxed)
    }

    pub(crate) fn set_access_log(&self, on: bool) {
        self.access_log.store(on, Ordering::Relaxed);
    }

    pub(crate) fn service(&self) -> &dyn RoutedService {
        &*self.service
    }
}
