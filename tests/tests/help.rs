//! Functions that several test modules use.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use slackwater_tests::addr::Addr;
use slackwater_tests::conn::Conn;
use slackwater_tests::process_chain::ProcessChain;

/// Opens a listener for a process under test. Returns it with its address.
pub(crate) fn held_socket() -> (TcpListener, Addr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().into();
    (listener, addr)
}

/// Returns a duration of `count` milliseconds.
pub(crate) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Runs `work` and returns its duration and its result.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let value = work();
    (begun.elapsed(), value)
}

/// Returns the pid of the process that answers on a connection.
pub(crate) fn pid_on(conn: &mut Conn) -> u32 {
    let answer = conn
        .fetch("/pid")
        .unwrap_or_else(|failure| panic!("no pid: {failure:?}"));
    answer
        .text()
        .parse()
        .unwrap_or_else(|_| panic!("no pid: {answer:?}"))
}

/// Returns the pid of the process that answers on a new connection.
pub(crate) fn pid_of_server(chain: &ProcessChain) -> u32 {
    chain
        .get("/pid")
        .parse()
        .unwrap_or_else(|_| panic!("no pid; the output:\n{}", chain.log()))
}

/// Returns an address whose port was free a moment ago, for tools that bind themselves and do not report their port.
pub(crate) fn free_addr() -> Addr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .into()
}
