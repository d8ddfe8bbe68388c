//! The running instance of the application, with one method for each action on it.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::Sender;
use async_std::task::JoinHandle;

use super::handover::ReceivedConnection;
use super::machine::Phase;
use super::reload::{CurrentGeneration, NextGeneration};
use crate::config::{self, LoadedConfig, SettingChange};
use crate::http::connection::{Detached, Transfer};
use crate::http::idle::IdleSet;
use crate::observe::metrics::Metrics;
use crate::serve::{
    empty_queue, Acceptor, Connections, Cut, Dispatcher, DispatcherSettings, Generation,
    OpenConnections, Readiness,
};
use crate::socket::{Listener, ListenerOrigin};
use crate::sync::limiter::Limiter;
use crate::sync::token::{token, Token};

/// The current generation, its listeners and all connections.
pub(crate) struct Instance {
    loaded: LoadedConfig,
    dispatcher: Arc<Dispatcher>,
    connections: Arc<Connections>,
    listeners: Vec<Arc<Listener>>,
    acceptors: Vec<Acceptor>,
    /// Earlier generations with requests or background tasks in progress.
    retired: Vec<RetiredGeneration>,
    /// The tasks that enforce timeouts and poll idle connections. They are cancelled on drop.
    tasks: Vec<JoinHandle<()>>,
}

impl Instance {
    /// Starts the first generation. Call [`accept`](Instance::accept) to accept connections.
    pub(crate) fn new(
        next: NextGeneration,
        idle: IdleSet,
        permits: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        let NextGeneration {
            loaded,
            listeners,
            prepared,
            metrics_only,
            ..
        } = next;
        let generation = prepared.start();
        metrics.set_on(has_metrics(&loaded));
        let dispatcher = Arc::new(Dispatcher::new(
            generation,
            DispatcherSettings::new(&loaded.config, metrics_only),
            metrics.clone(),
        ));
        let connections = Connections::new(
            dispatcher.clone(),
            loaded.config.http.clone(),
            idle,
            permits,
            metrics,
        );
        connections.shared.set_access_log(loaded.config.log.access);
        let tasks = vec![
            async_std::task::spawn(connections.clone().serve_woken()),
            async_std::task::spawn(connections.clone().keep_time()),
        ];
        Instance {
            loaded,
            dispatcher,
            connections,
            listeners: listeners.keep().listeners,
            acceptors: vec![],
            retired: vec![],
            tasks,
        }
    }

    /// Returns the parts of the current generation that the next one is prepared from.
    pub(crate) fn current(&self) -> CurrentGeneration {
        CurrentGeneration {
            generation: self.dispatcher.generation(),
            listeners: self.listeners.clone(),
            build_timeout: self.loaded.config.upgrade.ready_timeout,
        }
    }

    /// Replaces the current generation: its application, limits and listeners.
    ///
    /// No step before the new listeners accept waits for anything, so that no request sees a mixture of the two.
    pub(crate) async fn swap(
        &mut self,
        next: NextGeneration,
        permits: usize,
    ) -> Vec<SettingChange> {
        let NextGeneration {
            loaded,
            listeners,
            prepared,
            metrics_only,
            ..
        } = next;
        let changes = config::diff(&self.loaded, &loaded);
        let is_accepting = !self.acceptors.is_empty();
        self.dispatcher
            .set_settings(DispatcherSettings::new(&loaded.config, metrics_only));
        let shared = &self.connections.shared;
        shared.metrics.set_on(has_metrics(&loaded));
        shared.set_limits(loaded.config.http.clone());
        shared.set_access_log(loaded.config.log.access);
        self.connections.permits.set_limit(permits);
        let old = self.dispatcher.swap(prepared.start());
        self.loaded = loaded;
        let before = std::mem::replace(&mut self.listeners, listeners.keep().listeners);
        if is_accepting {
            self.accept();
        }
        self.close_removed(before).await;
        self.retired.retain(|retired| !retired.ended.is_triggered());
        self.retired.push(RetiredGeneration::retire(old));
        changes
    }

    /// Accepts on all listeners.
    pub(crate) fn accept(&mut self) {
        for listener in &self.listeners {
            if !self
                .acceptors
                .iter()
                .any(|acceptor| Arc::ptr_eq(acceptor.listener(), listener))
            {
                log::info!("listening on {}", describe(listener));
                self.acceptors
                    .push(Acceptor::start(listener.clone(), self.connections.clone()));
            }
        }
    }

    /// Stops accepting. The listeners stay open, and new connections wait in their queues.
    pub(crate) async fn stop_accepting(&mut self) {
        for acceptor in self.acceptors.drain(..) {
            acceptor.stop().await;
        }
    }

    /// Stops accepting and closes the listeners.
    pub(crate) async fn close_listeners(&mut self) {
        self.stop_accepting().await;
        for listener in std::mem::take(&mut self.listeners) {
            self.close(&listener);
        }
    }

    async fn close_removed(&mut self, before: Vec<Arc<Listener>>) {
        for listener in before {
            if self.has_listener(&listener) {
                continue;
            }
            if let Some(index) = self
                .acceptors
                .iter()
                .position(|acceptor| Arc::ptr_eq(acceptor.listener(), &listener))
            {
                self.acceptors.swap_remove(index).stop().await;
            }
            self.close_and_log(&listener);
        }
    }

    /// Closes those of the `inherited` listeners of the old process that the settings do not name.
    pub(crate) fn close_unused(&self, inherited: &[Arc<Listener>]) {
        for listener in inherited {
            if !self.has_listener(listener) {
                self.close_and_log(listener);
            }
        }
    }

    fn has_listener(&self, listener: &Arc<Listener>) -> bool {
        self.listeners
            .iter()
            .any(|known| Arc::ptr_eq(known, listener))
    }

    fn close_and_log(&self, listener: &Listener) {
        log::info!("no longer listening on {}", describe(listener));
        self.close(listener);
    }

    /// Closes a listener. Connections in the queue of a listener that was bound here are accepted first, because the
    /// kernel would reset them.
    fn close(&self, listener: &Listener) {
        if listener.origin() == ListenerOrigin::Bound {
            let accepted = empty_queue(listener, &self.connections);
            log::debug!(
                "accepted the last connections on {}: {accepted}",
                listener.address()
            );
        }
        listener.close();
    }

    /// Answers `/readyz` with 503, so that load balancers send no new connections.
    pub(crate) fn mark_leaving(&self, phase: Phase) {
        let delay = self.loaded.config.shutdown.delay;
        if matches!(phase, Phase::ShutdownDelay(_)) && !delay.is_zero() {
            log::info!("shutting down: /readyz answers 503; still accepting for {delay:?}");
        }
        self.dispatcher.set_readiness(Readiness::Leaving);
    }

    pub(crate) fn mark_paused(&self) {
        log::info!("paused: no connection is accepted until HUP");
        self.dispatcher.set_readiness(Readiness::Paused);
    }

    /// Keeps connections alive again after a pause.
    pub(crate) fn resume(&self) {
        log::info!("resumed");
        self.dispatcher.resume();
        self.connections.reopen();
        self.dispatcher.set_readiness(Readiness::Ready);
    }

    /// Notifies the requests in progress. Responses carry `Connection: close` from now on.
    pub(crate) fn start_draining(&self) {
        let count = self.connections.count();
        log::info!(
            "draining {} active and {} idle connections",
            count.with_task(),
            count.parked
        );
        self.connections.announce_close();
        self.dispatcher.start_drain();
    }

    pub(crate) fn close_idle(&self) {
        let closed = self.connections.close_idle();
        log::info!(
            "idle connections closed: {closed}; still active: {}",
            self.connections.count().with_task()
        );
    }

    pub(crate) fn stop_handlers(&self) {
        let (active, tasks) = (
            self.connections.count().with_task(),
            self.unfinished().len(),
        );
        log::warn!(
            "shutdown.grace is over; stopping {active} active connections and {tasks} background tasks"
        );
        self.connections.stop();
    }

    /// Returns the background tasks of retired generations that have not ended.
    fn unfinished(&self) -> Vec<String> {
        let mut unfinished = vec![];
        for RetiredGeneration { generation, .. } in &self.retired {
            let number = generation.number;
            unfinished.extend(
                generation
                    .unfinished()
                    .map(|task| format!("{task:?} of generation {number}")),
            );
        }
        unfinished
    }

    /// Closes every connection, and returns the connections that were in use and the background tasks that still run.
    pub(crate) fn cut(&self) -> (Vec<Cut>, Vec<String>) {
        let connections = self.connections.cut();
        let tasks = self.unfinished();
        for connection in &connections {
            log::warn!("closed before its end: {connection}");
        }
        for task in &tasks {
            log::warn!("background task {task} did not stop and ends with the process");
        }
        (connections, tasks)
    }

    /// Retires the current generation without a next one.
    pub(crate) fn retire(&mut self) {
        self.retired
            .push(RetiredGeneration::retire(self.dispatcher.generation()));
    }

    /// Resolves when no connection is open, no handler runs and no background task is left.
    pub(crate) fn drained(&self) -> impl Future<Output = ()> + Send + 'static {
        let connections = self.connections.clone();
        let generations: Vec<Token> = self
            .retired
            .iter()
            .map(|retired| retired.ended.clone())
            .collect();
        async move {
            connections.permits.wait_until_unused().await;
            for generation in generations {
                generation.wait().await;
            }
        }
    }

    /// Returns true if a connection is open, or is being sent to another process.
    pub(crate) fn is_connected(&self) -> bool {
        self.connections.permits.in_use() > 0
    }

    /// Sends each connection to `transfers` as it reaches a request boundary.
    pub(crate) fn hand_over(&self, transfers: Sender<Transfer>) {
        let count = self.connections.count();
        log::info!(
            "handing over {} active and {} idle connections",
            count.with_task(),
            count.parked
        );
        self.connections.hand_over(transfers);
    }

    /// Leaves the listeners to the other process, and notifies the requests in progress. Active connections are still
    /// handed over when they reach a request boundary.
    pub(crate) fn release(&mut self) {
        for listener in self.listeners.drain(..) {
            listener.disown();
        }
        self.dispatcher.set_readiness(Readiness::Leaving);
        self.dispatcher.start_drain();
    }

    /// Like [`release`](Instance::release), in a new process that was rolled back: leaves the `inherited` listeners to
    /// the old process, and closes the listeners that were bound here.
    pub(crate) fn give_back(&mut self, inherited: &[Arc<Listener>]) {
        let is_inherited =
            |listener: &Arc<Listener>| inherited.iter().any(|other| Arc::ptr_eq(other, listener));
        let (back, own): (Vec<_>, Vec<_>) = self.listeners.drain(..).partition(is_inherited);
        for listener in back.iter().chain(inherited) {
            listener.disown();
        }
        for listener in &own {
            self.close(listener);
        }
        self.dispatcher.set_readiness(Readiness::Leaving);
        self.dispatcher.start_drain();
    }

    /// Stops handing connections over.
    pub(crate) fn keep_connections(&self) {
        log::info!("resumed");
        self.connections.cancel_hand_over();
        self.dispatcher.set_readiness(Readiness::Ready);
    }

    /// Stops handing connections over, and serves `connections`, which were handed over before, again.
    pub(crate) fn take_back(&self, connections: Vec<Detached>) {
        self.connections.cancel_hand_over();
        for connection in connections {
            self.connections.serve_received(connection);
        }
    }

    /// Serves connections from another process.
    pub(crate) fn adopt(&self, received: Vec<ReceivedConnection>) {
        for connection in received {
            let permit = self.connections.permits.acquire_unbounded();
            self.connections
                .serve_received(connection.into_connection(permit));
        }
    }

    pub(crate) fn count(&self) -> OpenConnections {
        self.connections.count()
    }

    /// Returns the request that has been in progress for the longest time.
    pub(crate) fn oldest_request(&self) -> Option<Cut> {
        self.connections.oldest_request()
    }

    /// Returns the number of requests since the start of the process.
    pub(crate) fn requests(&self) -> u64 {
        self.dispatcher.requests()
    }

    pub(crate) fn permits(&self) -> &Arc<Limiter> {
        &self.connections.permits
    }

    pub(crate) fn listeners(&self) -> &[Arc<Listener>] {
        &self.listeners
    }

    pub(crate) fn config(&self) -> &config::Config {
        &self.loaded.config
    }

    /// Returns the configuration files if `reload.watch` is set.
    pub(crate) fn watched_files(&self) -> Option<Vec<PathBuf>> {
        self.loaded
            .config
            .reload
            .watch
            .then(|| self.loaded.files.clone())
    }

    pub(crate) fn generation(&self) -> Arc<Generation> {
        self.dispatcher.generation()
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.listeners
            .iter()
            .map(|listener| listener.address().to_string())
            .collect()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        for task in self.tasks.drain(..) {
            async_std::task::spawn(task.cancel());
        }
    }
}

/// A generation that was retired, and may have requests and background tasks in progress.
struct RetiredGeneration {
    generation: Arc<Generation>,
    ended: Token,
}

impl RetiredGeneration {
    fn retire(generation: Arc<Generation>) -> Self {
        let (end, ended) = token();
        let retired = generation.clone();
        async_std::task::spawn(async move {
            run_to_end(retired).await;
            drop(end);
        });
        RetiredGeneration { generation, ended }
    }
}

/// Runs the hooks of a retired generation, and waits for its tasks and requests.
async fn run_to_end(generation: Arc<Generation>) {
    let retired = Instant::now();
    generation.retire().await;
    generation.requests.wait_until_unused().await;
    let (number, age, took) = (generation.number, generation.age(), retired.elapsed());
    if took > Duration::from_secs(1) {
        log::info!(
            "generation {number} has ended after {age:.1?}; its last requests took {took:.1?}"
        );
    } else {
        log::debug!("generation {number} has ended after {age:.1?}");
    }
}

fn has_metrics(loaded: &LoadedConfig) -> bool {
    let metrics = &loaded.config.metrics;
    metrics.listen.is_some() || !metrics.path.is_empty()
}

fn describe(listener: &Listener) -> String {
    match (listener.origin(), listener.name()) {
        (ListenerOrigin::Bound, _) => listener.address().to_string(),
        (ListenerOrigin::Inherited, None) => format!("{} (inherited)", listener.address()),
        (ListenerOrigin::Inherited, Some(name)) => {
            format!("{} (inherited as {name:?})", listener.address())
        }
    }
}
