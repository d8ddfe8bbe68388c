//! Binds what `listen` names, and says why where that cannot be done.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{sockopt, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::listener::{file_id, BoundPath};
use super::{Address, Listener};
use crate::config::Listen;

/// Binds one entry. `ours` are the listeners this process has already: to tell its own clashes from others'.
///
/// A host name stands for one address: its first IPv4 one, else its first IPv6 one, as Go has it; the next is tried
/// only where this machine lacks the address. `[::]` takes IPv4 as well. A host name is looked up, which blocks.
///
/// # Errors
/// A line that names the entry and says what is in the way.
pub(super) fn bind(
    entry: &Listen,
    backlog: i32,
    ours: &[Arc<Listener>],
) -> Result<Listener, String> {
    let bound = match entry {
        Listen::Tcp { host, port } => bind_host(entry, host, *port, backlog, ours),
        Listen::Unix(path) => bind_path(entry, path, backlog, ours),
        Listen::Fd(name) => Err(format!("no socket of the name {name} was passed")),
    };
    bound.map_err(|why| format!("listen = \"{}\": {why}", text(entry)))
}

/// An entry as it is written in the settings.
pub(super) fn text(entry: &Listen) -> String {
    match entry {
        Listen::Tcp { host, port } if host.contains(':') && !host.starts_with('[') => {
            format!("[{host}]:{port}")
        }
        Listen::Tcp { host, port } => format!("{host}:{port}"),
        Listen::Unix(path) => format!("unix:{}", path.display()),
        Listen::Fd(name) => format!("fd:{name}"),
    }
}

fn bind_host(
    entry: &Listen,
    host: &str,
    port: u16,
    backlog: i32,
    ours: &[Arc<Listener>],
) -> Result<Listener, String> {
    let mut failed = None;
    for address in addresses(host, port)? {
        match bind_tcp(address, backlog) {
            Ok(socket) => {
                return Listener::bound(socket, entry.clone(), None)
                    .map_err(|error| error.to_string())
            }
            Err(error @ (Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)) => {
                failed.get_or_insert((address, error));
            }
            Err(error) => return Err(why_not_tcp(address, error, ours)),
        }
    }
    Err(match failed {
        Some((address, error)) => why_not_tcp(address, error, ours),
        None => format!("the host {host} has no address"),
    })
}

fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let found = (bare, port)
        .to_socket_addrs()
        .map_err(|error| format!("cannot look up the host {host}: {error}"))?;
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found)
}

fn bind_tcp(address: SocketAddr, backlog: i32) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let socket = stream_socket(family)?;
    // the connections of a predecessor that still linger must not keep a restart from its port
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

fn stream_socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
}

fn why_not_tcp(address: SocketAddr, error: Errno, ours: &[Arc<Listener>]) -> String {
    match error {
        Errno::ADDRINUSE => match ours.iter().find(|listener| overlaps(listener.address(), address)) {
            Some(own) => clash(own.address(), address),
            None => format!(
                "the address is in use; another process listens there (ss -ltnp 'sport = :{}' shows which)",
                address.port()
            ),
        },
        Errno::ACCESS if address.port() < 1024 => "permission denied: ports below 1024 need root, \
            CAP_NET_BIND_SERVICE or a socket passed by systemd (fd:NAME)"
            .into(),
        Errno::ADDRNOTAVAIL => {
            format!(
                "no network interface of this machine has the address {} (ip address shows them)",
                address.ip()
            )
        }
        Errno::AFNOSUPPORT => format!("this machine has no IPv{}", if address.is_ipv6() { 6 } else { 4 }),
        error => plain(error),
    }
}

/// Whether a socket on the one address keeps another from the other.
fn overlaps(own: &Address, wanted: SocketAddr) -> bool {
    let Address::Tcp(own) = own else { return false };
    let every = |ip: IpAddr| ip.is_unspecified();
    own.port() == wanted.port()
        && (every(own.ip()) || every(wanted.ip()) || own.ip() == wanted.ip())
}

fn clash(own: &Address, wanted: SocketAddr) -> String {
    let both =
        |a: &Address, b: IpAddr| matches!(a, Address::Tcp(a) if a.ip().is_ipv6()) != b.is_ipv6();
    let hint = if both(own, wanted.ip()) {
        " ([::] takes IPv4 as well: one entry does for both)"
    } else {
        ""
    };
    format!(
        "the address is in use: this process itself listens on {own}, and cannot have both at once{hint}; \
         restart it, or change the port"
    )
}

fn bind_path(
    entry: &Listen,
    path: &Path,
    backlog: i32,
    ours: &[Arc<Listener>],
) -> Result<Listener, String> {
    let address = SocketAddrUnix::new(path).map_err(|error| why_not_unix(path, error))?;
    remove_stale(path, &address, ours)?;
    let socket = stream_socket(AddressFamily::UNIX).map_err(|error| why_not_unix(path, error))?;
    rustix::net::bind(&socket, &address).map_err(|error| why_not_unix(path, error))?;
    let owned = own_path(path)?;
    rustix::net::listen(&socket, backlog).map_err(|error| why_not_unix(path, error))?;
    Listener::bound(socket, entry.clone(), Some(owned)).map_err(|error| error.to_string())
}

/// The path absolute, for the working directory may be another when it is removed.
pub(super) fn own_path(path: &Path) -> Result<BoundPath, String> {
    let absolute = std::path::absolute(path).map_err(|error| error.to_string())?;
    let file = file_id(&absolute).map_err(|error| format!("the socket file vanished: {error}"))?;
    Ok(BoundPath {
        path: absolute,
        file,
    })
}

/// Removes the socket file of a process that is gone; anything else in its place is left alone.
fn remove_stale(
    path: &Path,
    address: &SocketAddrUnix,
    ours: &[Arc<Listener>],
) -> Result<(), String> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(
            "a file that is not a socket is in its place; remove it, or choose another path".into(),
        );
    }
    let found = file_id(path).map_err(|error| error.to_string())?;
    if let Some(own) = ours.iter().find(|listener| listener.file() == Some(found)) {
        return Err(format!(
            "the address is in use: this process itself listens on {}",
            own.address()
        ));
    }
    match answers(address) {
        Ok(false) => {}
        Ok(true) => {
            return Err(
                "the address is in use; another process listens there (ss -lxp shows which)".into(),
            )
        }
        Err(error) => {
            return Err(format!(
                "a socket file is in its place, and trying it failed: {}",
                plain(error)
            ))
        }
    }
    // another process may be replacing it at this moment: only the file that was tried goes
    if file_id(path).ok() == Some(found) {
        std::fs::remove_file(path)
            .map_err(|error| format!("cannot replace the stale socket file: {error}"))?;
    }
    Ok(())
}

/// Whether a process listens on the path: its socket file outlives it, and refuses then.
fn answers(address: &SocketAddrUnix) -> Result<bool, Errno> {
    match rustix::net::connect(stream_socket(AddressFamily::UNIX)?, address) {
        // a full backlog, or a socket of another type, has somebody behind it as well
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn why_not_unix(path: &Path, error: Errno) -> String {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    match error {
        Errno::NOENT => format!("the directory {} does not exist", directory.display()),
        Errno::ACCESS | Errno::PERM => {
            format!(
                "permission denied: cannot create a file in {}",
                directory.display()
            )
        }
        Errno::NAMETOOLONG => "the path is too long: a socket's may have 107 bytes".into(),
        Errno::ADDRINUSE => "the address is in use: another process took it at this moment".into(),
        error => plain(error),
    }
}

fn plain(error: Errno) -> String {
    std::io::Error::from(error).to_string()
}
