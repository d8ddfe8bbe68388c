//! A server of a few lines that fails in every way on demand: what the harness itself is tried on.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::addr::Addr;
use crate::wait;

/// A server in threads of this process; ends in `Drop`. What a path does is in its name:
/// `/`, `/chunks`, `/until-close`, `/close`, `/gone`, `/cut`, `/cut-chunk`, `/reset`, `/silent`, `/malformed`,
/// `/once` (answers, then closes without saying so), and `/503` or any other number.
#[derive(Debug)]
pub struct StandIn {
    addr: Addr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    /// Starts it on a free port of the loopback.
    ///
    /// # Panics
    ///
    /// When it cannot.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener
            .local_addr()
            .expect("a bound listener has an address");
        let stop = Arc::new(AtomicBool::new(false));
        let heard = stop.clone();
        let thread = thread::spawn(move || {
            for stream in listener
                .incoming()
                .take_while(|_| !heard.load(Ordering::Acquire))
                .flatten()
            {
                thread::spawn(move || serve(stream));
            }
        });
        StandIn {
            addr: addr.into(),
            stop,
            thread: Some(thread),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> Addr {
        self.addr.clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Addr::Tcp(addr) = self.addr {
            // wakes the accepting thread, which then sees that it is over
            let _ = TcpStream::connect(addr);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream) {
    let mut lines = BufReader::new(&stream);
    while let Some(path) = next_path(&mut lines) {
        let mut out = &stream;
        let written = match path.as_str() {
            "/" => out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nstand-in"),
            "/chunks" => out.write_all(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none \r\n9\r\ntwo three\r\n0\r\n\r\n",
            ),
            "/silent" => {
                // as long as the most patient test of the harness
                thread::sleep(Duration::from_secs(1));
                return;
            }
            path => return last(&stream, path),
        };
        if written.is_err() {
            return;
        }
    }
}

/// The answers after which the connection ends, each in its own way.
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
            // the kernel then answers the close with a reset
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
            ("", None) => {}
            (first, None) => path = first.split(' ').nth(1).map(str::to_owned),
            (_, Some(_)) => {}
        }
    }
}

/// Waits a while for `probe` to be true; for the harness' own tests.
pub fn soon(what: &str, mut probe: impl FnMut() -> bool) {
    wait::until(Duration::from_secs(5), what, || probe().then_some(()));
}
