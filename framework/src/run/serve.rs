//! Serves an application: the preparations of the process, then its run until the last connection is closed.

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;

use async_global_executor::GlobalExecutorConfig;
use async_std::task::block_on;

use super::Runner;
use crate::config::LoadedConfig;
use crate::control;
use crate::error::{Error, Kind};
use crate::lifecycle::{
    Driver, Handle, Lineage, Ownership, Predecessor, ProgramInfo, ServerContext, Signals,
};
use crate::observe;
use crate::observe::metrics::Metrics;
use crate::socket::{InheritedSockets, Sockets, HANDOVER};
use crate::sys::limits::OpenFiles;
use crate::sys::spawn::Program;

impl Runner {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the program is recorded once and belongs to the server from here on"
    )]
    pub(super) fn serve(
        self,
        mut inherited: InheritedSockets,
        program: Program,
    ) -> Result<ExitCode, Error> {
        let handover = inherited.take_fd(HANDOVER);
        let Startup {
            context,
            loaded,
            signals,
            lineage,
        } = match self.prepare(inherited, program.clone()) {
            Ok(startup) => startup,
            Err(error) => {
                // The old process reports this error to the operator who requested the upgrade.
                if let Some(channel) = handover {
                    block_on(Predecessor::refuse(channel, error.chain()));
                }
                return Err(error);
            }
        };
        block_on(run_driver(context, loaded, signals, handover))?;
        Ok(lineage.stay(&program).unwrap_or(ExitCode::SUCCESS))
    }

    /// Prepares the process: settings, logger, signals and threads. The application is not called yet.
    fn prepare(
        mut self,
        mut inherited: InheritedSockets,
        program: Program,
    ) -> Result<Startup, Error> {
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
        let context = ServerContext {
            program_info: ProgramInfo::of_this_process(self.shown_version()),
            metrics: Metrics::new(self.shown_version()),
            control: self.control_socket(&loaded, &program),
            sources: self.sources,
            application: self.application,
            sockets: Sockets::new(inherited),
            ownership: Ownership::Process,
            open_files,
            program: Some((program, lineage.clone())),
        };
        Ok(Startup {
            context,
            loaded,
            signals,
            lineage,
        })
    }

    /// Opens the control socket. Returns `None` and logs a warning if that fails, because the process can serve without it.
    fn control_socket(
        &self,
        loaded: &LoadedConfig,
        program: &Program,
    ) -> Option<Arc<control::Socket>> {
        if !cfg!(feature = "control") {
            return None;
        }
        match control::Socket::open(&self.places(loaded, program)) {
            Ok(socket) => Some(Arc::new(socket)),
            Err(error) => {
                log::warn!(
                    "{}; commands such as `status` will not reach this process",
                    error.chain()
                );
                None
            }
        }
    }

    pub(super) fn install_logger(&mut self, loaded: &LoadedConfig) -> Result<(), Error> {
        let log = &loaded.config.log;
        match self.logger.take() {
            None => observe::log::init(log),
            Some(install) => install(log.level).map_err(|error| {
                Error::new(Kind::App, "the application's logger could not be installed")
                    .because(error)
            }),
        }
    }
}

/// The result of the preparations.
struct Startup {
    context: ServerContext,
    loaded: LoadedConfig,
    signals: Signals,
    lineage: Lineage,
}

/// Runs the driver until the last connection is closed, with signals and commands as its input.
async fn run_driver(
    context: ServerContext,
    first: LoadedConfig,
    mut signals: Signals,
    handover: Option<OwnedFd>,
) -> Result<(), Error> {
    let control = context.control.clone();
    let (driver, handle) = Driver::new(context, first, handover)?;
    let commands = control.and_then(|socket| start_control_server(socket, handle.clone()));
    let signal_task = async_std::task::spawn(async move {
        while let Some(input) = signals.next().await {
            handle.signal(input).await;
        }
    });
    // The receiver is dropped, because nothing waits for the start here.
    let (started, _) = async_channel::bounded(1);
    let outcome = driver.run(started).await;
    signal_task.cancel().await;
    if let Some(commands) = commands {
        commands.close().await;
    }
    observe::log::flush();
    outcome.map(drop)
}

fn start_control_server(socket: Arc<control::Socket>, handle: Handle) -> Option<control::Server> {
    let server = control::Server::start(socket, Arc::new(move |ask| handle.ask(ask)));
    server
        .map_err(|error| log::warn!("the control socket cannot receive commands; the process serves without it: {error}"))
        .ok()
}

/// Configures the executor: `threads` threads, or one per core if it is 0. Call this before the executor is first used.
fn start_threads(threads: usize) {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let config = GlobalExecutorConfig::default()
        .with_min_threads(threads)
        .with_max_threads(threads);
    async_global_executor::init_with_config(config.with_thread_name_fn(|| "slackwater".to_owned()));
}
