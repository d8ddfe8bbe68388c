//! Prepares a generation: every step that can fail, without any effect on the current generation.
//!
//! The first generation is prepared in the same way, without a current one.

use std::sync::Arc;
use std::time::Duration;

use async_std::future::timeout;

use super::lineage::Lineage;
use super::pending::ProgramInfo;
use crate::app::Application;
use crate::config::{ConfigSources, LoadedConfig};
use crate::control::Socket;
use crate::error::{Error, Kind};
use crate::observe::log;
use crate::observe::metrics::Metrics;
use crate::serve::{Generation, PreparedGeneration};
use crate::setup::{Reason, Setup};
use crate::socket::{Listener, ListenerSet, Sockets};
use crate::sync::token::token;
use crate::sys::limits::OpenFiles;
use crate::sys::spawn::Program;

/// The parts of a server that outlive its generations.
pub(crate) struct ServerContext {
    pub(crate) sources: ConfigSources,
    pub(crate) application: Arc<dyn Application>,
    pub(crate) sockets: Sockets,
    pub(crate) ownership: Ownership,
    pub(crate) open_files: OpenFiles,
    /// The program that an upgrade starts again, and the record of its processes. `None` in a server that is embedded
    /// in another program.
    pub(crate) program: Option<(Program, Lineage)>,
    pub(crate) program_info: ProgramInfo,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) control: Option<Arc<Socket>>,
}

/// The owner of the process. Only if it is slackwater do the settings configure the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    Process,
    Guest,
}

/// The current generation, while the next one is prepared.
pub(crate) struct CurrentGeneration {
    pub(crate) generation: Arc<Generation>,
    pub(crate) listeners: Vec<Arc<Listener>>,
    pub(crate) build_timeout: Duration,
}

/// A generation that can go live without a step that could fail.
pub(crate) struct NextGeneration {
    pub(crate) loaded: LoadedConfig,
    pub(crate) listeners: NewListeners,
    /// The addresses of the listeners that serve only metrics.
    pub(crate) metrics_only: Vec<String>,
    /// The new settings of the log, if slackwater owns the process.
    pub(crate) log: Option<log::LogChange>,
    pub(crate) prepared: PreparedGeneration,
}

/// Prepares the next generation, or the first one if `current` is `None`. Loads the settings unless `loaded` has them.
///
/// # Errors
/// The settings are not valid, a socket cannot be opened, `app` or `on_ready` fails, or the build takes too long.
pub(crate) async fn prepare(
    context: &ServerContext,
    loaded: Option<LoadedConfig>,
    current: Option<CurrentGeneration>,
    reason: Reason,
) -> Result<NextGeneration, Error> {
    let mut loaded = loaded.map_or_else(|| context.sources.load(), Ok)?;
    let open = current.as_ref().map_or_else(
        || context.sockets.bound_by_old_process(),
        |current| current.listeners.clone(),
    );
    let acquired = context.sockets.acquire(
        loaded.config.listen.as_deref(),
        loaded.config.backlog,
        &open,
    )?;
    let mut listeners = NewListeners {
        acquired,
        current: open,
    };
    let metrics_only = listeners.add_for_metrics(context, &loaded)?;
    let prepared = match &current {
        None => build(&*context.application, &mut loaded, None, reason).await?,
        Some(current) => {
            let within = current.build_timeout;
            let build = build(
                &*context.application,
                &mut loaded,
                Some(&current.generation),
                reason,
            );
            timeout(within, build).await.map_err(|_| {
                Error::new(
                    Kind::App,
                    format!("the application was not ready within {within:?}"),
                )
            })??
        }
    };
    let log = match context.ownership {
        Ownership::Process => Some(log::prepare(&loaded.config.log)?),
        Ownership::Guest => None,
    };
    Ok(NextGeneration {
        loaded,
        listeners,
        metrics_only,
        log,
        prepared,
    })
}

/// Calls the application and its `on_ready` hooks.
pub(crate) async fn build(
    application: &dyn Application,
    loaded: &mut LoadedConfig,
    before: Option<&Generation>,
    reason: Reason,
) -> Result<PreparedGeneration, Error> {
    let number = before.map_or(1, |before| before.number + 1);
    let (retire, retiring) = token();
    let setup = Setup::new(
        reason,
        number,
        retiring.clone(),
        before.map(|before| &before.reusable_values),
    );
    let mut built = application.build(loaded, setup.clone()).await?;
    for hook in std::mem::take(&mut built.on_ready) {
        hook()
            .await
            .map_err(|error| Error::new(Kind::App, "on_ready failed").because(error))?;
    }
    Ok(PreparedGeneration::new(
        number,
        built,
        setup.reusable_values(),
        retire,
        retiring,
    ))
}

/// The listeners of the next generation. Listeners that were opened for it are closed on drop, unless
/// [`keep`](NewListeners::keep) is called.
pub(crate) struct NewListeners {
    acquired: ListenerSet,
    current: Vec<Arc<Listener>>,
}

impl NewListeners {
    /// Adds the listeners of `metrics.listen`, and returns their addresses.
    fn add_for_metrics(
        &mut self,
        context: &ServerContext,
        loaded: &LoadedConfig,
    ) -> Result<Vec<String>, Error> {
        let Some(entries) = &loaded.config.metrics.listen else {
            return Ok(vec![]);
        };
        let free: Vec<_> = self
            .current
            .iter()
            .filter(|listener| !self.contains(listener))
            .cloned()
            .collect();
        let listeners = context
            .sockets
            .acquire_other(entries, loaded.config.backlog, &free)
            .map_err(|error| Error::new(error.kind(), "metrics.listen").because(error))?;
        let addresses = listeners
            .iter()
            .map(|listener| listener.address().to_string())
            .collect();
        for listener in listeners {
            if !self.contains(&listener) {
                self.acquired.listeners.push(listener);
            }
        }
        Ok(addresses)
    }

    fn contains(&self, listener: &Arc<Listener>) -> bool {
        self.acquired
            .listeners
            .iter()
            .any(|known| Arc::ptr_eq(known, listener))
    }

    /// Keeps the listeners open, because the generation goes live.
    pub(crate) fn keep(mut self) -> ListenerSet {
        std::mem::take(&mut self.acquired)
    }

    /// Returns the warnings to log once the generation goes live.
    pub(crate) fn notes(&self) -> &[String] {
        &self.acquired.notes
    }
}

impl Drop for NewListeners {
    fn drop(&mut self) {
        std::mem::take(&mut self.acquired).abandon(&self.current);
    }
}
