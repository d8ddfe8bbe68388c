//! A hand on a running server: reload it, shut it down, and learn what became of its connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_std::future::timeout;

use super::desk::Asker;
use super::happening::{Happening, Reply};
use crate::control::protocol::{ControlCommand, ControlResponse};
use crate::error::{Error, Kind};
use crate::serve::Cut;
use crate::sync::lock::Mutex;
use crate::sync::token::Token;

/// A hand on a running server; clones are hands on the same one.
///
/// ```no_run
/// # use slackwater::prelude::*;
/// # async fn doc() -> slackwater::Result<()> {
/// let server = slackwater::Server::new(|| async { Ok(App::new()) }).set("listen", "127.0.0.1:0");
/// let handle = server.start().await?;
/// let report = handle.shutdown(std::time::Duration::from_secs(5)).await?;
/// assert!(report.cut.is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Handle {
    pub(super) events: Sender<Happening>,
    pub(super) shared: Arc<Shared>,
    pub(super) over: Token,
}

/// What the driver leaves for its handles.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) addresses: Mutex<Vec<String>>,
    pub(super) report: Mutex<Report>,
}

/// How a shutdown went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// From the first step to the last.
    pub took: Duration,
    /// The connections that were still at work when everything was cut; none, if all went well.
    pub cut: Vec<Cut>,
    /// The background tasks that had been told to stop and still ran then.
    pub tasks: Vec<String>,
}

/// A shutdown was not over by its deadline. It goes on by the settings in `[shutdown]`; [`Handle::close`] ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadlineExceeded {
    /// The deadline that was given.
    pub deadline: Duration,
}

impl Handle {
    /// The addresses that are listened on, as `127.0.0.1:8080` or `unix:/run/app.sock`.
    ///
    /// ```no_run
    /// fn port(handle: &slackwater::Handle) -> Option<String> { handle.addresses().into_iter().next() }
    /// ```
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.shared.addresses.lock().clone()
    }

    /// Loads the settings anew and puts a new generation of the application in place of the current one.
    ///
    /// # Errors
    /// When anything about the new generation failed; the current one serves on as if nothing had been asked.
    ///
    /// ```no_run
    /// # async fn doc(handle: slackwater::Handle) -> Result<(), slackwater::Error> {
    /// handle.reload().await
    /// # }
    /// ```
    pub async fn reload(&self) -> Result<(), Error> {
        let (reply, outcome) = async_channel::bounded(1);
        let gone = || {
            Error::new(
                Kind::NotRunning,
                "the server is shutting down or gone; nothing was reloaded",
            )
        };
        let told = move |outcome: Result<String, Error>| drop(reply.try_send(outcome.map(drop)));
        self.events
            .send(Happening::Reload(Reply::new(told)))
            .await
            .map_err(|_| gone())?;
        outcome.recv().await.map_err(|_| gone())?
    }

    /// Shuts down as Go's `http.Server.Shutdown` does: stops accepting, lets requests in flight finish, closes idle
    /// connections, and returns when nothing is left.
    ///
    /// # Errors
    /// When that took longer than `deadline`; the shutdown goes on.
    ///
    /// ```no_run
    /// # async fn doc(handle: slackwater::Handle) -> Result<(), slackwater::DeadlineExceeded> {
    /// let report = handle.shutdown(std::time::Duration::from_secs(30)).await?;
    /// println!("shut down in {:?}", report.took);
    /// # Ok(()) }
    /// ```
    pub async fn shutdown(&self, deadline: Duration) -> Result<Report, DeadlineExceeded> {
        // a server that is gone already does not hear it
        self.signal(super::Event::Quit).await;
        timeout(deadline, self.over.wait())
            .await
            .map_err(|_| DeadlineExceeded { deadline })?;
        Ok(self.report())
    }

    /// Cuts every connection at once, and says whom that met.
    ///
    /// ```no_run
    /// # async fn doc(handle: slackwater::Handle) {
    /// for cut in handle.close().await.cut { eprintln!("cut {cut}"); }
    /// # }
    /// ```
    pub async fn close(&self) -> Report {
        self.signal(super::Event::Close).await;
        self.over.wait().await;
        self.report()
    }

    /// Resolves when the server has ended, for whatever reason.
    ///
    /// ```no_run
    /// # async fn doc(handle: slackwater::Handle) { handle.ended().await; }
    /// ```
    pub async fn ended(&self) {
        self.over.wait().await;
    }

    /// Passes on what an operator asks. Nothing comes where the server is gone.
    pub(crate) fn ask(&self, ask: ControlCommand) -> Receiver<ControlResponse> {
        let (asker, answers) = async_channel::unbounded();
        let _ = self.events.try_send(Happening::Asked(ask, Asker(asker)));
        answers
    }

    /// Passes a signal on.
    pub(crate) async fn signal(&self, event: super::Event) {
        let _ = self.events.send(Happening::Signal(event)).await;
    }

    fn report(&self) -> Report {
        self.shared.report.lock().clone()
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
            "the shutdown was not over within {:?}; it goes on",
            self.deadline
        )
    }
}

impl std::error::Error for DeadlineExceeded {}
