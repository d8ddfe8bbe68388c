//! What more than one topic needs.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use slackwater_tests::addr::Addr;
use slackwater_tests::conn::Conn;
use slackwater_tests::lineage::Lineage;

/// A listener that the test holds for a process under test, and where it is.
pub(crate) fn held_socket() -> (TcpListener, Addr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().into();
    (listener, addr)
}

/// Milliseconds, short.
pub(crate) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// How long it took, beside what it gave.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let value = work();
    (begun.elapsed(), value)
}

/// The pid of the process that answers on a connection.
pub(crate) fn pid_on(conn: &mut Conn) -> u32 {
    let answer = conn
        .ask("/pid")
        .unwrap_or_else(|failure| panic!("no pid: {failure:?}"));
    answer
        .text()
        .parse()
        .unwrap_or_else(|_| panic!("no pid: {answer:?}"))
}

/// The pid of the process that answers on a new connection.
pub(crate) fn pid_of_server(lineage: &Lineage) -> u32 {
    lineage
        .get("/pid")
        .parse()
        .unwrap_or_else(|_| panic!("no pid; the output:\n{}", lineage.log()))
}

/// A port that was free a moment ago: some tools bind by themselves, and cannot say what they got.
pub(crate) fn free_addr() -> Addr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .into()
}
