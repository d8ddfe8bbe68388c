//! Serving: what a process does first, and the way from its first generation to its last connection.

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;

use async_global_executor::GlobalExecutorConfig;
use async_std::task::block_on;

use super::Runner;
use crate::config::Loaded;
use crate::control;
use crate::error::{Error, Kind};
use crate::lifecycle::{Build, Driver, Handle, Lineage, Ownership, Plan, Predecessor, Signals};
use crate::observe;
use crate::observe::metrics::Metrics;
use crate::socket::{InheritedSockets, Sockets, HANDOVER};
use crate::sys::limits::OpenFiles;
use crate::sys::spawn::Program;

impl Runner {
    pub(super) fn serve(
        self,
        mut inherited: InheritedSockets,
        program: Program,
    ) -> Result<ExitCode, Error> {
        let handover = inherited.take_fd(HANDOVER);
        let Ready {
            plan,
            loaded,
            signals,
            lineage,
        } = match self.get_ready(inherited, program.clone()) {
            Ok(ready) => ready,
            Err(error) => {
                // whoever upgrades to this process says so to whoever asked for it
                if let Some(channel) = handover {
                    block_on(Predecessor::refuse(channel, error.chain()));
                }
                return Err(error);
            }
        };
        block_on(live(plan, loaded, signals, handover))?;
        Ok(lineage.stay(&program).unwrap_or(ExitCode::SUCCESS))
    }

    /// All that comes before the application is called.
    fn get_ready(
        mut self,
        mut inherited: InheritedSockets,
        program: Program,
    ) -> Result<Ready, Error> {
        let mut signals = Signals::install()?;
        let loaded = self.sources.load()?;
        self.install_logger(&loaded)?;
        let open_files = OpenFiles::raise().with_original_soft(program.original_open_files());
        start_threads(loaded.config.threads);
        let lineage = Lineage::of(&program, &mut inherited, loaded.config.first_process)?;
        signals.route(lineage.clone());
        log::info!(
            "{} {} starts, pid {}",
            self.sources.name,
            self.shown_version(),
            std::process::id()
        );
        let plan = Plan {
            build: Build::of_this_process(self.shown_version()),
            metrics: Metrics::new(self.shown_version()),
            control: self.control_socket(&loaded, &program),
            sources: self.sources,
            application: self.application,
            sockets: Sockets::new(inherited),
            ownership: Ownership::Process,
            open_files,
            program: Some((program, lineage.clone())),
        };
        Ok(Ready {
            plan,
            loaded,
            signals,
            lineage,
        })
    }

    /// A process without a control socket still serves.
    fn control_socket(&self, loaded: &Loaded, program: &Program) -> Option<Arc<control::Socket>> {
        if !cfg!(feature = "control") {
            return None;
        }
        match control::Socket::open(&self.places(loaded, program)) {
            Ok(socket) => Some(Arc::new(socket)),
            Err(error) => {
                log::warn!("{}; serving without it", error.chain());
                None
            }
        }
    }

    pub(super) fn install_logger(&mut self, loaded: &Loaded) -> Result<(), Error> {
        let log = &loaded.config.log;
        match self.logger.take() {
            None => observe::log::init(log),
            Some(install) => install(log.level).map_err(|error| {
                Error::new(Kind::App, "the logger could not be installed").because(error)
            }),
        }
    }
}

/// What a process needs to go on from here.
struct Ready {
    plan: Plan,
    loaded: Loaded,
    signals: Signals,
    lineage: Lineage,
}

/// From the first generation to the last connection.
async fn live(
    plan: Plan,
    first: Loaded,
    mut signals: Signals,
    handover: Option<OwnedFd>,
) -> Result<(), Error> {
    let control = plan.control.clone();
    let (driver, handle) = Driver::new(plan, first, handover)?;
    let commands = control.and_then(|socket| listen_for_commands(socket, handle.clone()));
    let signalled = async_std::task::spawn(async move {
        while let Some(event) = signals.next().await {
            handle.signal(event).await;
        }
    });
    // nobody waits for the start
    let (starts, _) = async_channel::bounded(1);
    let outcome = driver.run(starts).await;
    signalled.cancel().await;
    if let Some(commands) = commands {
        commands.close().await;
    }
    observe::log::flush();
    outcome.map(drop)
}

fn listen_for_commands(socket: Arc<control::Socket>, handle: Handle) -> Option<control::Server> {
    let started = control::Server::start(socket, Arc::new(move |ask| handle.ask(ask)));
    started
        .map_err(|error| log::warn!("the control socket cannot be watched: {error}"))
        .ok()
}

/// One executor thread per core, or as many as `threads` says. It must come before the executor's first use.
fn start_threads(threads: usize) {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        some => some,
    };
    let config = GlobalExecutorConfig::default()
        .with_min_threads(threads)
        .with_max_threads(threads);
    async_global_executor::init_with_config(config.with_thread_name_fn(|| "slackwater".to_owned()));
}
