//! A small server that fails on demand, in each way the harness has to recognise. Only the harness's own tests use it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::addr::Addr;
use crate::wait;

/// A server in threads of this process. `Drop` ends it. The path of a request selects its behaviour:
/// `/`, `/chunks`, `/until-close`, `/close`, `/gone`, `/cut`, `/cut-chunk`, `/reset`, `/silent`, `/malformed`,
/// `/once` (answers, then closes without announcing it), and `/503` or any other status code.
#[derive(Debug)]
pub struct FaultyServer {
    addr: Addr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FaultyServer {
    /// Starts a server on a free loopback port.
    ///
    /// # Panics
    ///
    /// Panics if no port is free.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener
            .local_addr()
            .expect("a bound listener has an address");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            for stream in listener
                .incoming()
                .take_while(|_| !stopped.load(Ordering::Acquire))
                .flatten()
            {
                thread::spawn(move || serve(&stream));
            }
        });
        FaultyServer {
            addr: addr.into(),
            stop,
            thread: Some(thread),
        }
    }

    /// Returns the address it listens on.
    #[must_use]
    pub fn addr(&self) -> Addr {
        self.addr.clone()
    }
}

impl Drop for FaultyServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Addr::Tcp(addr) = self.addr {
            // wakes the accepting thread, which then ends
            let _ = TcpStream::connect(addr);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: &TcpStream) {
    let mut lines = BufReader::new(stream);
    while let Some(path) = next_path(&mut lines) {
        let mut out = stream;
        let written = match path.as_str() {
            "/" => out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfaulty"),
            "/chunks" => out.write_all(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none \r\n9\r\ntwo three\r\n0\r\n\r\n",
            ),
            "/silent" => {
                // longer than the timeouts in the harness's tests
                thread::sleep(Duration::from_secs(1));
                return;
            }
            path => return last(stream, path),
        };
        if written.is_err() {
            return;
        }
    }
}

/// Sends the answers after which the connection ends.
fn last(mut stream: &TcpStream, path: &str) {
    let text = match path {
        "/close" => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".into(),
        "/once" => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into(),
        "/until-close" => "HTTP/1.1 200 OK\r\n\r\nall of it".into(),
        "/cut" => "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhal".into(),
        "/cut-chunk" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\non".into(),
        "/malformed" => "220 mail.example ESMTP\r\n\r\n".into(),
        "/gone" => String::new(),
        "/reset" => {
            // with this option the kernel resets the connection when it is closed
            let _ = set_socket_linger(stream, Some(Duration::ZERO));
            String::new()
        }
        status => format!(
            "HTTP/1.1 {} Status\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            status.trim_start_matches('/')
        ),
    };
    let _ = stream.write_all(text.as_bytes());
}

fn next_path(lines: &mut impl BufRead) -> Option<String> {
    let mut path = None;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match (line.trim_end(), &path) {
            ("", Some(_)) => return path,
            ("", None) | (_, Some(_)) => {}
            (first, None) => path = first.split(' ').nth(1).map(str::to_owned),
        }
    }
}

/// Waits up to five seconds until `probe` returns true.
pub fn soon(what: &str, mut probe: impl FnMut() -> bool) {
    wait::until(Duration::from_secs(5), what, || probe().then_some(()));
}
