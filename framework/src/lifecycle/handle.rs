//! The handle of a running server: reloads it, shuts it down, and reports the outcome.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_std::future::timeout;

use super::event::{DriverEvent, ReloadCallback};
use super::machine::Input;
use super::pending::Responder;
use crate::control::protocol::{ControlCommand, ControlResponse};
use crate::error::{Error, Kind};
use crate::serve::Cut;
use crate::sync::lock::Mutex;
use crate::sync::token::Token;

/// A handle of a running server. All clones refer to the same server.
///
/// ```no_run
/// # use slackwater::prelude::*;
/// # async fn doc() -> slackwater::Result<()> {
/// let server = slackwater::Server::new(|| async { Ok(App::new()) }).set("listen", "127.0.0.1:0");
/// let handle = server.start().await?;
/// println!("listening on {:?}", handle.addresses());
/// handle.reload().await?;
/// let report = handle.shutdown(std::time::Duration::from_secs(5)).await?;
/// for connection in &report.cut {
///     eprintln!("closed before its end: {connection}");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Handle {
    pub(super) events: Sender<DriverEvent>,
    pub(super) state: Arc<HandleState>,
    pub(super) ended: Token,
}

/// The state that the driver shares with its handles.
#[derive(Default)]
pub(super) struct HandleState {
    pub(super) addresses: Mutex<Vec<String>>,
    pub(super) report: Mutex<Report>,
}

/// The outcome of a shutdown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The time from the first step of the shutdown to the last.
    pub took: Duration,
    /// The connections that were closed before their request had ended. Empty after a graceful shutdown.
    pub cut: Vec<Cut>,
    /// The background tasks that had not stopped when the server ended, as `"name" of generation 1`.
    pub tasks: Vec<String>,
}

/// The error of a shutdown that exceeds its deadline.
///
/// The shutdown continues by the settings in `[shutdown]`. [`Handle::close`] ends it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadlineExceeded {
    /// The deadline that was passed to [`Handle::shutdown`].
    pub deadline: Duration,
}

impl Handle {
    /// Returns the addresses of the listeners, as `127.0.0.1:8080` or `unix:/run/app.sock`.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.state.addresses.lock().clone()
    }

    /// Loads the settings and replaces the current generation of the application by a new one.
    ///
    /// # Errors
    /// The new generation could not be prepared, and the current one stays live; or the server is shutting down.
    pub async fn reload(&self) -> Result<(), Error> {
        let (sender, outcome) = async_channel::bounded(1);
        let not_running = || {
            Error::new(
                Kind::NotRunning,
                "the server is shutting down or has ended; nothing was reloaded",
            )
        };
        let callback = move |outcome: Result<String, Error>| {
            let _ = sender.try_send(outcome.map(drop));
        };
        self.events
            .send(DriverEvent::Reload(ReloadCallback::new(callback)))
            .await
            .map_err(|_| not_running())?;
        outcome.recv().await.map_err(|_| not_running())?
    }

    /// Shuts down as Go's `http.Server.Shutdown` does: stops accepting, waits for requests in progress, closes idle
    /// connections, and returns when nothing is left.
    ///
    /// # Errors
    /// The shutdown took longer than `deadline`. It continues.
    pub async fn shutdown(&self, deadline: Duration) -> Result<Report, DeadlineExceeded> {
        self.signal(Input::Quit).await;
        timeout(deadline, self.ended.wait())
            .await
            .map_err(|_| DeadlineExceeded { deadline })?;
        Ok(self.report())
    }

    /// Closes every connection at once and ends the server. The report lists the connections that were still in use.
    pub async fn close(&self) -> Report {
        self.signal(Input::Close).await;
        self.ended.wait().await;
        self.report()
    }

    /// Resolves when the server has ended for any reason.
    pub async fn ended(&self) {
        self.ended.wait().await;
    }

    /// Sends a command of an operator to the driver. The channel stays empty if the server has ended.
    pub(crate) fn ask(&self, ask: ControlCommand) -> Receiver<ControlResponse> {
        let (responder, answers) = async_channel::unbounded();
        let _ = self
            .events
            .try_send(DriverEvent::Command(ask, Responder(responder)));
        answers
    }

    /// Sends an input to the driver. Does nothing if the server has ended.
    pub(crate) async fn signal(&self, input: Input) {
        let _ = self.events.send(DriverEvent::Input(input)).await;
    }

    fn report(&self) -> Report {
        self.state.report.lock().clone()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("addresses", &self.addresses())
            .finish()
    }
}

impl fmt::Display for DeadlineExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the shutdown did not end within {:?}; it continues",
            self.deadline
        )
    }
}

impl std::error::Error for DeadlineExceeded {}
