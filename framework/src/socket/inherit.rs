//! Takes the sockets that the parent process passed, by LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES
//! (sd_listen_fds(3)).

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use listenfd::ListenFd;
use rustix::net::{AddressFamily, SocketType};

use super::bind::bound_path;
use super::{Address, Listener};
use crate::config::Listen;
use crate::error::{Error, Kind};

/// The variables of the protocol. All are removed from the environment, so that no child process
/// mistakes our descriptors for its own. LISTEN_PIDFDID is set by newer versions of systemd,
/// LISTEN_FDS_FIRST_FD is an extension of listenfd.
const VARIABLES: [&str; 5] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_FDS_FIRST_FD",
    "LISTEN_PIDFDID",
];

/// The descriptors that were passed to this process.
#[derive(Debug, Default)]
pub(crate) struct InheritedSockets {
    pub(super) fds: Vec<InheritedFd>,
    /// Listeners that the old process of an upgrade had bound. This process owns them now.
    pub(super) bound_by_old_process: Vec<Arc<Listener>>,
    /// Other descriptors that the old process passed, by their name. They are not listening
    /// sockets.
    other_fds: Vec<(String, OwnedFd)>,
    /// Notes on the descriptors. They are logged later, because the log is not set up yet when they
    /// are found.
    pub(super) notes: Vec<String>,
}

/// A descriptor that was passed to this process.
#[derive(Debug)]
pub(super) struct InheritedFd {
    pub(super) name: Option<String>,
    pub(super) kind: FdKind,
}

impl InheritedFd {
    pub(super) fn is_listening(&self) -> bool {
        matches!(self.kind, FdKind::Listening(..))
    }
}

/// Formats the address or the reason why the descriptor is unusable, then the name in parentheses.
impl fmt::Display for InheritedFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FdKind::Listening(_, address) => address.fmt(f)?,
            FdKind::Unusable(reason, _) => f.write_str(reason)?,
        }
        self.name
            .as_ref()
            .map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

#[derive(Debug)]
pub(super) enum FdKind {
    /// A stream socket that can accept connections.
    Listening(Arc<OwnedFd>, Address),
    /// Any other descriptor, with the reason. It stays open, because it belongs to the parent
    /// process.
    Unusable(String, #[allow(dead_code)] Option<OwnedFd>),
}

impl InheritedSockets {
    /// Takes all descriptors that were passed, and removes the variables from the environment.
    ///
    /// Call this first in `main`: before any thread is started, because the environment is shared
    /// by all threads, and before any child is started, because it would inherit the sockets too.
    ///
    /// # Errors
    /// LISTEN_FDS is not a possible number of descriptors.
    pub(crate) fn take() -> Result<Self, Error> {
        let environment = ListenVariables::read();
        let result = environment.take();
        for variable in VARIABLES {
            env::remove_var(variable);
        }
        result.map(InheritedSockets::sort_by_name)
    }

    /// Takes the descriptor that the old process passed under this name: [`HANDOVER`] or
    /// [`NEWEST`].
    pub(crate) fn take_fd(&mut self, name: &str) -> Option<OwnedFd> {
        let at = self.other_fds.iter().position(|(known, _)| known == name)?;
        Some(self.other_fds.swap_remove(at).1)
    }

    /// Moves the descriptors that only an old process passes out of the general list.
    fn sort_by_name(mut self) -> Self {
        for passed in std::mem::take(&mut self.fds) {
            match (passed.name.as_deref(), passed.kind) {
                (Some(name @ (HANDOVER | NEWEST)), FdKind::Unusable(_, Some(fd))) => {
                    self.other_fds.push((name.to_owned(), fd));
                }
                (Some(name), FdKind::Listening(socket, _)) if name.starts_with(BOUND) => {
                    match bound_listener(&name[BOUND.len()..], &socket) {
                        Ok(listener) => self.bound_by_old_process.push(Arc::new(listener)),
                        Err(error) => self.notes.push(format!(
                            "cannot take over {name} from the old process: {error}"
                        )),
                    }
                }
                (_, kind) => self.fds.push(InheritedFd {
                    name: passed.name,
                    kind,
                }),
            }
        }
        self
    }

    /// Builds the descriptors of a test from parts.
    #[cfg(test)]
    pub(crate) fn from_parts(sockets: Vec<(OwnedFd, Option<&str>)>) -> Self {
        let inherit = |(number, (fd, name)): (usize, (OwnedFd, Option<&str>))| InheritedFd {
            name: name.map(str::to_owned),
            kind: kind_of(fd, number + 3),
        };
        InheritedSockets {
            fds: sockets.into_iter().enumerate().map(inherit).collect(),
            ..InheritedSockets::default()
        }
    }
}

/// The name of the descriptor for the handover channel of an upgrade.
pub(crate) const HANDOVER: &str = "slackwater-handover";

/// The name of the descriptor for the record of the newest process.
pub(crate) const NEWEST: &str = "slackwater-newest";

/// The prefix in the name of a socket that was bound, not inherited. The entry of `listen` follows.
const BOUND: &str = "slackwater-bound ";

/// Returns the name under which a socket bound for `entry` is passed on. Names must not contain
/// colons (sd_listen_fds(3)), so they are escaped.
pub(super) fn bound_name(entry: &Listen) -> String {
    format!(
        "{BOUND}{}",
        entry.to_string().replace('%', "%25").replace(':', "%3A")
    )
}

fn bound_listener(entry: &str, socket: &Arc<OwnedFd>) -> Result<Listener, String> {
    let entry = Listen::parse(&entry.replace("%3A", ":").replace("%25", "%"))?;
    let socket = socket.try_clone().map_err(|error| error.to_string())?;
    let path = match &entry {
        Listen::Unix(path) => Some(bound_path(path)?),
        Listen::Tcp { .. } | Listen::Fd(_) => None,
    };
    Listener::bound(socket, entry, path).map_err(|error| error.to_string())
}

/// The variables, read before listenfd sees them: it removes some of them and does not support
/// names.
struct ListenVariables {
    fds: Option<String>,
    pid: Option<String>,
    names: Option<String>,
    first: Option<String>,
}

impl ListenVariables {
    fn read() -> Self {
        let text = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        ListenVariables {
            fds: text("LISTEN_FDS").filter(|text| !text.is_empty()),
            pid: text("LISTEN_PID"),
            names: text("LISTEN_FDNAMES"),
            first: text("LISTEN_FDS_FIRST_FD"),
        }
    }

    fn take(self) -> Result<InheritedSockets, Error> {
        let Some(fds) = &self.fds else {
            return Ok(InheritedSockets::default());
        };
        if let Some(note) = self.for_another_process() {
            return Ok(InheritedSockets {
                notes: vec![note],
                ..InheritedSockets::default()
            });
        }
        let count = count(fds)?;
        let mut from = ListenFd::from_env();
        let first = self.first();
        let (names, notes) = names(self.names.as_deref(), count);
        let open = open_among(first..first + count);
        let missing = missing(fds, first..first + count, &open);
        let present = names
            .into_iter()
            .enumerate()
            .filter(|(index, _)| open.contains(&(first + index)));
        let passed = present.map(|(index, name)| take(&mut from, index, first + index, name));
        Ok(InheritedSockets {
            fds: passed.chain(missing).collect(),
            notes,
            ..InheritedSockets::default()
        })
    }

    /// The first descriptor, as listenfd determines it: 3, except in the tests of listenfd.
    fn first(&self) -> usize {
        self.first
            .as_deref()
            .and_then(|first| first.parse::<u16>().ok())
            .map_or(3, usize::from)
    }

    /// Returns a note if the descriptors are meant for another process. The variables were then
    /// inherited by mistake.
    fn for_another_process(&self) -> Option<String> {
        let pid = self.pid.as_deref().filter(|pid| !pid.is_empty())?;
        if pid.parse() == Ok(std::process::id()) {
            return None;
        }
        let ours = std::process::id();
        Some(format!(
            "ignoring LISTEN_FDS: LISTEN_PID={pid} is another process, this process is {ours}"
        ))
    }
}

/// The default limit on the descriptors of a process (fs.nr_open).
const MAX_FDS: usize = 1 << 20;

/// Parses LISTEN_FDS. This happens before listenfd parses it, because listenfd allocates that
/// number of entries.
fn count(text: &str) -> Result<usize, Error> {
    match text.parse() {
        Ok(count) if count <= MAX_FDS => Ok(count),
        _ => Err(Error::new(
            Kind::Socket,
            format!("LISTEN_FDS={text:?} in the environment: not a valid number of descriptors"),
        )),
    }
}

/// Returns a name for each descriptor, as far as LISTEN_FDNAMES has one, and notes about a wrong
/// number of names.
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

/// Returns the descriptors that are open. Without /proc all are assumed open; a closed one is
/// later reported as not being a socket.
fn open_among(promised: Range<usize>) -> BTreeSet<usize> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return promised.collect();
    };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut open: BTreeSet<usize> = numbers.filter(|number| promised.contains(number)).collect();
    // the descriptor of the directory was open during the loop, so the numbers are checked again
    open.retain(|number| std::fs::metadata(format!("/proc/self/fd/{number}")).is_ok());
    open
}

/// Returns one entry for all descriptors that LISTEN_FDS promised and that are not open.
fn missing(
    promise: &str,
    mut promised: Range<usize>,
    open: &BTreeSet<usize>,
) -> Option<InheritedFd> {
    let count = promised.len() - open.len();
    let first = promised.find(|number| !open.contains(number))?;
    let reason = format!(
        "LISTEN_FDS={promise}, but {count} of these descriptors are not open; the first of them is {first}"
    );
    Some(InheritedFd {
        name: None,
        kind: FdKind::Unusable(reason, None),
    })
}

fn take(from: &mut ListenFd, index: usize, number: usize, name: Option<String>) -> InheritedFd {
    let kind = match take_socket(from, index) {
        Some(fd) => kind_of(fd, number),
        // a descriptor that is not a socket cannot be taken without unsafe code, so it stays open
        None => FdKind::Unusable(format!("descriptor {number} is not a socket"), None),
    };
    InheritedFd { name, kind }
}

/// Takes a socket of any kind and marks it close-on-exec. listenfd requires the family and the
/// type, so all are tried.
fn take_socket(from: &mut ListenFd, index: usize) -> Option<OwnedFd> {
    // for listenfd AF_INET includes IPv6
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

/// Classifies a socket: it can accept connections, or is unusable for the reason given.
fn kind_of(fd: OwnedFd, number: usize) -> FdKind {
    match listening_address(&fd) {
        Ok(address) => FdKind::Listening(Arc::new(fd), address),
        Err(reason) => FdKind::Unusable(format!("descriptor {number} is {reason}"), Some(fd)),
    }
}

/// Returns the address of a socket that can accept connections, or a description of any other descriptor.
fn listening_address(fd: &impl AsFd) -> Result<Address, &'static str> {
    match rustix::net::sockopt::socket_type(fd) {
        Ok(SocketType::STREAM) => {}
        Ok(SocketType::DGRAM) => return Err("a datagram socket"),
        Ok(SocketType::SEQPACKET) => return Err("a SEQPACKET socket"),
        Ok(_) => return Err("not a stream socket"),
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
        // bound by the parent but not listening yet: this process calls listen(2) anyway
        Address::Tcp(bound) if bound.port() != 0 => Ok(address),
        Address::Unix(Some(_)) => Ok(address),
        _ => Err("a stream socket without an address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(fds: &str, pid: Option<&str>) -> ListenVariables {
        ListenVariables {
            fds: Some(fds.into()),
            pid: pid.map(str::to_owned),
            names: None,
            first: None,
        }
    }

    #[test]
    fn descriptors_for_another_process_are_ignored() {
        let inherited = environment("1", Some("1")).take().unwrap();
        assert!(inherited.fds.is_empty());
        let ours = std::process::id();
        let note =
            format!("ignoring LISTEN_FDS: LISTEN_PID=1 is another process, this process is {ours}");
        assert_eq!(inherited.notes, [note]);
        assert!(environment("1", Some("me")).for_another_process().is_some());
        assert!(environment("1", Some("")).for_another_process().is_none());
        assert!(environment("1", Some(&ours.to_string()))
            .for_another_process()
            .is_none());
    }

    #[test]
    fn an_impossible_number_of_descriptors_is_refused() {
        for text in ["abc", "-1", "1048577", "99999999999999999999", "1 "] {
            let error = count(text).unwrap_err();
            assert!(error.is_socket());
            let start = format!("LISTEN_FDS={text:?} in the environment: ");
            assert!(error.to_string().starts_with(&start), "{error}");
        }
        assert_eq!(count("2").unwrap(), 2);
    }

    #[test]
    fn each_descriptor_has_a_name_or_none() {
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
    fn missing_descriptors_are_reported_together() {
        let FdKind::Unusable(kind, None) =
            missing("4", 3..7, &BTreeSet::from([3, 5])).unwrap().kind
        else {
            panic!()
        };
        assert_eq!(
            kind,
            "LISTEN_FDS=4, but 2 of these descriptors are not open; the first of them is 4"
        );
        assert!(missing("2", 3..5, &BTreeSet::from([3, 4])).is_none());
    }
}
