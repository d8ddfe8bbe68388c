//! Reads from the kernel how many sent bytes the peer of a TCP connection has not acknowledged yet.
//!
//! ioctl(SIOCOUTQ) returns this number, but no crate offers that call without `unsafe`. sock_diag(7) returns the same
//! number in answer to a netlink message that names the socket by its addresses and its cookie.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::sockopt::socket_cookie;
use rustix::net::{
    getpeername, getsockname, netlink, recv, send, socket_with, AddressFamily, RecvFlags,
    SendFlags, SocketFlags, SocketType,
};

/// linux/netlink.h and linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;

/// The header of a netlink message, and the request that follows it (`struct inet_diag_req_v2`).
const HEADER: usize = 16;
const REQUEST: usize = 56;

/// Where `struct inet_diag_msg` of an answer holds the state and the length of the send queue.
const STATE: usize = HEADER + 1;
const SEND_QUEUE: usize = HEADER + 60;

/// The states in which the FIN is in the send queue, where it counts as one byte (include/net/tcp_states.h).
const FIN_WAIT_1: u8 = 4;
const LAST_ACK: u8 = 9;
const CLOSING: u8 = 11;

/// Returns how many bytes the peer has not acknowledged.
///
/// Returns 0 if that is unknown: for a Unix socket, which loses nothing when it is closed, for a connection that has
/// ended, and where a sandbox forbids netlink sockets.
pub(crate) fn unacknowledged(socket: impl AsFd) -> u32 {
    ask(&socket).ok().flatten().unwrap_or_default()
}

fn ask(socket: &impl AsFd) -> Result<Option<u32>, Errno> {
    let Some(peer) = getpeername(socket)? else {
        return Ok(None);
    };
    let local = SocketAddr::try_from(getsockname(socket)?)?;
    let request = request(local, SocketAddr::try_from(peer)?, socket_cookie(socket)?);
    let netlink = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(netlink::SOCK_DIAG),
    )?;
    // the kernel answers before send(2) returns
    send(&netlink, &request, SendFlags::empty())?;
    let mut answer = [0; 1024];
    let (length, _) = recv(&netlink, &mut answer[..], RecvFlags::DONTWAIT)?;
    Ok(send_queue(&answer[..length]))
}

fn request(local: SocketAddr, peer: SocketAddr, cookie: u64) -> Vec<u8> {
    let family = match local {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let scope = match local {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(local) => local.scope_id(),
    };
    let mut request = Vec::with_capacity(HEADER + REQUEST);
    request.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    // sequence number and port: the socket is used once
    request.extend([0; 8]);
    request.extend([family.as_raw() as u8, IPPROTO_TCP, 0, 0]);
    // a socket in any state
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(local.port().to_be_bytes());
    request.extend(peer.port().to_be_bytes());
    request.extend(octets(local.ip()));
    request.extend(octets(peer.ip()));
    request.extend(scope.to_ne_bytes());
    // the cookie is two words, the low one first
    request.extend((cookie as u32).to_ne_bytes());
    request.extend(((cookie >> 32) as u32).to_ne_bytes());
    request
}

fn octets(address: IpAddr) -> [u8; 16] {
    let mut octets = [0; 16];
    match address {
        IpAddr::V4(address) => octets[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => octets = address.octets(),
    }
    octets
}

fn send_queue(answer: &[u8]) -> Option<u32> {
    let kind = answer.get(4..6)?.try_into().ok()?;
    if u16::from_ne_bytes(kind) != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let bytes = answer.get(SEND_QUEUE..SEND_QUEUE + 4)?.try_into().ok()?;
    let fin = matches!(*answer.get(STATE)?, FIN_WAIT_1 | LAST_ACK | CLOSING);
    Some(u32::from_ne_bytes(bytes).saturating_sub(u32::from(fin)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    /// Sends until the client's window is full, then has the client take everything.
    fn counts_what_the_client_has_not_taken(listen: &str) {
        let listener = TcpListener::bind(listen).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        assert_eq!(unacknowledged(&server), 0, "nothing is sent");
        server.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(bytes) = server.write(&[0; 64 << 10]) {
            sent += bytes;
        }
        server.shutdown(Shutdown::Write).unwrap();
        let before = unacknowledged(&server);
        assert!(0 < before && before as usize <= sent, "{before} of {sent}");
        client.read_exact(&mut vec![0; sent]).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        // the kernel of the client acknowledges the FIN a moment after it delivers it
        while unacknowledged(&server) > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn bytes_that_an_ipv4_client_has_not_taken_are_counted() {
        counts_what_the_client_has_not_taken("127.0.0.1:0");
    }

    #[test]
    fn bytes_that_an_ipv6_client_has_not_taken_are_counted() {
        counts_what_the_client_has_not_taken("[::1]:0");
    }

    #[test]
    fn a_unix_socket_has_no_count() {
        let (mut ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.write_all(b"not read").unwrap();
        assert_eq!(unacknowledged(&ours), 0);
    }

    #[test]
    fn an_answer_that_is_cut_short_or_an_error_has_no_count() {
        let mut answer = vec![0; SEND_QUEUE + 4];
        assert_eq!(send_queue(&answer), None, "NLMSG_ERROR or worse");
        answer[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        answer[STATE] = FIN_WAIT_1;
        answer[SEND_QUEUE..].copy_from_slice(&7_u32.to_ne_bytes());
        assert_eq!(send_queue(&answer), Some(6));
        for length in 0..answer.len() {
            assert_eq!(send_queue(&answer[..length]), None, "{length}");
        }
    }
}
