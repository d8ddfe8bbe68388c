//! Takes the sockets that whoever started this process has passed: LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES.

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use listenfd::ListenFd;
use rustix::net::{AddressFamily, SocketType};

use super::bind::own_path;
use super::{Address, Listener};
use crate::config::Listen;
use crate::error::{Error, Kind};

/// The variables of the protocol: all are consumed, so that no child takes our descriptors for its own.
/// LISTEN_PIDFDID is a newer systemd's; LISTEN_FDS_FIRST_FD is listenfd's.
const VARIABLES: [&str; 5] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_FDS_FIRST_FD",
    "LISTEN_PIDFDID",
];

/// What was passed to this process, sorted into what can be served and what cannot.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    pub(super) passed: Vec<Passed>,
    /// Sockets that a predecessor of this very program had bound: from now on they are this process' own.
    pub(super) succeeded: Vec<Arc<Listener>>,
    /// What else a predecessor passes, by its name: no socket to accept from.
    parcels: Vec<(String, OwnedFd)>,
    /// What a person should know of the passing itself; there is no log yet when it is found.
    pub(super) notes: Vec<String>,
}

/// One descriptor that was passed.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) name: Option<String>,
    pub(super) what: What,
}

impl Passed {
    pub(super) fn is_listening(&self) -> bool {
        matches!(self.what, What::Listening(..))
    }
}

/// The address, or what it is instead, and the name.
impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Listening(_, address) => address.fmt(f)?,
            What::Wrong(what, _) => f.write_str(what)?,
        }
        self.name
            .as_ref()
            .map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

#[derive(Debug)]
pub(super) enum What {
    /// A stream socket that connections can be accepted from.
    Listening(Arc<OwnedFd>, Address),
    /// Something else, in words. It stays open, for it is not ours to close.
    Wrong(String, #[allow(dead_code)] Option<OwnedFd>),
}

impl Inherited {
    /// Takes everything that was passed, and the variables that say so out of the environment.
    ///
    /// To be called first thing in `main`: before any thread, for the environment belongs to all of them, and before
    /// any child, which would inherit the sockets too.
    ///
    /// # Errors
    /// LISTEN_FDS is not a number of descriptors that a process can have.
    pub(crate) fn take() -> Result<Self, Error> {
        let environment = Environment::read();
        let result = environment.take();
        for variable in VARIABLES {
            env::remove_var(variable);
        }
        result.map(Inherited::succeed)
    }

    /// What a predecessor has passed under this name, once: [`HANDOVER`] or [`NEWEST`].
    pub(crate) fn take_parcel(&mut self, name: &str) -> Option<OwnedFd> {
        let at = self.parcels.iter().position(|(known, _)| known == name)?;
        Some(self.parcels.swap_remove(at).1)
    }

    /// Sorts out what comes from a predecessor.
    fn succeed(mut self) -> Self {
        for passed in std::mem::take(&mut self.passed) {
            match (passed.name.as_deref(), passed.what) {
                (Some(name @ (HANDOVER | NEWEST)), What::Wrong(_, Some(parcel))) => {
                    self.parcels.push((name.to_owned(), parcel));
                }
                (Some(name), What::Listening(socket, _)) if name.starts_with(BOUND) => {
                    match succeeded(&name[BOUND.len()..], &socket) {
                        Ok(listener) => self.succeeded.push(Arc::new(listener)),
                        Err(error) => self
                            .notes
                            .push(format!("{name} could not be taken over: {error}")),
                    }
                }
                (_, what) => self.passed.push(Passed {
                    name: passed.name,
                    what,
                }),
            }
        }
        self
    }

    /// What a process has been passed, given rather than taken.
    #[cfg(test)]
    pub(crate) fn from_parts(sockets: Vec<(OwnedFd, Option<&str>)>) -> Self {
        let sort = |(number, (fd, name)): (usize, (OwnedFd, Option<&str>))| Passed {
            name: name.map(str::to_owned),
            what: sort(fd, number + 3),
        };
        Inherited {
            passed: sockets.into_iter().enumerate().map(sort).collect(),
            ..Inherited::default()
        }
    }
}

/// The name under which the channel of an upgrade is passed.
pub(crate) const HANDOVER: &str = "slackwater-handover";

/// The name under which the record of the newest generation is passed.
pub(crate) const NEWEST: &str = "slackwater-newest";

/// What the names of sockets begin with that were bound, not inherited; the entry of `listen` follows.
const BOUND: &str = "slackwater-bound ";

/// The name under which a socket that was bound for `entry` is passed. Names have no colons (sd_listen_fds(3)).
pub(super) fn bound_name(entry: &Listen) -> String {
    format!(
        "{BOUND}{}",
        entry.to_string().replace('%', "%25").replace(':', "%3A")
    )
}

fn succeeded(entry: &str, socket: &Arc<OwnedFd>) -> Result<Listener, String> {
    let entry = Listen::parse(&entry.replace("%3A", ":").replace("%25", "%"))?;
    let socket = socket.try_clone().map_err(|error| error.to_string())?;
    let path = match &entry {
        Listen::Unix(path) => Some(own_path(path)?),
        Listen::Tcp { .. } | Listen::Fd(_) => None,
    };
    Listener::bound(socket, entry, path).map_err(|error| error.to_string())
}

/// The variables as they were: listenfd removes some of them and does not know the names.
struct Environment {
    fds: Option<String>,
    pid: Option<String>,
    names: Option<String>,
    first: Option<String>,
}

impl Environment {
    fn read() -> Self {
        let text = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Environment {
            fds: text("LISTEN_FDS").filter(|text| !text.is_empty()),
            pid: text("LISTEN_PID"),
            names: text("LISTEN_FDNAMES"),
            first: text("LISTEN_FDS_FIRST_FD"),
        }
    }

    fn take(self) -> Result<Inherited, Error> {
        let Some(fds) = &self.fds else {
            return Ok(Inherited::default());
        };
        if let Some(note) = self.not_ours() {
            return Ok(Inherited {
                notes: vec![note],
                ..Inherited::default()
            });
        }
        let count = count(fds)?;
        let mut from = ListenFd::from_env();
        let first = self.first();
        let (names, notes) = names(self.names.as_deref(), count);
        let open = open_among(first..first + count);
        let missing = missing(fds, first..first + count, &open);
        let there = names
            .into_iter()
            .enumerate()
            .filter(|(index, _)| open.contains(&(first + index)));
        let passed = there.map(|(index, name)| take(&mut from, index, first + index, name));
        Ok(Inherited {
            passed: passed.chain(missing).collect(),
            notes,
            ..Inherited::default()
        })
    }

    /// The first descriptor, as listenfd sees it: 3 everywhere but in its own tests.
    fn first(&self) -> usize {
        self.first
            .as_deref()
            .and_then(|first| first.parse::<u16>().ok())
            .map_or(3, usize::from)
    }

    /// Why the descriptors are another process's, which left the variables behind or passed them on by mistake.
    fn not_ours(&self) -> Option<String> {
        let pid = self.pid.as_deref().filter(|pid| !pid.is_empty())?;
        if pid.parse() == Ok(std::process::id()) {
            return None;
        }
        let ours = std::process::id();
        Some(format!(
            "LISTEN_FDS ignored: LISTEN_PID={pid} is another process, this one is {ours}"
        ))
    }
}

/// What Linux lets one process have open, unless told otherwise (fs.nr_open).
const MOST: usize = 1 << 20;

/// The number in LISTEN_FDS. Checked before listenfd sees it, which sets up as many entries as it says.
fn count(text: &str) -> Result<usize, Error> {
    match text.parse() {
        Ok(count) if count <= MOST => Ok(count),
        _ => Err(Error::new(
            Kind::Socket,
            format!(
                "LISTEN_FDS={text:?} in the environment: not a number of sockets that can have been passed"
            ),
        )),
    }
}

/// A name for each descriptor, as far as there are names.
fn names(list: Option<&str>, count: usize) -> (Vec<Option<String>>, Vec<String>) {
    let mut names: Vec<Option<String>> = match list {
        Some(list) if !list.is_empty() => {
            list.split(':').map(|name| Some(name.to_owned())).collect()
        }
        _ => Vec::new(),
    };
    let mut notes = Vec::new();
    if !names.is_empty() && names.len() != count {
        notes.push(format!(
            "LISTEN_FDNAMES has {} names for {count} sockets (LISTEN_FDS)",
            names.len()
        ));
    }
    names.resize(count, None);
    (
        names
            .into_iter()
            .map(|name| name.filter(|name| !name.is_empty()))
            .collect(),
        notes,
    )
}

/// The descriptors that are open. Where /proc is not there, all pass for open, and turn out not to be sockets.
fn open_among(promised: Range<usize>) -> BTreeSet<usize> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return promised.collect();
    };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut open: BTreeSet<usize> = numbers.filter(|number| promised.contains(number)).collect();
    // only now: the directory that was read was a descriptor too
    open.retain(|number| std::fs::metadata(format!("/proc/self/fd/{number}")).is_ok());
    open
}

/// All that were promised and are not open, as one.
fn missing(promise: &str, mut promised: Range<usize>, open: &BTreeSet<usize>) -> Option<Passed> {
    let count = promised.len() - open.len();
    let first = promised.find(|number| !open.contains(number))?;
    let what = format!(
        "LISTEN_FDS={promise}, but {count} of them not open, the first is descriptor {first}"
    );
    Some(Passed {
        name: None,
        what: What::Wrong(what, None),
    })
}

fn take(from: &mut ListenFd, index: usize, number: usize, name: Option<String>) -> Passed {
    let what = match take_socket(from, index) {
        Some(fd) => sort(fd, number),
        // what is no socket cannot be taken without unsafe code: it stays as it is
        None => What::Wrong(format!("descriptor {number} is not a socket"), None),
    };
    Passed { name, what }
}

/// Takes a socket of any kind, close-on-exec. listenfd gives one only to those who name its family and type.
fn take_socket(from: &mut ListenFd, index: usize) -> Option<OwnedFd> {
    // for listenfd AF_INET stands for IPv6 too
    let families = [
        AddressFamily::UNIX,
        AddressFamily::INET,
        AddressFamily::VSOCK,
        AddressFamily::NETLINK,
    ];
    let types = [
        SocketType::STREAM,
        SocketType::SEQPACKET,
        SocketType::DGRAM,
        SocketType::RAW,
    ];
    let pairs = families
        .iter()
        .flat_map(|family| types.iter().map(move |kind| (family, kind)));
    for (family, kind) in pairs {
        let kind = i32::try_from(kind.as_raw()).ok()?;
        if let Ok(Some(fd)) = from.take_custom(index, i32::from(family.as_raw()), kind, "socket") {
            return Some(fd);
        }
    }
    None
}

/// Whether connections can be accepted from a socket, or what it is instead.
fn sort(fd: OwnedFd, number: usize) -> What {
    match listening(&fd) {
        Ok(address) => What::Listening(Arc::new(fd), address),
        Err(what) => What::Wrong(format!("descriptor {number} is {what}"), Some(fd)),
    }
}

fn listening(fd: &impl AsFd) -> Result<Address, &'static str> {
    match rustix::net::sockopt::socket_type(fd) {
        Ok(SocketType::STREAM) => {}
        Ok(SocketType::DGRAM) => return Err("a datagram socket"),
        Ok(SocketType::SEQPACKET) => return Err("a SEQPACKET socket"),
        Ok(_) => return Err("no stream socket"),
        Err(_) => return Err("not a socket"),
    }
    let address = rustix::net::getsockname(fd)
        .ok()
        .and_then(Address::from_kernel);
    let address = address.ok_or("neither a TCP nor a Unix socket")?;
    if rustix::net::sockopt::socket_acceptconn(fd) == Ok(true) {
        return Ok(address);
    }
    if rustix::net::getpeername(fd).is_ok() {
        return Err("a connection, not a listening socket (Accept=yes in its socket unit?)");
    }
    match &address {
        // bound by the one who passed it: listening is what we do next anyway
        Address::Tcp(bound) if bound.port() != 0 => Ok(address),
        Address::Unix(Some(_)) => Ok(address),
        _ => Err("a stream socket that is bound to no address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(fds: &str, pid: Option<&str>) -> Environment {
        Environment {
            fds: Some(fds.into()),
            pid: pid.map(str::to_owned),
            names: None,
            first: None,
        }
    }

    #[test]
    fn what_another_process_was_passed_is_not_ours() {
        let inherited = environment("1", Some("1")).take().unwrap();
        assert!(inherited.passed.is_empty());
        let ours = std::process::id();
        let note =
            format!("LISTEN_FDS ignored: LISTEN_PID=1 is another process, this one is {ours}");
        assert_eq!(inherited.notes, [note]);
        assert!(environment("1", Some("me")).not_ours().is_some());
        assert!(environment("1", Some("")).not_ours().is_none());
        assert!(environment("1", Some(&ours.to_string()))
            .not_ours()
            .is_none());
    }

    #[test]
    fn a_count_that_no_process_can_have_is_refused() {
        for text in ["abc", "-1", "1048577", "99999999999999999999", "1 "] {
            let error = count(text).unwrap_err();
            assert!(error.is_socket());
            let start = format!("LISTEN_FDS={text:?} in the environment: ");
            assert!(error.to_string().starts_with(&start), "{error}");
        }
        assert_eq!(count("2").unwrap(), 2);
    }

    #[test]
    fn names_are_as_many_as_descriptors() {
        let web = || Some("web".to_owned());
        assert_eq!(
            names(Some("web::web"), 3),
            (vec![web(), None, web()], vec![])
        );
        assert_eq!(names(None, 2), (vec![None, None], vec![]));
        let (all, notes) = names(Some("web"), 2);
        assert_eq!(all, [web(), None]);
        assert_eq!(
            notes,
            ["LISTEN_FDNAMES has 1 names for 2 sockets (LISTEN_FDS)"]
        );
        assert_eq!(names(Some("web:b"), 1).0, [web()]);
    }

    #[test]
    fn what_was_promised_and_is_not_open_is_said_once() {
        let What::Wrong(what, None) = missing("4", 3..7, &BTreeSet::from([3, 5])).unwrap().what
        else {
            panic!()
        };
        assert_eq!(
            what,
            "LISTEN_FDS=4, but 2 of them not open, the first is descriptor 4"
        );
        assert!(missing("2", 3..5, &BTreeSet::from([3, 4])).is_none());
    }
}
