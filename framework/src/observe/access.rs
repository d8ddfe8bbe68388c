//! The access log: one line for each request, at level info and with the target `access`. A request
//! is logged when its response has been sent or its client has disconnected.

use std::fmt;
use std::time::{Duration, Instant};

use hyper::header::{REFERER, USER_AGENT};
use hyper::{Request, StatusCode};

use super::log::is_pretty;
use super::CLIENT_GONE;

/// The fields of a log line.
#[derive(Clone, Copy, Debug)]
struct AccessLine<'a> {
    /// The address of the client: `127.0.0.1:53211`, or `unix:`.
    peer: &'a str,
    method: &'a str,
    /// Path and query, as received.
    target: &'a str,
    /// Formatted as `HTTP/1.1`.
    version: hyper::Version,
    status: u16,
    /// Bytes of the response body that were sent.
    bytes: u64,
    /// The time from the end of the request head to the last byte of the response.
    duration: Duration,
    referer: Option<&'a str>,
    user_agent: Option<&'a str>,
}

/// A request whose response is in progress.
#[derive(Debug)]
pub(crate) struct AccessEntry {
    peer: String,
    method: hyper::Method,
    uri: hyper::Uri,
    version: hyper::Version,
    referer: Option<String>,
    user_agent: Option<String>,
    started: Instant,
    status: u16,
    bytes: u64,
}

impl AccessEntry {
    /// Starts the entry of a request.
    pub(crate) fn new<B>(peer: &str, request: &Request<B>) -> Self {
        let header = |name| {
            request
                .headers()
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into())
        };
        AccessEntry {
            peer: peer.to_owned(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            referer: header(REFERER),
            user_agent: header(USER_AGENT),
            started: Instant::now(),
            status: CLIENT_GONE,
            bytes: 0,
        }
    }

    /// Sets the status of the response.
    pub(crate) fn set_status(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    /// Adds bytes of the response body.
    pub(crate) fn add_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Logs the request: the response has been sent, or the client has disconnected.
    pub(crate) fn log(self) {
        log_line(&AccessLine {
            peer: &self.peer,
            method: self.method.as_str(),
            target: self
                .uri
                .path_and_query()
                .map_or("*", |target| target.as_str()),
            version: self.version,
            status: self.status,
            bytes: self.bytes,
            duration: self.started.elapsed(),
            referer: self.referer.as_deref(),
            user_agent: self.user_agent.as_deref(),
        });
    }
}

/// Logs a request. The pretty format is the combined format of nginx plus the duration; the JSON
/// format has one member for each field.
fn log_line(line: &AccessLine<'_>) {
    if is_pretty() {
        log::info!(target: "access", "{line}");
        return;
    }
    log::info!(
        target: "access",
        peer = line.peer,
        method = line.method,
        path = line.target,
        version:? = line.version,
        status = line.status,
        bytes = line.bytes,
        duration_ms = millis(line.duration),
        referer = line.referer,
        user_agent = line.user_agent;
        "{} {} {}", line.method, line.target, line.status
    );
}

/// Milliseconds with three decimals.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Quotes and escapes the parts that the client chose, so that they cannot end the line or control
/// a terminal.
impl fmt::Display for AccessLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AccessLine {
            peer,
            method,
            target,
            version,
            status,
            bytes,
            ..
        } = self;
        write!(
            f,
            "{peer} \"{method} {} {version:?}\" {status} {bytes}",
            target.escape_debug()
        )?;
        for header in [self.referer, self.user_agent] {
            write!(f, " {:?}", header.unwrap_or("-"))?;
        }
        write!(f, " {:.3}ms", millis(self.duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pretty_line_has_the_combined_format_and_cannot_be_forged() {
        let line = AccessLine {
            peer: "127.0.0.1:53211",
            method: "GET",
            target: "/a?b=\u{1b}[2J",
            version: hyper::Version::HTTP_11,
            status: 200,
            bytes: 13,
            duration: Duration::from_micros(1234),
            referer: None,
            user_agent: Some("curl\n\"8\""),
        };
        assert_eq!(
            line.to_string(),
            r#"127.0.0.1:53211 "GET /a?b=\u{1b}[2J HTTP/1.1" 200 13 "-" "curl\n\"8\"" 1.234ms"#
        );
    }
}
