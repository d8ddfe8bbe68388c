//! Runs an application in the test's own process, without sockets.

use std::sync::Arc;

use async_std::future::timeout;
use async_std::task::{spawn, JoinHandle};

use super::request::TestRequest;
use super::response::TestResponse;
use super::TIMEOUT;
use crate::app::Application;
use crate::config::{ConfigSources, LoadedConfig};
use crate::error::{Error, Result};
use crate::http::{Client, Context, DrainSignal, Endpoints, Reply, RequestBody, Service};
use crate::lifecycle;
use crate::observe::metrics::Metrics;
use crate::serve::{Dispatcher, DispatcherSettings, Generation, Readiness};
use crate::setup::Reason;
use crate::sync::lock::Mutex;

/// An application under test in this process.
pub(super) struct InProcess {
    application: Arc<dyn Application>,
    sources: Mutex<ConfigSources>,
    body_limit: Mutex<Option<u64>>,
    dispatcher: Dispatcher,
    endpoints: Arc<Endpoints>,
    /// The tasks that retire replaced generations. Each ends with its generation's hooks and tasks.
    retiring: Mutex<Vec<JoinHandle<()>>>,
}

impl InProcess {
    pub(super) async fn start(
        application: Arc<dyn Application>,
        sources: ConfigSources,
    ) -> Result<Self, Error> {
        let mut loaded = sources.load()?;
        let generation = build(&*application, &mut loaded, None).await?;
        Ok(InProcess {
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

    pub(super) async fn send(&self, request: TestRequest) -> Result<TestResponse> {
        let limit = *self.body_limit.lock();
        let request = request.into_hyper(|body| RequestBody::in_memory(body, limit));
        let context = Context {
            endpoints: self.endpoints.clone(),
            client: Client::default(),
            drain: DrainSignal::default(),
        };
        let Reply { response, permit } = self.dispatcher.call(request, context);
        let response = response.await;
        drop(permit);
        Ok(TestResponse::new(response))
    }

    pub(super) fn set(&self, key_and_value: String) {
        self.sources.lock().sets.push(key_and_value);
    }

    pub(super) async fn reload(&self) -> Result<()> {
        let mut loaded = self.sources.lock().load()?;
        let current = self.dispatcher.generation();
        let next = build(&*self.application, &mut loaded, Some(&current)).await?;
        let old = self.dispatcher.swap(next);
        *self.body_limit.lock() = loaded.config.http.body_limit;
        self.dispatcher
            .set_settings(DispatcherSettings::new(&loaded.config, vec![]));
        self.retiring
            .lock()
            .push(spawn(async move { old.retire().await }));
        Ok(())
    }

    pub(super) async fn drain(&self) -> Result<()> {
        self.dispatcher.set_readiness(Readiness::Leaving);
        self.dispatcher.start_drain();
        let generation = self.dispatcher.generation();
        let retiring = std::mem::take(&mut *self.retiring.lock());
        let shutdown = async {
            for replaced in retiring {
                replaced.await;
            }
            generation.retire().await;
            generation.requests.wait_until_unused().await;
        };
        timeout(TIMEOUT, shutdown).await.map_err(|_| {
            let tasks: Vec<_> = generation.unfinished().collect();
            let requests = generation.requests.in_use();
            format!(
                "the shutdown did not complete within {TIMEOUT:?}; \
                 {requests} requests in progress, unfinished tasks {tasks:?}"
            )
        })?;
        Ok(())
    }
}

async fn build(
    application: &dyn Application,
    loaded: &mut LoadedConfig,
    current: Option<&Generation>,
) -> Result<Arc<Generation>, Error> {
    Ok(lifecycle::build(application, loaded, current, Reason::Test)
        .await?
        .start())
}
