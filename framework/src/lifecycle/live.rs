//! What is running, and the steps that change it: one method for each thing that the policy asks for.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::Sender;
use async_std::task::JoinHandle;

use super::handover::Arrival;
use super::machine::Phase;
use super::reload::{Beside, Next};
use crate::config::{self, LoadedConfig, SettingChange};
use crate::http::detached::Detached;
use crate::http::idle::IdleSet;
use crate::http::transfer::Transfer;
use crate::observe::metrics::Metrics;
use crate::serve::{
    empty_queue, Acceptor, Connections, Count, Cut, Dispatcher, Generation, Readiness, Reserved,
};
use crate::socket::{Listener, ListenerOrigin};
use crate::sync::limiter::Limiter;
use crate::sync::token::{token, Token};

/// The current generation, its listeners and everybody who is connected.
pub(crate) struct Live {
    loaded: LoadedConfig,
    dispatcher: Arc<Dispatcher>,
    connections: Arc<Connections>,
    listeners: Vec<Arc<Listener>>,
    acceptors: Vec<Acceptor>,
    /// Generations that were told to retire, until their tasks and requests are over.
    retiring: Vec<Retiring>,
    /// The tasks that keep time and parked connections; they end with this.
    keepers: Vec<JoinHandle<()>>,
}

impl Live {
    /// The first generation goes live; nothing is accepted yet.
    pub(crate) fn new(next: Next, idle: IdleSet, permits: usize, metrics: Arc<Metrics>) -> Self {
        let Next {
            loaded,
            sockets,
            prepared,
            metrics_alone,
            ..
        } = next;
        let generation = prepared.start();
        metrics.set_on(is_measured(&loaded));
        let dispatcher = Arc::new(Dispatcher::new(
            generation,
            Reserved::of(&loaded.config, metrics_alone),
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
        let keepers = vec![
            async_std::task::spawn(connections.clone().tend_parked()),
            async_std::task::spawn(connections.clone().keep_time()),
        ];
        let listeners = sockets.keep().listeners;
        Live {
            loaded,
            dispatcher,
            connections,
            listeners,
            acceptors: vec![],
            retiring: vec![],
            keepers,
        }
    }

    /// What the next generation is prepared beside.
    pub(crate) fn beside(&self) -> Beside {
        Beside {
            generation: self.dispatcher.generation(),
            listeners: self.listeners.clone(),
            build_within: self.loaded.config.upgrade.ready_timeout,
        }
    }

    /// Another generation takes over, without a wait in between: application, limits, listeners.
    pub(crate) async fn swap(&mut self, next: Next, permits: usize) -> Vec<SettingChange> {
        let Next {
            loaded,
            sockets,
            prepared,
            metrics_alone,
            ..
        } = next;
        let changes = config::diff(&self.loaded, &loaded);
        let accepting = !self.acceptors.is_empty();
        self.dispatcher
            .reserve(Reserved::of(&loaded.config, metrics_alone));
        self.connections.shared.metrics.set_on(is_measured(&loaded));
        self.connections
            .shared
            .set_limits(loaded.config.http.clone());
        self.connections
            .shared
            .set_access_log(loaded.config.log.access);
        self.connections.permits.set_limit(permits);
        let old = self.dispatcher.swap(prepared.start());
        self.loaded = loaded;
        let before = std::mem::replace(&mut self.listeners, sockets.keep().listeners);
        if accepting {
            self.accept();
        }
        self.close_removed(before).await;
        self.retiring
            .retain(|retiring| !retiring.over.is_triggered());
        self.retiring.push(Retiring::begin(old));
        changes
    }

    /// Accepts on all listeners that are not accepted on yet.
    pub(crate) fn accept(&mut self) {
        for listener in &self.listeners {
            if !self
                .acceptors
                .iter()
                .any(|acceptor| Arc::ptr_eq(acceptor.listener(), listener))
            {
                log::info!("listening on {}", described(listener));
                self.acceptors
                    .push(Acceptor::start(listener.clone(), self.connections.clone()));
            }
        }
    }

    /// Stops accepting; the listeners stay open, and connections wait in their queues.
    pub(crate) async fn stop_accepting(&mut self) {
        for acceptor in self.acceptors.drain(..) {
            acceptor.stop().await;
        }
    }

    /// Stops accepting for good. What waits in a queue of our own is accepted first, since closing would reset it.
    pub(crate) async fn close_listeners(&mut self) {
        self.stop_accepting().await;
        let listeners = std::mem::take(&mut self.listeners);
        listeners.iter().for_each(|listener| self.close(listener));
    }

    async fn close_removed(&mut self, before: Vec<Arc<Listener>>) {
        let is_kept = |listener: &Arc<Listener>| {
            self.listeners
                .iter()
                .any(|kept| Arc::ptr_eq(kept, listener))
        };
        let removed: Vec<_> = before
            .into_iter()
            .filter(|listener| !is_kept(listener))
            .collect();
        for listener in removed {
            if let Some(at) = self
                .acceptors
                .iter()
                .position(|a| Arc::ptr_eq(a.listener(), &listener))
            {
                self.acceptors.swap_remove(at).stop().await;
            }
            log::info!("no longer listening on {}", described(&listener));
            self.close(&listener);
        }
    }

    /// Of the listeners that the old process had, closes those that this one does not want.
    pub(crate) fn settle(&self, succeeded: Vec<Arc<Listener>>) {
        let is_kept = |listener: &Arc<Listener>| {
            self.listeners
                .iter()
                .any(|kept| Arc::ptr_eq(kept, listener))
        };
        for listener in succeeded.iter().filter(|listener| !is_kept(listener)) {
            log::info!("no longer listening on {}", described(listener));
            self.close(listener);
        }
    }

    fn close(&self, listener: &Listener) {
        if listener.origin() == ListenerOrigin::Bound {
            let accepted = empty_queue(listener, &self.connections);
            log::debug!(
                "{accepted} connections were waiting on {}",
                listener.address()
            );
        }
        listener.close();
    }

    /// On the way out: a balancer should look elsewhere.
    pub(crate) fn leave(&self, phase: Phase) {
        let delay = self.loaded.config.shutdown.delay;
        if matches!(phase, Phase::LameDuck(_)) && !delay.is_zero() {
            log::info!("told to stop: not ready any more, still accepting for {delay:?}");
        }
        self.dispatcher.set_readiness(Readiness::Leaving);
    }

    pub(crate) fn rest(&self) {
        log::info!("paused: nothing is accepted until HUP");
        self.dispatcher.set_readiness(Readiness::Paused);
    }

    /// Keep-alive as usual again, after a pause.
    pub(crate) fn reopen(&self) {
        log::info!("resumed");
        self.dispatcher.resume();
        self.connections.reopen();
        self.dispatcher.set_readiness(Readiness::Ready);
    }

    /// Requests hear that they come to an end; answers carry `Connection: close` from now on.
    pub(crate) fn tell_draining(&self) {
        let count = self.connections.count();
        log::info!(
            "draining {} active and {} idle connections",
            count.at_work(),
            count.parked
        );
        self.connections.last_call();
        self.dispatcher.tell_draining();
    }

    pub(crate) fn close_idle(&self) {
        let parked = self.connections.close_idle();
        log::info!(
            "closed {parked} idle connections; {} are still at work",
            self.connections.count().at_work()
        );
    }

    pub(crate) fn tell_stop(&self) {
        let (active, tasks) = (self.connections.count().at_work(), self.unfinished().len());
        log::warn!(
            "the grace is over; told to stop: {active} connections, {tasks} background tasks"
        );
        self.connections.stop();
    }

    /// The background tasks that were told to stop and still run, by name and generation.
    fn unfinished(&self) -> Vec<String> {
        let named = |generation: &Arc<Generation>| {
            let number = generation.number;
            generation
                .unfinished()
                .map(|task| format!("{task:?} of generation {number}"))
                .collect::<Vec<_>>()
        };
        self.retiring
            .iter()
            .flat_map(|retiring| named(&retiring.generation))
            .collect()
    }

    /// Cuts everybody, and says whom: connections, and background tasks.
    pub(crate) fn cut(&self) -> (Vec<Cut>, Vec<String>) {
        let connections = self.connections.cut();
        let tasks = self.unfinished();
        connections
            .iter()
            .for_each(|connection| log::warn!("cut {connection}"));
        tasks
            .iter()
            .for_each(|task| log::warn!("cut background task {task}, which did not stop"));
        (connections, tasks)
    }

    /// Tells the generation that none comes after it.
    pub(crate) fn retire(&mut self) {
        self.retiring
            .push(Retiring::begin(self.dispatcher.generation()));
    }

    /// Endpoints when nobody is connected, no handler works and no background task is left.
    pub(crate) fn drained(&self) -> impl Future<Output = ()> + Send + 'static {
        let connections = self.connections.clone();
        let generations: Vec<Token> = self
            .retiring
            .iter()
            .map(|retiring| retiring.over.clone())
            .collect();
        async move {
            connections.permits.wait_until_unused().await;
            for generation in generations {
                generation.wait().await;
            }
        }
    }

    /// Whether anybody is connected, or on the way to another process.
    pub(crate) fn is_connected(&self) -> bool {
        self.connections.permits.in_use() > 0
    }

    /// Connections leave by `way`.
    pub(crate) fn hand_over(&self, way: Sender<Transfer>) {
        let count = self.connections.count();
        log::info!(
            "handing over {} active and {} idle connections",
            count.at_work(),
            count.parked
        );
        self.connections.hand_over(way);
    }

    /// What was handed over stays where it is: listeners are another's from now on, and requests hear that they come
    /// to an end. Connections that are still at work leave when they are done.
    pub(crate) fn let_go(&mut self) {
        self.listeners
            .drain(..)
            .for_each(|listener| listener.disown());
        self.dispatcher.set_readiness(Readiness::Leaving);
        self.dispatcher.tell_draining();
    }

    /// The same in a new process that is sent away. The sockets that it has from the old process, `theirs`, are that
    /// one's; those that were bound here are closed.
    pub(crate) fn give_back(&mut self, theirs: &[Arc<Listener>]) {
        let is_theirs =
            |listener: &Arc<Listener>| theirs.iter().any(|other| Arc::ptr_eq(other, listener));
        let (back, own): (Vec<_>, Vec<_>) = self.listeners.drain(..).partition(is_theirs);
        back.iter()
            .chain(theirs)
            .for_each(|listener| listener.disown());
        own.iter().for_each(|listener| self.close(listener));
        self.dispatcher.set_readiness(Readiness::Leaving);
        self.dispatcher.tell_draining();
    }

    /// Connections stay here again, and so does what comes in.
    pub(crate) fn keep(&self) {
        log::info!("resumed");
        self.connections.keep();
        self.dispatcher.set_readiness(Readiness::Ready);
    }

    /// Connections stay, and those come back that had left.
    pub(crate) fn take_back(&self, connections: Vec<Detached>) {
        self.connections.keep();
        connections
            .into_iter()
            .for_each(|connection| self.connections.adopt(connection));
    }

    /// Goes on with connections of another process.
    pub(crate) fn adopt(&self, arrivals: Vec<Arrival>) {
        for arrival in arrivals {
            self.connections
                .adopt(arrival.connection(self.connections.permits.acquire_unbounded()));
        }
    }

    pub(crate) fn count(&self) -> Count {
        self.connections.count()
    }

    /// The request that has been in the works for the longest time.
    pub(crate) fn oldest_request(&self) -> Option<Cut> {
        self.connections.oldest_request()
    }

    /// How many requests have come in since the start.
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

    /// The files to watch for changes, if the settings say so.
    pub(crate) fn watched(&self) -> Option<Vec<PathBuf>> {
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

impl Drop for Live {
    fn drop(&mut self) {
        for keeper in self.keepers.drain(..) {
            async_std::task::spawn(keeper.cancel());
        }
    }
}

/// A generation on its way out.
struct Retiring {
    generation: Arc<Generation>,
    over: Token,
}

impl Retiring {
    fn begin(generation: Arc<Generation>) -> Self {
        let (holds, over) = token();
        let retired = generation.clone();
        async_std::task::spawn(async move {
            see_out(retired).await;
            drop(holds);
        });
        Retiring { generation, over }
    }
}

/// Sees a generation to its end: hooks, tasks, requests.
async fn see_out(generation: Arc<Generation>) {
    let told = Instant::now();
    generation.retire().await;
    generation.requests.wait_until_unused().await;
    let (number, lived, took) = (generation.number, generation.age(), told.elapsed());
    if took > Duration::from_secs(1) {
        log::info!(
            "generation {number} is over after {lived:.1?}; its last requests took {took:.1?}"
        );
    } else {
        log::debug!("generation {number} is over after {lived:.1?}");
    }
}

fn is_measured(loaded: &LoadedConfig) -> bool {
    let metrics = &loaded.config.metrics;
    metrics.listen.is_some() || !metrics.path.is_empty()
}

fn described(listener: &Listener) -> String {
    match (listener.origin(), listener.name()) {
        (ListenerOrigin::Bound, _) => listener.address().to_string(),
        (ListenerOrigin::Inherited, None) => format!("{} (inherited)", listener.address()),
        (ListenerOrigin::Inherited, Some(name)) => {
            format!("{} (inherited as {name:?})", listener.address())
        }
    }
}
