//! A reload up to the point of no return: everything that can fail, done beside what serves, leaving no trace if it does.
//!
//! A start is the same with nothing beside it.

use std::sync::Arc;
use std::time::Duration;

use async_std::future::timeout;

use super::desk::Build;
use super::lineage::Lineage;
use crate::app::Application;
use crate::config::{ConfigSources, LoadedConfig};
use crate::control::Socket;
use crate::error::{Error, Kind};
use crate::observe::log;
use crate::observe::metrics::Metrics;
use crate::serve::{Generation, Prepared};
use crate::setup::{Reason, Setup};
use crate::socket::{Listener, ListenerSet, Sockets};
use crate::sync::token::token;
use crate::sys::limits::OpenFiles;
use crate::sys::spawn::Program;

/// What generations are made from.
pub(crate) struct Plan {
    pub(crate) sources: ConfigSources,
    pub(crate) application: Arc<dyn Application>,
    pub(crate) sockets: Sockets,
    pub(crate) ownership: Ownership,
    pub(crate) open_files: OpenFiles,
    /// The program, to be started again, and its generations; a guest has none.
    pub(crate) program: Option<(Program, Lineage)>,
    /// What runs, for whoever asks.
    pub(crate) build: Build,
    pub(crate) metrics: Arc<Metrics>,
    /// Where commands come in.
    pub(crate) control: Option<Arc<Socket>>,
}

/// Whether the process is ours: then its log follows the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    Process,
    Guest,
}

/// What is live while the next generation is prepared.
pub(crate) struct Beside {
    pub(crate) generation: Arc<Generation>,
    pub(crate) listeners: Vec<Arc<Listener>>,
    pub(crate) build_within: Duration,
}

/// All that is needed to go live, with nothing left that could fail.
pub(crate) struct Next {
    pub(crate) loaded: LoadedConfig,
    pub(crate) sockets: Fresh,
    /// The addresses of listeners that answer for metrics alone.
    pub(crate) metrics_alone: Vec<String>,
    /// The log's new settings, where the log is ours.
    pub(crate) log: Option<log::LogChange>,
    pub(crate) prepared: Prepared,
}

/// Prepares the first generation, or the one after `beside`, from settings that were loaded or are loaded now.
///
/// # Errors
/// When the configuration is refused, a socket cannot be had, `app` or `on_ready` fails, or they take too long.
pub(crate) async fn prepare(
    plan: &Plan,
    loaded: Option<LoadedConfig>,
    beside: Option<Beside>,
    reason: Reason,
) -> Result<Next, Error> {
    let mut loaded = loaded.map_or_else(|| plan.sources.load(), Ok)?;
    let current = beside.as_ref().map_or_else(
        || plan.sockets.bound_by_old_process(),
        |beside| beside.listeners.clone(),
    );
    let acquired = plan.sockets.acquire(
        loaded.config.listen.as_deref(),
        loaded.config.backlog,
        &current,
    )?;
    let mut fresh = Fresh { acquired, current };
    let metrics_alone = fresh.add_for_metrics(plan, &loaded)?;
    let prepared = match &beside {
        None => build(&*plan.application, &mut loaded, None, reason).await?,
        Some(Beside {
            generation,
            build_within,
            ..
        }) => {
            let build = build(&*plan.application, &mut loaded, Some(generation), reason);
            timeout(*build_within, build).await.map_err(|_| {
                Error::new(
                    Kind::App,
                    format!("the application was not ready within {build_within:?}"),
                )
            })??
        }
    };
    let log = match plan.ownership {
        Ownership::Process => Some(log::prepare(&loaded.config.log)?),
        Ownership::Guest => None,
    };
    Ok(Next {
        loaded,
        sockets: fresh,
        metrics_alone,
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
) -> Result<Prepared, Error> {
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
            .map_err(|error| Error::new(Kind::App, "on_ready refused to go live").because(error))?;
    }
    Ok(Prepared::new(
        number,
        built,
        setup.reusable_values(),
        retire,
        retiring,
    ))
}

/// Listeners that were bound for a generation which may not come: closed again unless it does.
pub(crate) struct Fresh {
    acquired: ListenerSet,
    current: Vec<Arc<Listener>>,
}

impl Fresh {
    /// Adds the listeners of `metrics.listen`; gives their addresses.
    fn add_for_metrics(
        &mut self,
        plan: &Plan,
        loaded: &LoadedConfig,
    ) -> Result<Vec<String>, Error> {
        let Some(entries) = &loaded.config.metrics.listen else {
            return Ok(vec![]);
        };
        let in_use = |listener: &&Arc<Listener>| {
            self.acquired
                .listeners
                .iter()
                .any(|l| Arc::ptr_eq(l, listener))
        };
        let free: Vec<_> = self
            .current
            .iter()
            .filter(|listener| !in_use(listener))
            .cloned()
            .collect();
        let beside = plan
            .sockets
            .acquire_other(entries, loaded.config.backlog, &free);
        let beside =
            beside.map_err(|error| Error::new(error.kind(), "metrics.listen").because(error))?;
        let addresses = beside
            .iter()
            .map(|listener| listener.address().to_string())
            .collect();
        for listener in beside {
            if !self
                .acquired
                .listeners
                .iter()
                .any(|known| Arc::ptr_eq(known, &listener))
            {
                self.acquired.listeners.push(listener);
            }
        }
        Ok(addresses)
    }

    /// The generation has come: they stay.
    pub(crate) fn keep(mut self) -> ListenerSet {
        std::mem::take(&mut self.acquired)
    }

    /// What there is to say about them.
    pub(crate) fn notes(&self) -> &[String] {
        &self.acquired.notes
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        std::mem::take(&mut self.acquired).abandon(&self.current);
    }
}
