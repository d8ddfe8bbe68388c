//! An application in the test's own process: its generations, without sockets.

use std::sync::Arc;

use async_std::future::timeout;
use async_std::task::{spawn, JoinHandle};

use super::answer::Answer;
use super::request::Asked;
use super::PATIENCE;
use crate::app::Application;
use crate::config::{ConfigSources, LoadedConfig};
use crate::error::{Error, Result};
use crate::http::{Client, Context, DrainSignal, Endpoints, Reply, RequestBody, Service};
use crate::lifecycle;
use crate::observe::metrics::Metrics;
use crate::serve::{Dispatcher, DispatcherSettings, Generation, Readiness};
use crate::setup::Reason;
use crate::sync::lock::{Mutex, MutexGuard};

/// An application that answers in process.
pub(super) struct Inside {
    application: Arc<dyn Application>,
    sources: Mutex<ConfigSources>,
    body_limit: Mutex<Option<u64>>,
    dispatcher: Dispatcher,
    endpoints: Arc<Endpoints>,
    /// Generations that were replaced, while their hooks and tasks end.
    retiring: Mutex<Vec<JoinHandle<()>>>,
}

impl Inside {
    pub(super) async fn start(
        application: Arc<dyn Application>,
        sources: ConfigSources,
    ) -> Result<Self, Error> {
        let mut loaded = sources.load()?;
        let generation = build(&*application, &mut loaded, None).await?;
        Ok(Inside {
            application,
            sources: Mutex::new(sources),
            body_limit: Mutex::new(loaded.config.http.body_limit),
            dispatcher: Dispatcher::new(
                generation,
                DispatcherSettings::new(&loaded.config, vec![]),
                Metrics::new(""),
            ),
            endpoints: Arc::new(Endpoints {
                peer: "127.0.0.1:50000".into(),
                local: "127.0.0.1:8080".into(),
            }),
            retiring: Mutex::default(),
        })
    }

    pub(super) async fn send(&self, request: Asked) -> Result<Answer> {
        let limit = *lock(&self.body_limit);
        let request = request.into_request(|body| RequestBody::whole(body, limit));
        let context = Context {
            endpoints: self.endpoints.clone(),
            client: Client::default(),
            drain: DrainSignal::default(),
        };
        let Reply { response, permit } = self.dispatcher.call(request, context);
        let response = response.await;
        drop(permit);
        Ok(Answer::new(response))
    }

    pub(super) fn set(&self, key_and_value: String) {
        lock(&self.sources).sets.push(key_and_value);
    }

    pub(super) async fn reload(&self) -> Result<()> {
        let mut loaded = lock(&self.sources).load()?;
        let current = self.dispatcher.generation();
        let next = build(&*self.application, &mut loaded, Some(&current)).await?;
        let old = self.dispatcher.swap(next);
        *lock(&self.body_limit) = loaded.config.http.body_limit;
        self.dispatcher
            .set_settings(DispatcherSettings::new(&loaded.config, vec![]));
        lock(&self.retiring).push(spawn(async move { old.retire().await }));
        Ok(())
    }

    pub(super) async fn drain(&self) -> Result<()> {
        self.dispatcher.set_readiness(Readiness::Leaving);
        self.dispatcher.start_drain();
        let generation = self.dispatcher.generation();
        let retiring = std::mem::take(&mut *lock(&self.retiring));
        let over = async {
            for before in retiring {
                before.await;
            }
            generation.retire().await;
            generation.requests.wait_until_unused().await;
        };
        timeout(PATIENCE, over).await.map_err(|_| {
            let tasks: Vec<_> = generation.unfinished().collect();
            let requests = generation.requests.in_use();
            format!("not over after {PATIENCE:?}: {requests} requests, tasks {tasks:?}")
        })?;
        Ok(())
    }
}

async fn build(
    application: &dyn Application,
    loaded: &mut LoadedConfig,
    before: Option<&Generation>,
) -> Result<Arc<Generation>, Error> {
    Ok(lifecycle::build(application, loaded, before, Reason::Test)
        .await?
        .start())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}
