//! State that all connections of a process share: the limits, the stage of a drain, metrics and the memory budget.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU8, Ordering};
use std::sync::Arc;

use super::memory::Memory;
use super::transfer::TransferLimits;
use crate::config;
use crate::observe::metrics::Metrics;
use crate::sync::lock::RwLock;

/// The stage of a drain, which decides how connections go on. Each stage from `NoKeepAlive` on includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    /// No drain: connections are kept alive.
    Open,
    /// Connections are kept alive. A connection between two requests moves to another process when it gets a permit.
    HandOver,
    /// Each answer carries `Connection: close`. An idle connection may send one more request.
    NoKeepAlive,
    /// Idle connections are closed. Requests in progress continue.
    CloseIdle,
    /// Reading a request's body fails, so that handlers end.
    Stop,
    /// All connections are closed at once.
    Cut,
}

impl Stage {
    const ALL: [Stage; 6] = [
        Stage::Open,
        Stage::HandOver,
        Stage::NoKeepAlive,
        Stage::CloseIdle,
        Stage::Stop,
        Stage::Cut,
    ];
}

/// State that all connections of a process share.
pub(crate) struct Shared {
    stage: AtomicU8,
    limits: RwLock<Arc<config::Http>>,
    /// Counts the changes of limits that hyper accepts only when it is put around a socket.
    parser_version: AtomicU32,
    access_log: AtomicBool,
    /// Limits the connections that move to another process at the same time.
    pub(crate) transfer_limits: TransferLimits,
    pub(crate) metrics: Arc<Metrics>,
    /// The budget for bytes that are held for clients.
    pub(crate) memory: Arc<Memory>,
}

impl Shared {
    pub(crate) fn new(limits: config::Http, metrics: Arc<Metrics>) -> Self {
        let memory = Memory::new(limits.memory());
        Shared {
            memory,
            stage: AtomicU8::new(Stage::Open as u8),
            limits: RwLock::new(Arc::new(limits)),
            parser_version: AtomicU32::new(0),
            access_log: AtomicBool::new(false),
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

    /// Returns the limits in force. A reload replaces them, so do not keep the result longer than one request.
    pub(crate) fn limits(&self) -> Arc<config::Http> {
        self.limits.read().clone()
    }

    pub(crate) fn set_limits(&self, limits: config::Http) {
        let mut current = self.limits.write();
        let same_parser = (current.max_headers, current.max_header_bytes)
            == (limits.max_headers, limits.max_header_bytes);
        self.memory.set_limit(limits.memory());
        *current = Arc::new(limits);
        if !same_parser {
            self.parser_version.fetch_add(1, Ordering::Release);
        }
    }

    /// Returns the version of the parser's limits. It changes when a reload changes `http.max_headers` or
    /// `http.max_header_bytes`.
    pub(crate) fn parser_version(&self) -> u32 {
        self.parser_version.load(Ordering::Acquire)
    }

    pub(crate) fn access_log(&self) -> bool {
        self.access_log.load(Ordering::Relaxed)
    }

    pub(crate) fn set_access_log(&self, on: bool) {
        self.access_log.store(on, Ordering::Relaxed);
    }
}
