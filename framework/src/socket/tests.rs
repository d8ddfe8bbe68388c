//! Tests of the whole module: inheriting, binding, accepting and closing sockets.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;

use super::*;
use crate::config::Listen;

/// A directory for one test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("slackwater-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tcp(host: &str, port: u16) -> Listen {
    Listen::Tcp {
        host: host.into(),
        port,
    }
}

fn nothing_inherited() -> Sockets {
    Sockets::new(InheritedSockets::default())
}

fn bind(listen: &[Listen]) -> ListenerSet {
    nothing_inherited().acquire(Some(listen), 16, &[]).unwrap()
}

fn refusal(sockets: &Sockets, listen: Option<&[Listen]>, current: &[Arc<Listener>]) -> String {
    let error = sockets.acquire(listen, 16, current).unwrap_err();
    assert!(error.is_socket());
    error.to_string()
}

fn port(listener: &Listener) -> u16 {
    match listener.address() {
        Address::Tcp(address) => address.port(),
        Address::Unix(_) => panic!("not TCP"),
    }
}

fn connect(listener: &Listener) -> TcpStream {
    TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port(listener)))).unwrap()
}

fn passed_tcp() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

fn addresses(acquired: &ListenerSet) -> Vec<String> {
    acquired
        .listeners
        .iter()
        .map(|listener| listener.address().to_string())
        .collect()
}

fn accepted(listener: &Listener) -> (OwnedFd, Address) {
    block_on(listener.readable()).unwrap();
    listener.try_accept().unwrap().unwrap()
}

#[test]
fn a_bound_listener_accepts_and_names_the_peer() {
    let acquired = bind(&[tcp("127.0.0.1", 0)]);
    let listener = &acquired.listeners[0];
    assert_eq!(
        (listener.origin(), listener.name()),
        (ListenerOrigin::Bound, None)
    );
    let client = connect(listener);
    let (socket, peer) = accepted(listener);
    assert_eq!(peer, Address::Tcp(client.local_addr().unwrap()));
    let flags = rustix::fs::fcntl_getfl(&socket).unwrap();
    assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
    let close_on_exec = rustix::io::fcntl_getfd(&socket).unwrap();
    assert!(close_on_exec.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn the_queue_can_be_emptied_without_waiting() {
    let acquired = bind(&[tcp("127.0.0.1", 0)]);
    let listener = &acquired.listeners[0];
    let clients = [connect(listener), connect(listener)];
    assert!(listener.try_accept().unwrap().is_some());
    assert!(listener.try_accept().unwrap().is_some());
    assert!(listener.try_accept().unwrap().is_none());
    drop(clients);
}

#[test]
fn a_connection_that_waited_before_the_process_started_is_accepted() {
    let (socket, address) = passed_tcp();
    let mut client = TcpStream::connect(address).unwrap();
    let sockets = Sockets::new(InheritedSockets::from_parts(vec![(socket, None)]));
    let acquired = sockets.acquire(None, 16, &[]).unwrap();
    drop(accepted(&acquired.listeners[0]));
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn an_inherited_backlog_of_one_is_raised_and_the_socket_made_non_blocking() {
    let (socket, address) = passed_tcp();
    rustix::net::listen(&socket, 1).unwrap();
    let sockets = Sockets::new(InheritedSockets::from_parts(vec![(socket, None)]));
    let acquired = sockets.acquire(None, 64, &[]).unwrap();
    let clients: Vec<_> = (0..20)
        .map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(500)).unwrap())
        .collect();
    for _ in &clients {
        assert!(acquired.listeners[0].try_accept().unwrap().is_some());
    }
    assert!(acquired.listeners[0].try_accept().unwrap().is_none());
}

#[test]
fn inherited_sockets_replace_every_address_and_stay_the_same_after_a_reload() {
    let ((one, first), (two, second)) = (passed_tcp(), passed_tcp());
    let sockets = Sockets::new(InheritedSockets::from_parts(vec![
        (one, None),
        (two, Some("admin")),
    ]));
    let listen = [tcp("0.0.0.0", 80), Listen::Unix("/run/app.sock".into())];
    let start = sockets.acquire(Some(&listen), 16, &[]).unwrap();
    assert_eq!(addresses(&start), [first.to_string(), second.to_string()]);
    assert_eq!(
        start.notes,
        ["using the sockets passed to this process instead of binding 0.0.0.0:80, unix:/run/app.sock"]
    );
    let reload = sockets.acquire(None, 16, &start.listeners).unwrap();
    assert!(start
        .listeners
        .iter()
        .zip(&reload.listeners)
        .all(|(a, b)| Arc::ptr_eq(a, b)));
    assert_eq!(reload.listeners[1].origin(), ListenerOrigin::Inherited);
}

#[test]
fn a_name_selects_all_sockets_with_that_name_and_no_others() {
    let sockets: Vec<_> = (0..3).map(|_| passed_tcp()).collect();
    let wanted: Vec<_> = [1, 2]
        .map(|index: usize| sockets[index].1.to_string())
        .into();
    let unused = sockets[0].1;
    let names = ["other", "web", "web"];
    let parts = sockets
        .into_iter()
        .zip(names)
        .map(|((socket, _), name)| (socket, Some(name)))
        .collect();
    let sockets = Sockets::new(InheritedSockets::from_parts(parts));
    let acquired = sockets
        .acquire(Some(&[Listen::Fd("web".into())]), 16, &[])
        .unwrap();
    assert_eq!(addresses(&acquired), wanted);
    assert_eq!(acquired.listeners[0].name(), Some("web"));
    let note = format!(
        "the inherited socket {unused} (other) is not used: no fd:NAME entry of listen has its name"
    );
    assert_eq!(acquired.notes, [note]);
    let again = sockets
        .acquire(Some(&[Listen::Fd("web".into())]), 16, &acquired.listeners)
        .unwrap();
    assert!(again.notes.is_empty());
}

#[test]
fn an_unknown_name_is_refused_with_a_list_of_the_known_names() {
    let listen = [Listen::Fd("web".into())];
    let (socket, _) = passed_tcp();
    let sockets = Sockets::new(InheritedSockets::from_parts(vec![(socket, Some("admin"))]));
    assert_eq!(
        refusal(&sockets, Some(&listen), &[]),
        "listen = \"fd:web\": no socket of this name was passed; the passed names are admin"
    );
    assert_eq!(
        refusal(&nothing_inherited(), Some(&listen), &[]),
        "listen = \"fd:web\": no socket was passed to this process (LISTEN_FDS is not set)"
    );
}

#[expect(
    clippy::mem_forget,
    reason = "the peer stays open for the rest of the process"
)]
#[test]
fn an_unusable_descriptor_is_an_error_only_if_listen_names_it() {
    let wrong = || {
        let (one, two) = UnixStream::pair().unwrap();
        std::mem::forget(two);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let packets = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        );
        let file = std::fs::File::open("/dev/null").unwrap();
        vec![
            (udp.into(), Some("dns")),
            (one.into(), Some("connection")),
            (packets.unwrap().0, None),
            (file.into(), Some("null")),
        ]
    };
    let sockets = Sockets::new(InheritedSockets::from_parts(wrong()));
    assert_eq!(
        refusal(&sockets, None, &[]),
        "listen is unset, and none of the sockets passed to this process can be used: descriptor 3 is a datagram socket (dns), \
         descriptor 4 is a connection, not a listening socket (Accept=yes in its socket unit?) (connection), \
         descriptor 5 is a SEQPACKET socket, descriptor 6 is not a socket (null)"
    );
    assert_eq!(
        refusal(&sockets, Some(&[Listen::Fd("dns".into())]), &[]),
        "listen = \"fd:dns\": descriptor 3 is a datagram socket (dns)"
    );
    let bound = sockets
        .acquire(Some(&[tcp("127.0.0.1", 0)]), 16, &[])
        .unwrap();
    assert_eq!((bound.listeners.len(), bound.notes.len()), (1, 4));
    assert_eq!(
        bound.notes[0],
        "ignoring an inherited descriptor: descriptor 3 is a datagram socket (dns)"
    );
}

#[test]
fn a_taken_port_is_refused_and_nothing_stays_bound() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let directory = Directory::new("taken");
    let path = directory.path("app.sock");
    let listen = [
        Listen::Unix(path.clone()),
        tcp("127.0.0.1", port),
        tcp("192.0.2.1", 8080),
    ];
    assert_eq!(
        refusal(&nothing_inherited(), Some(&listen), &[]),
        format!(
            "listen = \"127.0.0.1:{port}\": the address is in use; another process listens there \
             (ss -ltnp 'sport = :{port}' shows which)\n\
             listen = \"192.0.2.1:8080\": no network interface of this machine has the address 192.0.2.1 \
             (ip address shows them)"
        )
    );
    assert!(!path.exists());
}

#[test]
fn a_reload_keeps_equal_entries_and_binds_the_rest() {
    let sockets = nothing_inherited();
    let start = sockets
        .acquire(Some(&[tcp("127.0.0.1", 0)]), 16, &[])
        .unwrap();
    let listen = [
        tcp("127.0.0.1", 0),
        tcp("127.0.0.1", 0),
        tcp("localhost", 0),
    ];
    let reload = sockets
        .acquire(Some(&listen), 16, &start.listeners)
        .unwrap();
    assert!(Arc::ptr_eq(&start.listeners[0], &reload.listeners[0]));
    let mut ports: Vec<_> = reload
        .listeners
        .iter()
        .map(|listener| port(listener))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 3);
}

#[test]
fn a_conflict_with_an_address_of_this_process_has_an_error_of_its_own() {
    let sockets = nothing_inherited();
    let start = sockets
        .acquire(Some(&[tcp("127.0.0.1", 0)]), 16, &[])
        .unwrap();
    let port = port(&start.listeners[0]);
    assert_eq!(
        refusal(&sockets, Some(&[tcp("0.0.0.0", port)]), &start.listeners),
        format!(
            "listen = \"0.0.0.0:{port}\": the address is in use: this process itself listens on 127.0.0.1:{port}, \
             and both cannot be open at once; restart the process, or change the port"
        )
    );
}

#[test]
fn the_unspecified_ipv6_address_accepts_ipv4_as_well() {
    let sockets = nothing_inherited();
    let Ok(start) = sockets.acquire(Some(&[tcp("[::]", 0)]), 16, &[]) else {
        return;
    };
    let listener = &start.listeners[0];
    let _client = connect(listener);
    assert!(listener.try_accept().unwrap().is_some());
    let both = refusal(
        &sockets,
        Some(&[tcp("0.0.0.0", port(listener))]),
        &start.listeners,
    );
    assert!(
        both.contains("[::] accepts IPv4 as well: one entry is enough for both"),
        "{both}"
    );
}

#[test]
fn a_stale_socket_file_is_replaced_and_removed_at_the_end() {
    let directory = Directory::new("stale");
    let path = directory.path("app.sock");
    drop(UnixListener::bind(&path).unwrap());
    let acquired = bind(&[Listen::Unix(path.clone())]);
    let listener = &acquired.listeners[0];
    assert_eq!(
        listener.address().to_string(),
        format!("unix:{}", path.display())
    );
    let _client = UnixStream::connect(&path).unwrap();
    assert_eq!(accepted(listener).1, Address::Unix(None));
    listener.close();
    assert!(!path.exists());
}

#[test]
fn a_path_that_another_process_has_bound_is_not_removed() {
    let directory = Directory::new("replaced");
    let path = directory.path("app.sock");
    let first = bind(&[Listen::Unix(path.clone())]);
    std::fs::remove_file(&path).unwrap();
    let _successor = UnixListener::bind(&path).unwrap();
    first.listeners[0].close();
    assert!(path.exists());
}

#[test]
fn a_path_that_was_disowned_or_inherited_is_not_removed() {
    let directory = Directory::new("disowned");
    let (own, passed) = (directory.path("own.sock"), directory.path("passed.sock"));
    let bound = bind(&[Listen::Unix(own.clone())]);
    bound.listeners[0].disown();
    bound.listeners[0].close();
    let socket = UnixListener::bind(&passed).unwrap();
    let sockets = Sockets::new(InheritedSockets::from_parts(vec![(socket.into(), None)]));
    sockets.acquire(None, 16, &[]).unwrap().listeners[0].close();
    assert!(own.exists() && passed.exists());
}

#[test]
fn a_path_that_cannot_be_bound_is_refused_with_the_reason() {
    let directory = Directory::new("in-use");
    let (live, file) = (directory.path("live.sock"), directory.path("file"));
    let missing = directory.path("missing/app.sock");
    let _holder = UnixListener::bind(&live).unwrap();
    std::fs::write(&file, "").unwrap();
    let listen = [live.clone(), file.clone(), missing.clone()].map(Listen::Unix);
    let lines = refusal(&nothing_inherited(), Some(&listen), &[]);
    let expected = [
        format!(
            "listen = \"unix:{}\": the address is in use; another process listens there (ss -lxp shows which)",
            live.display()
        ),
        format!(
            "listen = \"unix:{}\": a file that is not a socket is at this path; remove it, or choose another path",
            file.display()
        ),
        format!(
            "listen = \"unix:{}\": the directory {} does not exist",
            missing.display(),
            missing.parent().unwrap().display()
        ),
    ];
    assert_eq!(lines, expected.join("\n"));
    assert!(live.exists() && file.exists());
}

#[test]
fn a_path_longer_than_a_socket_address_is_refused() {
    let path = PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
    let line = refusal(&nothing_inherited(), Some(&[Listen::Unix(path)]), &[]);
    assert!(
        line.ends_with("the path is too long: the path of a socket may have at most 107 bytes"),
        "{line}"
    );
}
