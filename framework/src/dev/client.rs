//! The program's client of the `dev` process: reports failures, and exits when the `dev` process is
//! gone.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use figment::providers::Serialized;
use figment::Figment;
use rustix::process::{getpid, kill_process, Signal};

use super::protocol::{BUILT, CHILD, REFUSED, SOCKET_VARIABLE};

/// A client of the `dev` process, in the program that it has started.
#[derive(Clone, Debug)]
pub(crate) struct DevClient {
    socket: PathBuf,
}

impl DevClient {
    /// Returns the client if this process was started by `APP dev`.
    ///
    /// The environment variable is removed, because the environment is read for settings and passed
    /// to children later.
    pub(crate) fn from_environment() -> Option<Self> {
        let socket = std::env::var_os(SOCKET_VARIABLE)?;
        std::env::remove_var(SOCKET_VARIABLE);
        Some(DevClient {
            socket: socket.into(),
        })
    }

    /// Returns the application's own defaults on top of those of `APP dev`.
    ///
    /// The defaults are short, for two reasons. The next upgrade waits until the last one is
    /// confirmed. And an upgrade is refused if too many old processes still drain, each of them with
    /// a stream that never ends.
    #[expect(
        clippy::unused_self,
        reason = "only a program that `APP dev` started has these defaults"
    )]
    pub(crate) fn settings(&self, application: Option<Figment>) -> Figment {
        let defaults = Figment::from(Serialized::default("upgrade.rollback_window", "500ms"))
            .merge(Serialized::default("shutdown.grace", "2s"))
            .merge(Serialized::default("shutdown.force_after", "500ms"));
        match application {
            Some(application) => defaults.merge(application),
            None => defaults,
        }
    }

    /// Reports that the newest code or settings cannot go live. Open pages show the error.
    pub(super) fn report_failure(&self, title: &str, error: &str) {
        // the log has the error as well
        let _ = self.connect(&format!("{REFUSED} {title}"), error);
    }

    /// Reports that the application has been built and is about to go live.
    pub(super) fn report_built(&self) {
        let _ = self.connect(BUILT, "");
    }

    /// Shuts this process down when the `dev` process is gone, even if that was killed, because the
    /// `dev` process holds the terminal and the sockets.
    pub(crate) fn exit_with_dev(&self) {
        let Ok(mut stream) = self.connect(CHILD, "") else {
            return;
        };
        thread::spawn(move || {
            let _ = stream.read(&mut [0]);
            log::warn!("`dev` has exited; this process shuts down as well");
            let _ = kill_process(getpid(), Signal::QUIT);
        });
    }

    /// Opens a connection to the `dev` process and sends one message.
    ///
    /// # Errors
    /// The `dev` process is gone.
    pub(super) fn connect(&self, first_line: &str, text: &str) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.write_all(format!("{first_line}\n{text}").as_bytes())?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_the_application_override_those_of_dev() {
        let client = DevClient {
            socket: PathBuf::new(),
        };
        let text = |figment: &Figment, key: &str| figment.extract_inner::<String>(key).unwrap();
        let of_dev = client.settings(None);
        assert_eq!(
            (
                text(&of_dev, "shutdown.grace"),
                text(&of_dev, "shutdown.force_after")
            ),
            ("2s".into(), "500ms".into())
        );
        let merged = client.settings(Some(Figment::from(Serialized::default(
            "shutdown.grace",
            "9s",
        ))));
        assert_eq!(
            (
                text(&merged, "shutdown.grace"),
                text(&merged, "upgrade.rollback_window")
            ),
            ("9s".into(), "500ms".into())
        );
    }
}
