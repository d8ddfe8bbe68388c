//! The open pages, as the keeper sees them: each is a connection that its generation passes on, and hears what the
//! state of the program is. Generations tell what failed in them the same way.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::keeper::Event;
use crate::error::{Error, Kind};

/// What a generation says first on a connection: what the connection is for.
pub(super) const PAGE: &str = "page";
pub(super) const REFUSED: &str = "refused";
pub(super) const BUILT: &str = "built";
pub(super) const CHILD: &str = "child";

/// The longest report that is read.
const REPORT: u64 = 256 << 10;

/// All pages that are open, and what they are to show.
#[derive(Debug)]
pub(super) struct Pages {
    directory: PathBuf,
    open: Vec<UnixStream>,
    state: State,
}

/// What a page shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Itself.
    Fine,
    /// What is wrong with the newest code.
    Failed { title: String, text: String },
}

impl Pages {
    /// Opens the socket by which generations find the keeper; it is for this user alone.
    ///
    /// # Errors
    /// No directory or socket can be made.
    pub(super) fn open(events: Sender<Event>) -> Result<Self, Error> {
        let directory = std::env::temp_dir().join(format!("slackwater-dev-{}", std::process::id()));
        let failed = |error| {
            Error::new(
                Kind::Io,
                format!("no socket for the pages in {}", directory.display()),
            )
            .because(error)
        };
        // what a process of this pid has left behind
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
            state: State::Fine,
        })
    }

    /// Where generations find it.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// A page was opened.
    pub(super) fn welcome(&mut self, mut page: UnixStream) {
        // one that does not read must not stop the loop
        let _ = page.set_nonblocking(true);
        if page.write_all(self.state.event().as_bytes()).is_ok() {
            self.open.push(page);
        }
    }

    pub(super) fn show(&mut self, state: State) {
        if self.state != state {
            self.tell(&state.event());
            self.state = state;
        }
    }

    /// The same, unless what is shown already says more.
    pub(super) fn show_unless_failed(&mut self, state: State) {
        if self.state == State::Fine {
            self.show(state);
        }
    }

    /// What was wrong before says nothing of what comes now; pages hear of that when they look again.
    pub(super) fn forget(&mut self) {
        self.state = State::Fine;
    }

    /// A build goes on: what failed before may be mended by it.
    pub(super) fn building(&mut self) {
        self.tell("event: building\ndata:\n\n");
    }

    fn tell(&mut self, event: &str) {
        self.open
            .retain_mut(|page| page.write_all(event.as_bytes()).is_ok());
    }

    /// Another program answers now: the pages are to look who it is.
    pub(super) fn look_again(&mut self) {
        self.open.clear();
    }
}

impl State {
    /// As a server-sent event (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). JSON has no line breaks.
    fn event(&self) -> String {
        match self {
            State::Fine => "event: fine\ndata:\n\n".to_owned(),
            State::Failed { title, text } => {
                format!(
                    "event: failed\ndata: {}\n\n",
                    json!({ "title": title, "text": text })
                )
            }
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Finds out what a connection is for.
fn receive(stream: UnixStream, events: &Sender<Event>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut reader = BufReader::new(&stream).take(REPORT);
    let mut first = String::new();
    if reader.read_line(&mut first).is_err() {
        return;
    }
    match first
        .trim_end()
        .split_once(' ')
        .unwrap_or((first.trim_end(), ""))
    {
        (PAGE, build) => {
            let build = build.to_owned();
            let _ = events.send(Event::Page(build, stream));
        }
        (REFUSED, title) => {
            let (title, mut text) = (title.to_owned(), String::new());
            let _ = reader.read_to_string(&mut text);
            let _ = events.send(Event::Refused(State::Failed { title, text }));
        }
        (BUILT, _) => {
            let _ = events.send(Event::Ready(Instant::now()));
        }
        // it only wants to know when this end is gone
        (CHILD, _) => {
            let _ = stream.set_read_timeout(None);
            let _ = reader.read_to_string(&mut String::new());
        }
        _ => {}
    }
}
