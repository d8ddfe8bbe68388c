//! An HTTP/1 answer as it was received.

use crate::tally::Failure;

/// An answer: its head, and the part of its body that was read so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// The status code.
    pub status: u16,
    /// Headers in the order received. Names keep their case.
    pub headers: Vec<(String, String)>,
    /// The body without chunk framing.
    pub body: Vec<u8>,
}

/// The delimiter of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    Empty,
    /// A length in bytes.
    Length(usize),
    /// Chunks up to the empty one.
    Chunked,
    /// The end of the connection.
    UntilClose,
}

impl Answer {
    /// Parses a head, without the empty line that ends it.
    ///
    /// # Errors
    ///
    /// [`Failure::Malformed`] if the bytes are not an HTTP/1 head.
    pub fn parse(head: &[u8]) -> Result<Self, Failure> {
        let text = std::str::from_utf8(head).map_err(|_| Failure::Malformed)?;
        let mut lines = text.split("\r\n");
        let mut first = lines.next().unwrap_or_default().splitn(3, ' ');
        let version = first
            .next()
            .filter(|version| version.starts_with("HTTP/1."))
            .ok_or(Failure::Malformed)?;
        let status = first
            .next()
            .and_then(|code| code.parse().ok())
            .ok_or(Failure::Malformed)?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':').ok_or(Failure::Malformed)?;
            Ok((name.to_owned(), value.trim().to_owned()))
        };
        let headers = lines.map(header).collect::<Result<_, _>>()?;
        Ok(Answer {
            version: version.to_owned(),
            status,
            headers,
            body: Vec::new(),
        })
    }

    /// Returns the first value of a header. The case of `name` does not matter.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Returns the body as text; invalid UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Parses the body as JSON; returns null if it is not JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns true if the server announced that it closes the connection after this answer.
    #[must_use]
    pub fn closes(&self) -> bool {
        match self.header("connection") {
            Some(value) if value.eq_ignore_ascii_case("close") => true,
            Some(value) if value.eq_ignore_ascii_case("keep-alive") => false,
            _ => self.version == "HTTP/1.0",
        }
    }

    /// Returns true if the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the delimiter of the body. Do not call this for an answer to HEAD.
    ///
    /// # Errors
    ///
    /// [`Failure::Malformed`] if the length is not a number, or if both a length and chunked encoding are given.
    pub fn framing(&self) -> Result<Framing, Failure> {
        let chunked = self
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        match (self.status, self.header("content-length")) {
            (100..=199 | 204 | 304, _) => Ok(Framing::Empty),
            (_, Some(_)) if chunked => Err(Failure::Malformed),
            (_, Some(length)) => length
                .parse()
                .map(Framing::Length)
                .map_err(|_| Failure::Malformed),
            (_, None) if chunked => Ok(Framing::Chunked),
            (_, None) => Ok(Framing::UntilClose),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_parsed_with_its_framing() {
        let answer =
            Answer::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Close").unwrap();
        assert_eq!(
            (answer.status, answer.framing(), answer.closes()),
            (200, Ok(Framing::Length(5)), true)
        );
        let old = Answer::parse(b"HTTP/1.0 204 No Content").unwrap();
        assert_eq!((old.framing(), old.closes()), (Ok(Framing::Empty), true));
    }

    #[test]
    fn bytes_that_are_not_a_head_are_malformed() {
        for head in [
            &b"HTP/1.1 200 OK"[..],
            b"HTTP/1.1 abc",
            b"HTTP/1.1 200 OK\r\nno colon",
            b"\xff",
        ] {
            assert_eq!(Answer::parse(head), Err(Failure::Malformed));
        }
        let both =
            Answer::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked")
                .unwrap();
        assert_eq!(both.framing(), Err(Failure::Malformed));
    }
}
