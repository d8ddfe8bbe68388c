//! The access log: a line for each request that was answered, at level info under the target `access`.

use std::fmt;
use std::time::Duration;

use super::log::is_for_people;

/// A request and its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access<'a> {
    /// Who asked: `127.0.0.1:53211`, or `unix:`.
    pub(crate) peer: &'a str,
    pub(crate) method: &'a str,
    /// Path and query, as they were sent.
    pub(crate) target: &'a str,
    /// `HTTP/1.1`.
    pub(crate) version: hyper::Version,
    pub(crate) status: u16,
    /// The length of the body that was sent.
    pub(crate) bytes: u64,
    /// From the request's head to the last byte of its answer.
    pub(crate) took: Duration,
    pub(crate) referer: Option<&'a str>,
    pub(crate) user_agent: Option<&'a str>,
}

/// Logs an answer. People get nginx's combined line with the time that was taken, programs a member for each part.
pub(crate) fn access(access: &Access<'_>) {
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
        let Access { peer, method, target, version, status, bytes, .. } = self;
        write!(f, "{peer} \"{method} {} {version:?}\" {status} {bytes}", target.escape_debug())?;
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
