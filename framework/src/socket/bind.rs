//! Binds the addresses and paths of `listen`, and explains each failure.

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

/// Binds one entry. `ours` are the listeners that this process has already. They tell a conflict
/// within this process from a conflict with another one.
///
/// A host name stands for one address: its first IPv4 address, else its first IPv6 address, as in
/// Go. The next address is tried only if this machine does not have the first one. `[::]` accepts
/// IPv4 as well. Looking up a host name blocks.
///
/// # Errors
/// A line with the entry and the reason.
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
    bound.map_err(|reason| format!("listen = \"{}\": {reason}", text(entry)))
}

/// Formats an entry as it is written in the settings.
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
            Err(error) => return Err(tcp_failure(address, error, ours)),
        }
    }
    Err(match failed {
        Some((address, error)) => tcp_failure(address, error, ours),
        None => format!("the host {host} has no address"),
    })
}

fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let resolved = (bare, port)
        .to_socket_addrs()
        .map_err(|error| format!("cannot look up the host {host}: {error}"))?;
    let mut addresses: Vec<_> = resolved.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    Ok(addresses)
}

fn bind_tcp(address: SocketAddr, backlog: i32) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let socket = stream_socket(family)?;
    // connections of an earlier process that linger in TIME_WAIT must not block the port
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

fn tcp_failure(address: SocketAddr, error: Errno, ours: &[Arc<Listener>]) -> String {
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
        error => describe(error),
    }
}

/// Returns true if a socket bound to `own` prevents binding `wanted`.
fn overlaps(own: &Address, wanted: SocketAddr) -> bool {
    let Address::Tcp(own) = own else { return false };
    let unspecified = |ip: IpAddr| ip.is_unspecified();
    own.port() == wanted.port()
        && (unspecified(own.ip()) || unspecified(wanted.ip()) || own.ip() == wanted.ip())
}

fn clash(own: &Address, wanted: SocketAddr) -> String {
    let mixes_ip_versions =
        |a: &Address, b: IpAddr| matches!(a, Address::Tcp(a) if a.ip().is_ipv6()) != b.is_ipv6();
    let hint = if mixes_ip_versions(own, wanted.ip()) {
        " ([::] accepts IPv4 as well: one entry is enough for both)"
    } else {
        ""
    };
    format!(
        "the address is in use: this process itself listens on {own}, and both cannot be open at once{hint}; \
         restart the process, or change the port"
    )
}

fn bind_path(
    entry: &Listen,
    path: &Path,
    backlog: i32,
    ours: &[Arc<Listener>],
) -> Result<Listener, String> {
    let address = SocketAddrUnix::new(path).map_err(|error| unix_failure(path, error))?;
    remove_stale(path, &address, ours)?;
    let socket = stream_socket(AddressFamily::UNIX).map_err(|error| unix_failure(path, error))?;
    rustix::net::bind(&socket, &address).map_err(|error| unix_failure(path, error))?;
    let owned = bound_path(path)?;
    rustix::net::listen(&socket, backlog).map_err(|error| unix_failure(path, error))?;
    Listener::bound(socket, entry.clone(), Some(owned)).map_err(|error| error.to_string())
}

/// Returns the absolute path and the identity of its file. The path is made absolute because the
/// working directory may have changed when the file is removed.
pub(super) fn bound_path(path: &Path) -> Result<BoundPath, String> {
    let absolute = std::path::absolute(path).map_err(|error| error.to_string())?;
    let file = file_id(&absolute).map_err(|error| format!("the socket file vanished: {error}"))?;
    Ok(BoundPath {
        path: absolute,
        file,
    })
}

/// Removes the socket file of a process that has exited. Any other file at the path is kept and
/// causes an error.
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
            "a file that is not a socket is at this path; remove it, or choose another path".into(),
        );
    }
    let found = file_id(path).map_err(|error| error.to_string())?;
    if let Some(own) = ours.iter().find(|listener| listener.file() == Some(found)) {
        return Err(format!(
            "the address is in use: this process itself listens on {}",
            own.address()
        ));
    }
    match is_listening(address) {
        Ok(false) => {}
        Ok(true) => {
            return Err(
                "the address is in use; another process listens there (ss -lxp shows which)".into(),
            )
        }
        Err(error) => {
            return Err(format!(
                "there is a socket file at this path, and connecting to it failed: {}",
                describe(error)
            ))
        }
    }
    // another process may replace the file at this moment: remove only the file that was tested
    if file_id(path).ok() == Some(found) {
        std::fs::remove_file(path)
            .map_err(|error| format!("cannot replace the stale socket file: {error}"))?;
    }
    Ok(())
}

/// Returns true if a process listens at the path. A socket file outlives its process and then
/// refuses connections.
fn is_listening(address: &SocketAddrUnix) -> Result<bool, Errno> {
    match rustix::net::connect(stream_socket(AddressFamily::UNIX)?, address) {
        // a full accept queue or a socket of another type also belongs to a running process
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn unix_failure(path: &Path, error: Errno) -> String {
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
        Errno::NAMETOOLONG => {
            "the path is too long: the path of a socket may have at most 107 bytes".into()
        }
        Errno::ADDRINUSE => "the address is in use: another process bound it at this moment".into(),
        error => describe(error),
    }
}

fn describe(error: Errno) -> String {
    std::io::Error::from(error).to_string()
}
