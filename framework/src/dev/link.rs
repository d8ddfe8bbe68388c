//! A generation's tie to its keeper: what failed is told by it, and a generation ends when its keeper is gone.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use figment::providers::Serialized;
use figment::Figment;
use rustix::process::{getpid, kill_process, Signal};

use super::pages::{BUILT, CHILD, REFUSED};

/// Where the keeper is, for those that it starts and their successors.
pub(super) const VARIABLE: &str = "SLACKWATER_DEV";

/// The way to the keeper.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    socket: PathBuf,
}

impl Link {
    /// Takes it out of the environment, which is read for settings and passed to children afterwards.
    pub(crate) fn take() -> Option<Self> {
        let socket = std::env::var_os(VARIABLE)?;
        std::env::remove_var(VARIABLE);
        Some(Link {
            socket: socket.into(),
        })
    }

    /// What is set otherwise under `dev`, below the application's own layer: the next change is not to wait until the
    /// last one is proven, nor be refused because processes before it still drain, each with a stream that never ends.
    pub(crate) fn settings(&self, application: Option<Figment>) -> Figment {
        let ours = Figment::from(Serialized::default("upgrade.rollback_window", "500ms"))
            .merge(Serialized::default("shutdown.grace", "2s"))
            .merge(Serialized::default("shutdown.force_after", "500ms"));
        application.map_or(ours.clone(), |application| ours.merge(application))
    }

    /// Has the pages show why the newest code or settings do not serve.
    pub(super) fn refused(&self, title: &str, why: &str) {
        // without a keeper the log says it
        let _ = self.call(&format!("{REFUSED} {title}"), why);
    }

    /// Tells that the application is built, and nothing is left but to go live.
    pub(super) fn built(&self) {
        let _ = self.call(BUILT, "");
    }

    /// Leaves when the keeper is gone, however that came: it holds the terminal and the sockets.
    pub(crate) fn end_with_the_keeper(&self) {
        let Ok(mut stream) = self.call(CHILD, "") else {
            return;
        };
        thread::spawn(move || {
            let _ = stream.read(&mut [0]);
            log::warn!("`dev` is gone, and what it started goes too");
            let _ = kill_process(getpid(), Signal::QUIT);
        });
    }

    /// A connection to the keeper, for `purpose`.
    pub(super) fn call(&self, purpose: &str, text: &str) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.write_all(format!("{purpose}\n{text}").as_bytes())?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_application_sets_stands_above_what_dev_does() {
        let link = Link {
            socket: PathBuf::new(),
        };
        let text = |figment: &Figment, key: &str| figment.extract_inner::<String>(key).unwrap();
        let ours = link.settings(None);
        assert_eq!(
            (
                text(&ours, "shutdown.grace"),
                text(&ours, "shutdown.force_after")
            ),
            ("2s".into(), "500ms".into())
        );
        let theirs = link.settings(Some(Figment::from(Serialized::default(
            "shutdown.grace",
            "9s",
        ))));
        assert_eq!(
            (
                text(&theirs, "shutdown.grace"),
                text(&theirs, "upgrade.rollback_window")
            ),
            ("9s".into(), "500ms".into())
        );
    }
}
