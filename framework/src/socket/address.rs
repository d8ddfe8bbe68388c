//! Addresses of sockets and their peers, in the notation of the settings.

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};

/// The local address of a socket, or the address of its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    /// The path, an abstract name as `@name`, or `None` for a socket without a name (most clients).
    Unix(Option<PathBuf>),
}

impl Address {
    /// Converts an address of the kernel. Returns `None` for families other than TCP and Unix.
    pub(super) fn from_kernel(address: SocketAddrAny) -> Option<Self> {
        match address.address_family() {
            AddressFamily::INET | AddressFamily::INET6 => {
                SocketAddr::try_from(address).ok().map(Self::Tcp)
            }
            AddressFamily::UNIX => SocketAddrUnix::try_from(address)
                .ok()
                .map(|unix| Self::Unix(name(&unix))),
            _ => None,
        }
    }
}

fn name(address: &SocketAddrUnix) -> Option<PathBuf> {
    if let Some(path) = address.path_bytes() {
        return Some(PathBuf::from(OsStr::from_bytes(path)));
    }
    // the kernel reports a socket without a name as one with an empty name
    let name = address.abstract_name().filter(|name| !name.is_empty())?;
    Some(PathBuf::from(format!("@{}", String::from_utf8_lossy(name))))
}

/// Formats as `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/app.sock`, `unix:@name`, or `unix:`
/// without a name.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(address: SocketAddrUnix) -> String {
        Address::from_kernel(address.into()).unwrap().to_string()
    }

    #[test]
    fn addresses_are_written_as_in_the_settings() {
        assert_eq!(
            Address::Tcp("127.0.0.1:8080".parse().unwrap()).to_string(),
            "127.0.0.1:8080"
        );
        assert_eq!(
            Address::Tcp("[::1]:8080".parse().unwrap()).to_string(),
            "[::1]:8080"
        );
        assert_eq!(
            unix(SocketAddrUnix::new("/run/app.sock").unwrap()),
            "unix:/run/app.sock"
        );
        assert_eq!(
            unix(SocketAddrUnix::new_abstract_name(b"app").unwrap()),
            "unix:@app"
        );
        assert_eq!(unix(SocketAddrUnix::new_unnamed()), "unix:");
    }
}
