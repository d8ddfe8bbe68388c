//! The access log: a line for each request that was answered, or whose client was gone before, at level info under the target `access`.

use std::fmt;
use std::time::{Duration, Instant};

use hyper::header::{REFERER, USER_AGENT};
use hyper::{Request, StatusCode};

use super::log::is_for_people;
use super::CLIENT_GONE;

/// A request and its answer.
#[derive(Clone, Copy, Debug)]
struct Access<'a> {
    /// Who asked: `127.0.0.1:53211`, or `unix:`.
    peer: &'a str,
    method: &'a str,
    /// Path and query, as they were sent.
    target: &'a str,
    /// `HTTP/1.1`.
    version: hyper::Version,
    status: u16,
    /// The length of the body that was sent.
    bytes: u64,
    /// From the request's head to the last byte of its answer.
    took: Duration,
    referer: Option<&'a str>,
    user_agent: Option<&'a str>,
}

/// The owned form of it, filled as the answer comes about.
#[derive(Debug)]
pub(crate) struct Entry {
    peer: String,
    method: hyper::Method,
    uri: hyper::Uri,
    version: hyper::Version,
    referer: Option<String>,
    user_agent: Option<String>,
    began: Instant,
    status: u16,
    bytes: u64,
}

impl Entry {
    /// A request has come.
    pub(crate) fn new<B>(peer: &str, request: &Request<B>) -> Self {
        let header = |name| {
            request
                .headers()
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into())
        };
        Entry {
            peer: peer.to_owned(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            referer: header(REFERER),
            user_agent: header(USER_AGENT),
            began: Instant::now(),
            status: CLIENT_GONE,
            bytes: 0,
        }
    }

    /// Its answer is known.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    /// So many bytes of the answer's body are on their way.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// The last byte is; or the client is gone.
    pub(crate) fn log(self) {
        access(&Access {
            peer: &self.peer,
            method: self.method.as_str(),
            target: self
                .uri
                .path_and_query()
                .map_or("*", |target| target.as_str()),
            version: self.version,
            status: self.status,
            bytes: self.bytes,
            took: self.began.elapsed(),
            referer: self.referer.as_deref(),
            user_agent: self.user_agent.as_deref(),
        });
    }
}

/// Logs an answer. People get nginx's combined line with the time that was taken, programs a member for each part.
fn access(access: &Access<'_>) {
    if is_for_people() {
        log::info!(target: "access", "{access}");
        return;
    }
    log::info!(
        target: "access",
        peer = access.peer,
        method = access.method,
        path = access.target,
        version:? = access.version,
        status = access.status,
        bytes = access.bytes,
        duration_ms = millis(access.took),
        referer = access.referer,
        user_agent = access.user_agent;
        "{} {} {}", access.method, access.target, access.status
    );
}

/// With microseconds, and no more digits than those.
fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// The parts that a client chose are quoted and escaped: none of them can end the line or steer a terminal.
impl fmt::Display for Access<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Access {
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
        for text in [self.referer, self.user_agent] {
            write!(f, " {:?}", text.unwrap_or("-"))?;
        }
        write!(f, " {:.3}ms", millis(self.took))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_people_is_nginx_combined_and_cannot_be_forged() {
        let access = Access {
            peer: "127.0.0.1:53211",
            method: "GET",
            target: "/a?b=\u{1b}[2J",
            version: hyper::Version::HTTP_11,
            status: 200,
            bytes: 13,
            took: Duration::from_micros(1234),
            referer: None,
            user_agent: Some("curl\n\"8\""),
        };
        assert_eq!(
            access.to_string(),
            r#"127.0.0.1:53211 "GET /a?b=\u{1b}[2J HTTP/1.1" 200 13 "-" "curl\n\"8\"" 1.234ms"#
        );
    }
}
