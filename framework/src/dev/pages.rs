//! The socket of the `dev` process, and the connections of open pages.
//!
//! A page's event stream ends in the program, which opens a connection to the `dev` process for it and
//! copies the events. The program sends its own failures to the same socket (see
//! [`protocol`](super::protocol)).

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::event::LoopEvent;
use super::protocol::{BUILT, CHILD, PAGE, REFUSED};
use crate::error::{Error, Kind};

/// The limit on a message, in bytes. The rest of a longer one is ignored.
const MESSAGE_LIMIT: u64 = 256 << 10;

/// The limit on the time between two reads of a message.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// All open pages, and the state of their overlay.
#[derive(Debug)]
pub(super) struct Pages {
    directory: PathBuf,
    open: Vec<UnixStream>,
    overlay: OverlayState,
}

/// The state of the overlay, which covers a page while it shows an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OverlayState {
    Hidden,
    Error { title: String, text: String },
}

impl Pages {
    /// Opens the socket to which the program connects. Only the current user can connect.
    ///
    /// # Errors
    /// The directory or the socket cannot be created.
    pub(super) fn open(events: Sender<LoopEvent>) -> Result<Self, Error> {
        let directory = std::env::temp_dir().join(format!("slackwater-dev-{}", std::process::id()));
        let failed = |error| {
            let message = format!("cannot create a socket in {}", directory.display());
            Error::new(Kind::Io, message).because(error)
        };
        // a killed process that had the same pid has left its directory
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(failed)?;
        let listener = UnixListener::bind(directory.join("socket")).map_err(failed)?;
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let events = events.clone();
                thread::spawn(move || receive(stream, &events));
            }
        });
        Ok(Pages {
            directory,
            open: Vec::new(),
            overlay: OverlayState::Hidden,
        })
    }

    /// Returns the path of the socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// Adds an open page and sends it the state of the overlay.
    pub(super) fn add(&mut self, mut page: UnixStream) {
        // a page that does not read must not block the loop
        let _ = page.set_nonblocking(true);
        if page.write_all(self.overlay.to_sse().as_bytes()).is_ok() {
            self.open.push(page);
        }
    }

    pub(super) fn show(&mut self, overlay: OverlayState) {
        if self.overlay != overlay {
            self.send(&overlay.to_sse());
            self.overlay = overlay;
        }
    }

    /// Shows the overlay unless it already shows an error.
    pub(super) fn show_unless_error(&mut self, overlay: OverlayState) {
        if self.overlay == OverlayState::Hidden {
            self.show(overlay);
        }
    }

    /// Forgets the error of an earlier build. Open pages show it until they connect again.
    pub(super) fn forget_error(&mut self) {
        self.overlay = OverlayState::Hidden;
    }

    /// Sends the start of a build. A page that shows an error adds a note to it.
    pub(super) fn announce_build(&mut self) {
        self.send("event: building\ndata:\n\n");
    }

    fn send(&mut self, event: &str) {
        self.open
            .retain_mut(|page| page.write_all(event.as_bytes()).is_ok());
    }

    /// Ends all event streams. The pages connect again and reload if another build serves.
    pub(super) fn disconnect(&mut self) {
        self.open.clear();
    }
}

impl OverlayState {
    /// Formats a [server-sent event](https://html.spec.whatwg.org/multipage/server-sent-events.html).
    /// JSON contains no line breaks, so the data is one line.
    fn to_sse(&self) -> String {
        match self {
            OverlayState::Hidden => "event: fine\ndata:\n\n".to_owned(),
            OverlayState::Error { title, text } => {
                let data = json!({ "title": title, "text": text });
                format!("event: failed\ndata: {data}\n\n")
            }
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Reads one message from a connection and sends the event for it.
fn receive(stream: UnixStream, events: &Sender<LoopEvent>) {
    let _ = stream.set_read_timeout(Some(READ_TIMEOUT));
    let mut reader = BufReader::new(&stream).take(MESSAGE_LIMIT);
    let mut first_line = String::new();
    if reader.read_line(&mut first_line).is_err() {
        return;
    }
    let first_line = first_line.trim_end();
    let (message, argument) = first_line.split_once(' ').unwrap_or((first_line, ""));
    let argument = argument.to_owned();
    match message {
        PAGE => {
            let _ = events.send(LoopEvent::PageOpened {
                build_id: argument,
                page: stream,
            });
        }
        REFUSED => {
            let mut text = String::new();
            let _ = reader.read_to_string(&mut text);
            let _ = events.send(LoopEvent::StartFailed {
                title: argument,
                text,
            });
        }
        BUILT => {
            let _ = events.send(LoopEvent::ApplicationBuilt(Instant::now()));
        }
        CHILD => {
            let _ = stream.set_read_timeout(None);
            let _ = reader.read_to_string(&mut String::new());
        }
        _ => {}
    }
}
